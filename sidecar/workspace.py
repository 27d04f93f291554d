"""Makes the place where an attempt works, and brings its work back.

Holds, under one root::

    cache/<sha256 of the address>.git    one bare repository per address, fetched before every attempt
    cache/<sha256 of the address>.lock   held while that cache changes; several sidecars may share a root
    work/<task>-e<epoch>/                the working directory of an attempt
    work/<task>-e<epoch>.lock            held while the attempt lives, so nobody sweeps it
    work/<task>-e<epoch>.kept            says that the directory was kept on purpose when the attempt ended
    alone/<task>-e<epoch>.git            the attempt's own repository; what is in the cache it reads there
    alone/<task>-e<epoch>.cache          names that cache
    alone/<task>-e<epoch>.sight          ours, while somebody looks at what the attempt has changed

The working directory and its repository belong to the attempt, which may write anything into them; the cache does not:
work only reads the objects in it, and what is delivered is fetched into it and goes from there. Git runs on the files
within the walls of the attempt (:mod:`sidecar.sandbox`), is always told where repository and tree are, and before git
of the host reads the repository everything in it that git obeys is set back to ours (:func:`sidecar.cache.tidy`).
What all of this stands on is ``sidecar/sites.py``; ``sidecar/leaving.py`` gives places back and sweeps.

The branch of an attempt is ``agentcom/<agent>/<what it is about>-<task>-e<epoch>``: the epoch keeps a late attempt from
ever touching a newer one's branch. The caller is :mod:`sidecar.runner`.
"""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from protocol.git import receiving
from protocol.ids import slug
from protocol.messages import Carry
from protocol.model import AttemptId, TaskSpec
from protocol.removal import remove_tree
from sidecar.cache import make_empty, tidy
from sidecar.core.outcome import DRAFT
from sidecar.errors import GitFailed, PushRefused
from sidecar.folders import claim, write_afresh
from sidecar.gate import Way
from sidecar.git import checked_address, checked_branch, refusal
from sidecar.leaving import Leaving
from sidecar.sites import name_of
from sidecar.tasks import uninterrupted
from sidecar.workplace import Workspace as Workspace  # noqa: PLC0414 - it was here first, and is passed on

_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_AUTHOR: Final = re.compile(r"[^<>\x00-\x1f]+ <[^<>\s]*>")


