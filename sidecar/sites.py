"""Where attempts work on this disk, and git as it runs there.

Holds the names and locks of everything below one root (they are told in :mod:`sidecar.workspace`), runs git within the
walls of an attempt, and sets back what the work could have changed before git of the host looks. Opening and delivering
is ``sidecar/workspace.py``; giving back and sweeping is ``sidecar/leaving.py``.
"""

import asyncio
import errno
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from protocol.model import AttemptId
from protocol.removal import remove_tree
from sidecar.cache import Caches, tidy
from sidecar.errors import GitFailed, WorkUnreadable
from sidecar.gate import Gate
from sidecar.git import Git
from sidecar.process import Processes
from sidecar.sight import Sight
from sidecar.workplace import Workspace

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}-e[0-9]+")
"""Names of an attempt's directories."""
_LINK: Final = re.compile(r"160000 ")
"""How git tells of another repository in a tree, or in an index."""
_ILL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""What the machine is to blame for."""


class Sites:
    """The places of attempts on this disk.

    Args:
        root: directory of ours; made if it is not there.
        processes: starts git.
        network_env: what git sees besides when it talks to a remote, see :class:`sidecar.git.Git`.
        gate: knows ways through the hub to the repositories of projects; ``None``: there are none.
    """

    def __init__(
        self,
        root: Path,
        processes: Processes,
        network_env: Mapping[str, str] = MappingProxyType({}),
        gate: Gate | None = None,
    ) -> None:
        self._gate = gate
        self._git = Git(processes, network_env)
        cache, self._work, self._alone = root / "cache", root / "work", root / "alone"
        for folder in (cache, self._work, self._alone):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._caches, self._sight = Caches(cache, self._git), Sight(self._git)

    async def _resolve(self, workspace: Workspace, ref: str) -> str:
        """The commit that ``ref`` means in this workspace, empty if none."""
        return await self._caches.commit_of(workspace.git_dir, workspace.attempt, ref)

    async def _in(
        self, workspace: Workspace, *arguments: str, stdin: bytes | None = None, index: Path | None = None
    ) -> str:
        where = (f"--git-dir={workspace.git_dir}", f"--work-tree={workspace.path}")
        attempt, cwd, walls = workspace.attempt, workspace.path, workspace.walls
        return await self._git.run(*where, *arguments, attempt=attempt, cwd=cwd, stdin=stdin, walls=walls, index=index)

    async def _restore(self, workspace: Workspace) -> None:
        """Have git obey us again, whatever the work has written into the repository."""
        await asyncio.to_thread(_by_the_work, tidy, workspace.git_dir, workspace.cache)

    async def _look_again(self, workspace: Workspace) -> None:
        """Have git see every change: its index can be told to take changed files for unchanged ones."""
        await self._restore(workspace)
        # Of a git that was killed with the work's processes.
        await asyncio.to_thread(_by_the_work, remove_tree, workspace.git_dir / "index.lock")
        await self._sight.rebuild(workspace)

    async def _strangers(self, workspace: Workspace) -> list[str]:
        """What keeps git out of other repositories in the tree: it would start a git there that obeys them."""
        linked, loose = await self._repositories(workspace)
        return [f":(top,exclude,literal){path}" for path in (*linked, *loose)]

    async def _repositories(self, workspace: Workspace) -> tuple[list[str], list[str]]:
        """Other repositories in the tree, but ignored ones: those that the index names, and those that nothing does."""
        everything = ("ls-files", "--stage", "--others", "--exclude-standard", "-z")
        listed = (await self._in(workspace, *everything)).split("\0")
        linked = [entry.partition("\t")[2] for entry in listed if _LINK.match(entry)]
        return linked, [entry.removesuffix("/") for entry in listed if entry.endswith("/")]

    async def strangers(self, workspace: Workspace) -> tuple[str, ...]:
        """Repositories of their own in the tree that are not the base's: git delivers their names, and no file of them.

        Raises:
            GitFailed: git could not tell.
        """
        await self._restore(workspace)
        linked, loose = await self._repositories(workspace)
        known = set[str]()
        if linked and workspace.base_commit and workspace.cache is not None:
            command = ("ls-tree", "-z", workspace.base_commit, "--", *linked)
            tree = await self._caches.run(workspace.cache, workspace.attempt, *command)
            known = {entry.partition("\t")[2] for entry in tree.split("\0") if _LINK.match(entry)}
        return tuple(sorted({*linked, *loose} - known))

    async def _status(self, workspace: Workspace) -> set[str]:
        options = ("--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", "--ignore-submodules=all")
        tree = await self._in(workspace, "status", *options)
        return {entry[3:] for entry in tree.split("\0") if entry}

    def _kept(self, name: str) -> Path:
        return self._work / f"{name}.kept"

    def _cache_of(self, name: str) -> Path:
        return self._alone / f"{name}.cache"

    def _lock_of(self, name: str) -> Path:
        return self._work / f"{name}.lock"

    def _release(self, name: str, fd: int) -> None:
        self._lock_of(name).unlink(missing_ok=True)
        os.close(fd)


def name_of(attempt: AttemptId) -> str:
    """Name of the attempt's directories, and the end of its branch."""
    name = f"{attempt.task}-e{attempt.epoch}"
    assert NAME.fullmatch(name), f"task ids are made by the hub and safe in paths, found {name!r}"
    return name


def _by_the_work(do: Callable[..., object], *arguments: object) -> None:
    """Do something where the work may write; what stops us is what the work has put there, unless the disk is ill.

    Raises:
        WorkUnreadable: something is in the way.
    """
    try:
        do(*arguments)
    except OSError as exc:
        if exc.errno in _ILL:
            raise GitFailed("tidy", None, str(exc)) from exc
        raise WorkUnreadable(exc.strerror or str(exc), str(exc.filename or "")) from exc
