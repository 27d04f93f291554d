"""The repositories that workspaces are made from: one bare cache per address, shared by all attempts on this machine.

Brings a cache up to date, holds it for one attempt at a time, and takes out of it what the work of an attempt may have
left for the next one: settings, hooks, ignore rules and attributes belong to the whole repository, and work can write
them. Its caller is ``sidecar/workspace.py``.
"""

import asyncio
import contextlib
import hashlib
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from secrets import token_hex
from typing import Final

import structlog

from protocol.model import AttemptId
from protocol.removal import remove_tree
from sidecar.errors import BranchMissing, GitFailed, RepositoryMissing
from sidecar.folders import claim, remove_links, write_afresh, write_new
from sidecar.gate import Way
from sidecar.git import Git, is_local

log = structlog.get_logger(__name__)

CONFIG: Final = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"
OWN: Final = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n"
"""Configuration of an attempt's own repository."""
QUIETLY: Final = ("--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance")
"""How commits are fetched on this disk."""
_HEAD: Final = "refs/agentcom/head"
HEADS: Final = "refs/remotes/origin/"
_BRANCHES: Final = "refs/heads/"
MAX_SALVAGED: Final = 50
"""Branches of an attempt that are looked at."""
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SHOWN: Final = 5
BAD_OBJECT: Final = 128
_LASTING: Final = ("--branches", "--remotes", "--tags")
_STALE_LOCK_S: Final = 5.0
"""A ref is locked for milliseconds; a lock this old was left by a git that was killed."""