class Workspaces(Leaving):
    """Opens and closes the workspaces of this sidecar."""

    async def open(self, attempt: AttemptId, spec: TaskSpec, agent: str, carry: Carry | None = None) -> Workspace:
        """The workspace of a new attempt, at the newest state of the branch that the task names.

        Files in ``context.files`` need not exist: the work may be to write them. With ``carry`` it holds what that
        attempt has left, just as it left it, if that can be had here: it was pushed, or that attempt was on this host.

        Raises:
            WorkspaceFailed: it could not be made; its subclasses in :mod:`sidecar.errors` tell what to do about it.
        """
        name = name_of(attempt)
        about = spec.title or spec.prompt or spec.command
        branch = f"agentcom/{slug(agent)}/{slug(about)}-{name}"
        context = spec.context
        address = checked_address(context.repo) if context.repo else ""
        base = checked_branch(address, context.branch) if address and context.branch else ""
        fd = claim(self._lock_of(name))
        if fd is None:
            raise GitFailed("worktree", None, f"attempt {name} is at work here already")
        path = self._work / name
        try:
            await uninterrupted(asyncio.to_thread(remove_tree, path))
            if address:
                git_dir = self._alone / f"{name}.git"
                made = Workspace(path, "", branch, True, attempt, git_dir, address, fd)  # noqa: FBT003 - has_repo
                workspace = await self._open_clone(made, base, carry)
            else:
                workspace = await self._open_alone(attempt, branch, path, fd, carry)
            if workspace.is_continued:
                await self._take_back_draft(workspace)
        except BaseException:
            await uninterrupted(self._undo(path, fd))
            raise
        return workspace

    async def _undo(self, path: Path, fd: int) -> None:
        """Take away what there is of a workspace that could not be opened."""
        name = path.name
        try:
            await asyncio.to_thread(remove_tree, path)
            await asyncio.to_thread(remove_tree, self._alone / f"{name}.git")
            self._cache_of(name).unlink(missing_ok=True)
        finally:
            self._release(name, fd)

    async def uncommitted(self, workspace: Workspace) -> tuple[str, ...]:
        """Paths with changes that no commit holds, in order: as they are, not as the work has told git to see them.

        Raises:
            GitFailed: git could not.
        """
        await self._look_again(workspace)
        return tuple(sorted(await self._status(workspace)))

    async def changes(self, workspace: Workspace) -> tuple[str, ...]:
        """Paths that differ from the base, committed or not, in order."""
        touched = set(await self.uncommitted(workspace))
        head = await self._resolve(workspace, "HEAD") if workspace.base_commit else ""
        if head != workspace.base_commit:
            quiet = ("--no-ext-diff", "--no-textconv", "--no-renames", "--ignore-submodules=all")
            done = await self._in(workspace, "diff", "--name-only", "-z", *quiet, workspace.base_commit, head, "--")
            touched.update(path for path in done.split("\0") if path)
        return tuple(sorted(touched))

    async def patch(self, workspace: Workspace) -> tuple[str, tuple[str, ...]]:
        """How files of the base differ from it, committed or not, and the paths that are new.

        The patch is for :func:`sidecar.core.diff.read_patch`; without a base it is empty and all paths are named.

        Raises:
            GitFailed: git could not, or there is more than anybody could want to look at.
        """
        await self._look_again(workspace)
        return await self._sight.patch(workspace)

    async def history(self, workspace: Workspace) -> str:
        """What each commit of the work holds that is not in the base, see :meth:`sidecar.sight.Sight.history`.

        Raises:
            GitFailed: git could not, or there is more than anybody could want to look at.
        """
        await self._restore(workspace)
        head = await self._resolve(workspace, "HEAD") if workspace.base_commit else ""
        return "" if head in {"", workspace.base_commit} else await self._sight.history(workspace)

    async def archive(self, workspace: Workspace, file: Path) -> None:
        """Write the files of the base to ``file``, a tar archive.

        Raises:
            GitFailed: git could not.
        """
        await self._sight.archive(workspace, file)

    async def commit(self, workspace: Workspace, message: str, author: str) -> str:
        """Commit everything that is not ignored and put it on the branch of the attempt.

        Args:
            message: subject, body and trailers, taken as they are.
            author: ``Name <address>``, or a name alone.
        Returns:
            The commit that holds all the work, also if the work committed it itself; empty if nothing was changed.
        Raises:
            GitFailed: git could not.
        """
        await self._look_again(workspace)
        await self._in(workspace, "add", "--all", "--", ".", *await self._strangers(workspace))
        staged = await self._in(workspace, "status", "--porcelain=v1", "-z", "-uno", "--ignore-submodules=all")
        if any(entry[:1] not in {" ", "?"} for entry in staged.split("\0") if entry):
            await self._commit_staged(workspace, message, author)
        return await self._point(workspace)

    async def diff(self, workspace: Workspace, commit: str) -> str:
        """What a commit of :meth:`commit` changes of the base, for people to read; empty without a base.

        Raises:
            GitFailed: git could not, or it is more than anybody could want to look at.
        """
        if not workspace.base_commit:
            return ""
        quiet = ("--no-color", "--no-ext-diff", "--no-textconv", "--find-renames", "--ignore-submodules=all")
        names = ("--src-prefix=a/", "--dst-prefix=b/", "--end-of-options")
        return await self._in(workspace, "diff", *quiet, *names, workspace.base_commit, commit, "--")

    async def _commit_staged(self, workspace: Workspace, message: str, author: str) -> None:
        who = author if _AUTHOR.fullmatch(author) else f"{slug(author)} <agentcom@localhost>"
        options = ("--quiet", "--no-verify", "--no-gpg-sign", "--cleanup=whitespace", f"--author={who}", "--file=-")
        await self._in(workspace, "commit", *options, stdin=message.encode())

    async def _point(self, workspace: Workspace) -> str:
        head = await self._resolve(workspace, "HEAD")
        if not head or head == workspace.base_commit:
            return ""
        # The work may have left the branch, or stand on a commit without one: the name must mean what is delivered.
        if await self._resolve(workspace, f"refs/heads/{workspace.branch}") != head:
            await self._in(workspace, "update-ref", f"refs/heads/{workspace.branch}", head)
        return head

    async def push(self, workspace: Workspace, over: str = "") -> bool:
        """Push the branch to where the repository came from; ``False`` if there is no such place, or nothing to push.

        Raises:
            PushRefused: the remote has other commits on that branch (``over`` may go), or its rules forbid it.
            RepositoryMissing, RepositoryRefused, RepositoryUnreachable: the remote could not be talked to.
        """
        if (cache := workspace.cache) is None:
            return False
        await self._restore(workspace)
        ref = f"refs/heads/{workspace.branch}"
        commit = await self._resolve(workspace, ref)
        if not commit or commit == workspace.base_commit:
            return False
        # Not held: nobody else writes this branch, and another attempt may fetch for minutes.
        await self._caches.take(cache, workspace.attempt, workspace.git_dir, f"+{ref}:{ref}")
        lease = (f"--force-with-lease={ref}:{over}",) if over else ()
        await self._push(workspace, cache, workspace.branch, f"{commit}:{ref}", more=lease)
        workspace.pushed_commit = commit
        return True

    async def _push(self, workspace: Workspace, cache: Path, what: str, *specs: str, more: Sequence[str] = ()) -> None:
        attempt, address = workspace.attempt, workspace.address
        way = await self._way(attempt, address)
        await self._push_from(cache, attempt, address, what, *specs, more=more, way=way)

    async def _push_from(
        self,
        cache: Path,
        attempt: AttemptId,
        address: str,
        what: str,
        *specs: str,
        more: Sequence[str] = (),
        way: Way | None = None,
    ) -> None:
        options = ("--porcelain", "--no-verify", *more, *receiving(address), "--end-of-options")
        command = (f"--git-dir={cache}", "push", *options, way.address if way else address, *specs)
        outcome = await self._git.reach(address, *command, attempt=attempt, cwd=cache, way=way)
        if outcome.exit_code != 0:
            raise PushRefused(address, what, refusal(outcome))

    async def _way(self, attempt: AttemptId, address: str) -> Way | None:
        """How git gets there through the hub; ``None``: with what the user of this host has."""
        if self._gate is None or not address.startswith("https://"):
            return None  # only addresses of that kind come with user and password
        return await self._gate.way(attempt, address)

    async def _open_clone(self, made: Workspace, base: str, carry: Carry | None) -> Workspace:
        attempt, address, cache = made.attempt, made.address, self._caches.of(made.address)
        way = await self._way(attempt, address)
        async with self._caches.held(cache):
            start = commit = await self._caches.update(cache, attempt, address, base, way)
            if left := await self._left(cache, attempt, carry):
                start, commit = left, (await self._caches.run(cache, attempt, "merge-base", commit, left)).strip()
            # Before it is let go: what an attempt names is not cleaned.
            self._cache_of(made.path.name).write_text(str(cache), encoding="utf-8")
        made.cache, made.base_commit = cache, commit
        # A cancellation waits for these, or they would go on beside the one that takes all this away.
        await uninterrupted(asyncio.to_thread(make_empty, made.path, made.git_dir, made.branch))
        await uninterrupted(asyncio.to_thread(tidy, made.git_dir, cache))
        await self._in(made, "reset", "--quiet", "--hard", start)
        made.is_continued = bool(left)
        return made

    async def _open_alone(self, attempt: AttemptId, branch: str, path: Path, fd: int, carry: Carry | None) -> Workspace:
        git_dir = self._alone / f"{path.name}.git"
        is_continued = carry is not None and await uninterrupted(
            asyncio.to_thread(self._take_over, carry, path, git_dir, branch)
        )
        if not is_continued:
            await uninterrupted(asyncio.to_thread(make_empty, path, git_dir, branch))
        made = Workspace(path, "", branch, False, attempt, git_dir, "", fd)  # noqa: FBT003 - has_repo
        if is_continued and (left := await self._left(git_dir, attempt, carry)):
            await self._caches.run(git_dir, attempt, "update-ref", f"refs/heads/{branch}", left)
            made.is_continued = True
        return made

    # --- going on from an earlier attempt -----------------------------------------------------------------------------

    async def _left(self, repository: Path, attempt: AttemptId, carry: Carry | None) -> str:
        """The commit that an earlier attempt of the same task has left, if it is in this repository; else empty."""
        if carry is None or carry.attempt.task != attempt.task or not _COMMIT.fullmatch(carry.commit):
            return ""
        return await self._caches.commit_of(repository, attempt, carry.commit)

    def _take_over(self, carry: Carry, path: Path, git_dir: Path, branch: str) -> bool:
        """Move the files of an earlier attempt on this host, and their repository, to the new attempt."""
        old = name_of(carry.attempt)
        fd = claim(self._lock_of(old))
        if fd is None:
            return False
        try:
            old_path, old_git = self._work / old, self._alone / f"{old}.git"
            if old == path.name or not (self._kept(old).exists() and old_path.is_dir() and old_git.is_dir()):
                return False
            remove_tree(git_dir)
            old_git.rename(git_dir)
            old_path.rename(path)
            self._kept(old).unlink()
        finally:
            self._release(old, fd)
        tidy(git_dir, None)
        write_afresh(git_dir / "HEAD", f"ref: refs/heads/{branch}\n")
        remove_tree(path / ".git")
        (path / ".git").write_text(f"gitdir: {git_dir}\n", encoding="utf-8")
        return True

    async def _take_back_draft(self, workspace: Workspace) -> None:
        """Leave as not committed what the earlier attempt had not committed: its draft is no commit of the work."""
        said = (await self._in(workspace, "log", "-1", "--format=%P%n%B")).rstrip().splitlines()
        if said[-1] != DRAFT:
            return
        if said[0]:
            await self._in(workspace, "reset", "--quiet", "--mixed", said[0].split()[0])
        else:
            await self._in(workspace, "update-ref", "-d", "HEAD")
            await self._in(workspace, "read-tree", "--empty")