class Caches:
    """The caches under ``folder``, worked on with ``git``."""

    def __init__(self, folder: Path, git: Git) -> None:
        self._folder, self._git = folder, git
        self._locks: defaultdict[Path, asyncio.Lock] = defaultdict(asyncio.Lock)

    def of(self, address: str) -> Path:
        """Where the cache of an address is, made or not."""
        return self._folder / f"{hashlib.sha256(address.encode()).hexdigest()}.git"

    @contextlib.asynccontextmanager
    async def held(self, cache: Path) -> AsyncIterator[None]:
        """Hold a cache for ourselves: among the tasks of this sidecar, and among the sidecars on this root."""
        async with self._locks[cache]:
            while (fd := claim(cache.with_suffix(".lock"))) is None:  # noqa: ASYNC110 - another process has it
                await asyncio.sleep(0.05)
            try:
                yield
            finally:
                os.close(fd)

    async def update(self, cache: Path, attempt: AttemptId, address: str, branch: str, way: Way | None = None) -> str:
        """Bring a cache that is held up to date; the commit at the tip of ``branch``, or of the default branch.

        Raises:
            RepositoryMissing, RepositoryRefused, RepositoryUnreachable: the repository could not be talked to.
            BranchMissing: it has no such branch.
            GitFailed: git could not.
        """
        await self._make(cache, attempt, address)
        os.utime(cache)  # who was not used for longest makes room for others
        commit = await self._fetch(cache, attempt, address, branch, way)
        await self.prune(cache, attempt)
        if await asyncio.to_thread(_has_branches, cache):
            await self.forget_spare(cache, attempt)
        return commit

    async def forget_spare(self, cache: Path, attempt: AttemptId) -> None:
        """Take away the cache's own branches that the remote has as well, as far as the last fetch has seen.

        The caller holds the cache. Objects stay where they are, so that attempts can read them.

        Raises:
            GitFailed: git could not.
        """
        listed = await self.run(cache, attempt, "for-each-ref", "--format=%(objectname) %(refname)", _BRANCHES)
        walk = ("rev-list", "--simplify-by-decoration", "--branches", "--not", "--remotes", "--tags", "--")
        own = set((await self.run(cache, attempt, *walk)).split()) if listed else set()
        for commit, _, ref in (line.partition(" ") for line in listed.splitlines()):
            if commit not in own:
                await self.run(cache, attempt, "update-ref", "-d", ref, commit)
                branch = ref.removeprefix(_BRANCHES)
                log.info("branch_forgotten", branch=branch, cache=str(cache), why="the remote has it")

    async def take(self, cache: Path, attempt: AttemptId, source: Path, *refs: str) -> None:
        """Take commits of an attempt's own repository, which has been tidied, into a cache that is held.

        Raises:
            GitFailed: git could not: something is missing or broken there.
        """
        await self.run(cache, attempt, "fetch", *QUIETLY, "--end-of-options", str(source), *refs)

    async def salvage(
        self, cache: Path, attempt: AttemptId, git_dir: Path, name: str, known: Collection[str] = ()
    ) -> tuple[str, ...]:
        """Take what an attempt's own repository stands on, and its branches, into a cache that is held.

        It is ``salvage/<name>`` there, and ``salvage/<name>+<branch>``. What a branch or tag in the cache leads to is
        there already, and so are the ``known`` commits.

        Returns:
            What was taken, by the names that it has in the cache.
        Raises:
            GitFailed: git could not.
        """
        kept = []
        for commit, ref, place in await self._stands(attempt, git_dir, name):
            if not await self._has(cache, attempt, commit, known):
                await self.take(cache, attempt, git_dir, f"+{ref}:{_BRANCHES}{place}")
                log.info("branch_salvaged", branch=place, commit=commit, cache=str(cache))
                kept.append(place)
        return tuple(kept)

    async def has_all(self, cache: Path, attempt: AttemptId, git_dir: Path, known: Collection[str]) -> bool:
        """Whether there is nothing that :meth:`salvage` would take.

        Raises:
            GitFailed: git could not.
        """
        commits = {commit for commit, _, _ in await self._stands(attempt, git_dir, "")}
        return all([await self._has(cache, attempt, commit, known) for commit in sorted(commits)])

    async def _stands(self, attempt: AttemptId, git_dir: Path, name: str) -> list[tuple[str, str, str]]:
        """Where an attempt's own repository stands: commit, ref, and the name that it gets in the cache."""
        options = (f"--count={MAX_SALVAGED}", "--format=%(objectname) %(refname)", _BRANCHES)
        listed = (await self.run(git_dir, attempt, "for-each-ref", *options)).splitlines()
        stands = [(await self.commit_of(git_dir, attempt, "HEAD"), "HEAD", f"salvage/{name}")]
        for commit, _, ref in (line.partition(" ") for line in listed):
            stands.append((commit, ref, f"salvage/{name}+{ref.removeprefix(_BRANCHES)}"))
        return [stand for stand in stands if stand[0]]

    async def _has(self, cache: Path, attempt: AttemptId, commit: str, known: Collection[str]) -> bool:
        """Whether a ref of the cache, or a known commit, leads to this one."""
        walk = ("rev-list", "--count", "--max-count=1", commit, "--not", *_LASTING, *known, "--")
        try:
            return (await self.run(cache, attempt, *walk)).strip() == "0"
        except GitFailed as exc:
            if exc.exit_code == BAD_OBJECT:
                return False
            raise

    async def prune(self, home: Path, attempt: AttemptId) -> None:
        """Forget worktrees whose directory is gone."""
        await self.run(home, attempt, "worktree", "prune", "--expire=now")

    async def commit_of(self, git_dir: Path, attempt: AttemptId, ref: str) -> str:
        """The commit that ``ref`` means, empty if none."""
        command = (f"--git-dir={git_dir}", "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
        try:
            return (await self._git.run(*command, attempt=attempt, cwd=git_dir)).strip()
        except GitFailed as exc:
            if exc.exit_code == 1:
                return ""
            raise

    async def run(self, home: Path, attempt: AttemptId, *arguments: str) -> str:
        """What a git command on a repository without a working directory said."""
        return await self._git.run(f"--git-dir={home}", *arguments, attempt=attempt, cwd=home)

    async def _make(self, cache: Path, attempt: AttemptId, address: str) -> None:
        if is_local(address) and not await asyncio.to_thread(os.path.isdir, address):
            raise RepositoryMissing(address, "there is no such directory on this host")
        if not await asyncio.to_thread(os.path.isdir, cache):
            new = cache.with_suffix(".new")
            await asyncio.to_thread(remove_tree, new)
            options = ("--quiet", "--bare", "--template=", "--initial-branch=none", "--end-of-options")
            await self._git.run("init", *options, str(new), attempt=attempt, cwd=self._folder)
            os.rename(new, cache)  # noqa: PTH104 - at once, so a cache that exists is whole
        await asyncio.to_thread(restore, cache, CONFIG)

    async def _fetch(self, cache: Path, attempt: AttemptId, address: str, branch: str, way: Way | None) -> str:
        """Bring the cache up to date; the commit at the tip of ``branch``, or of the remote's default branch.

        Only what the remote has is pruned: ``refs/remotes`` and tags. Our own branches are in ``refs/heads``.
        """
        wanted = [f"+refs/heads/*:{HEADS}*", "+refs/tags/*:refs/tags/*", *([] if branch else [f"+HEAD:{_HEAD}"])]
        options = (*QUIETLY, "--prune", "--end-of-options")
        command = (f"--git-dir={cache}", "fetch", *options, way.address if way else address, *wanted)
        outcome = await self._git.reach(address, *command, attempt=attempt, cwd=cache, way=way)
        if outcome.exit_code != 0 and ".lock': File exists" in outcome.output:
            await asyncio.to_thread(_remove_stale_locks, cache)
            outcome = await self._git.reach(address, *command, attempt=attempt, cwd=cache, way=way)
        if outcome.exit_code != 0 and not ("remote ref HEAD" in outcome.output and not branch):
            raise GitFailed("fetch", outcome.exit_code, outcome.output)
        ref = f"{HEADS}{branch}" if branch else _HEAD
        commit = await self.commit_of(cache, attempt, ref) if outcome.exit_code == 0 else ""
        if not commit:
            raise BranchMissing(address, branch, await self._branches(cache, attempt))
        return commit

    async def _branches(self, cache: Path, attempt: AttemptId) -> tuple[str, ...]:
        options = ("--count=10", "--sort=-committerdate", "--format=%(refname:lstrip=3)", HEADS)
        return tuple((await self.run(cache, attempt, "for-each-ref", *options)).split())


def restore(git_dir: Path, config: str) -> None:
    """Set a repository back to ours, if work has changed it: its configuration, and what git obeys beside it.

    What work must not write is there in any case, so that its sandbox can keep it as it is.
    """
    for name, text in (("config", config), ("config.worktree", "")):
        file = git_dir / name
        if file.is_symlink() or not file.is_file() or file.read_bytes() != text.encode():
            write_afresh(file, text)
    # Ignore rules and attributes; and hooks, which the next attempt's own git would run.
    for folder in (git_dir / "info", git_dir / "hooks"):
        if folder.is_symlink() or not folder.is_dir() or any(folder.iterdir()):
            remove_tree(folder)
            folder.mkdir(mode=0o700)


def stand_alone(git_dir: Path) -> None:
    """Have git take an attempt's own repository for a whole one, whose settings are in it.

    Work can name another one as the place of its settings; git of a check would then run what those name.
    """
    with contextlib.suppress(FileNotFoundError):
        git_dir.chmod(0o700)  # work may have taken the right to change it away
    for name in ("commondir", "gitdir"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):  # git takes no directory
            os.unlink(git_dir / name)  # noqa: PTH108 - one call, and it follows no link


def tidy(git_dir: Path, cache: Path | None) -> None:
    """Set an attempt's own repository back to ours before git of the host reads it.

    No link in it leads elsewhere any more, it finds missing objects in ``cache`` and nowhere else, and nothing stands
    in for what it holds.
    """
    if links := remove_links(git_dir):
        log.warning("links_removed", repository=str(git_dir), count=len(links), names=links[:_SHOWN])
    restore(git_dir, OWN)
    for name in ("commondir", "gitdir", "shallow", "worktrees", "modules"):
        if os.path.lexists(git_dir / name):
            remove_tree(git_dir / name)
    for name in ("objects", "refs"):
        if not (git_dir / name).is_dir():
            (git_dir / name).unlink(missing_ok=True)
            (git_dir / name).mkdir()
    _point(git_dir, cache)


def _point(git_dir: Path, cache: Path | None) -> None:
    """Have a repository look for what it lacks in ``cache`` only; work may move what is in it meanwhile."""
    old = git_dir / f"old-{token_hex(8)}"
    objects = os.open(git_dir / "objects", _FOLDER)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.rename("info", old, src_dir_fd=objects)
        remove_tree(old)
        os.mkdir("info", dir_fd=objects)
        if cache is not None:
            info = os.open("info", _FOLDER, dir_fd=objects)
            try:
                write_new("alternates", f"{cache}/objects\n", info)
            finally:
                os.close(info)
    finally:
        os.close(objects)


def _has_branches(cache: Path) -> bool:
    """Whether a cache may have branches of its own; most have none, and starting git to hear that costs more."""
    if any(files for _, _, files in os.walk(cache / "refs" / "heads")):
        return True
    try:
        with (cache / "packed-refs").open("rb") as packed:
            return any(b" refs/heads/" in line for line in packed)
    except FileNotFoundError:
        return False


def _remove_stale_locks(cache: Path) -> None:
    """Remove ref locks that a killed git left; the caller holds the cache."""
    for lock in (
        cache / "packed-refs.lock",
        *(cache / "refs" / "remotes").rglob("*.lock"),
        *(cache / "refs").glob("*/*.lock"),
    ):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - lock.stat().st_mtime > _STALE_LOCK_S:
                lock.unlink()
                log.warning("git_lock_removed", path=str(lock))


def make_empty(path: Path, git_dir: Path, branch: str) -> None:
    """An empty directory with a repository beside it, as ``git init --separate-git-dir`` makes it.

    Written by hand because most tasks without a repository never use git, and starting it costs more than such a task.
    """
    remove_tree(git_dir)
    for folder in (path, git_dir, *(git_dir / name for name in ("objects", "objects/info", "refs", "refs/heads"))):
        folder.mkdir(mode=0o700)
    (git_dir / "HEAD").write_text(f"ref: refs/heads/{branch}\n", encoding="utf-8")
    restore(git_dir, OWN)
    (path / ".git").write_text(f"gitdir: {git_dir}\n", encoding="utf-8")
