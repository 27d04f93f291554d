"""See what work has changed without believing anything that the work could have written.

The repository of an attempt belongs to the attempt: its index may call changed files unchanged, and its objects may be
others than their names say. So whoever judges looks through a repository of ours that is made anew for every look: its
index holds the base and knows no file yet, and it finds objects in the cache alone, which work only reads. What git
takes for ignored is looked through as well, for files that decide what tests do; and what is delivered goes through an
index of which nothing is kept but names and contents. The caller is ``sidecar/workspace.py``.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from protocol.removal import remove_tree
from sidecar.cache import OWN, QUIETLY
from sidecar.core.diff import PATCH, matches
from sidecar.core.judging import STEERING, steers
from sidecar.errors import GitFailed
from sidecar.folders import walk, write_afresh
from sidecar.git import Git
from sidecar.workplace import Workspace

MOST_LOOKED_AT: Final = 2_000_000
"""Files in ignored folders that are repositories of their own."""
_OTHERS: Final = ("ls-files", "--others", "-z")
_WORK: Final = "refs/heads/work"
_EACH: Final = ("--patch", "-m", "--text", "--no-notes", "--no-show-signature", "--format=%w(0,4,4)%B")
"""How each commit is told: its message indented by four, then what it has changed, as if all files were text."""


class Sight:
    """Looks at workspaces; git is run on the files of the work within ``eyes`` or ``walls`` of the workspace."""

    def __init__(self, git: Git) -> None:
        self._git = git

    async def patch(self, workspace: Workspace) -> tuple[str, tuple[str, ...]]:
        """How files of the base differ from it, and the paths that are new, ignored ones if they count.

        Those are what will be delivered all the same, and what steers tests. Without a base all files are new. The
        index has been built anew (:meth:`rebuild`).

        Raises:
            GitFailed: git could not, or there is more than anybody could want to look at.
        """
        delivered = _names(await self._own(workspace, "ls-files", "-z"))
        known, patch = set[str](), ""
        async with self._opened(workspace):
            if workspace.base_commit:
                await self._see(workspace, "read-tree", workspace.base_commit)
                known = set(_names(await self._see(workspace, "ls-files", "-z")))
                patch = await self._see(workspace, "diff", *PATCH, workspace.base_commit, "--")
            fresh = _names(await self._see(workspace, *_OTHERS, "--exclude-standard"))
            globs = [f":(top,glob){pattern}" for pattern in STEERING]
            hidden = _names(await self._see(workspace, *_OTHERS, "--ignored", "--exclude-standard", "--", *globs))
        forced = [path for path in delivered if path not in known]
        there, steering = await asyncio.to_thread(_that_count, workspace.path, forced, hidden)
        return patch, tuple(dict.fromkeys([*fresh, *there, *steering]))

    async def history(self, workspace: Workspace) -> str:
        """What each commit of the work holds that is not in the base: messages (indented by four) and patches.

        They are fetched into the repository of ours, where objects get the names that they deserve.

        Raises:
            GitFailed: git could not, or there is more than anybody could want to look at.
        """
        async with self._opened(workspace):
            attempt, cwd, here = workspace.attempt, workspace.sight_dir, f"--git-dir={workspace.sight_dir}"
            source = ("--end-of-options", str(workspace.git_dir), f"+HEAD:{_WORK}")
            await self._git.run(here, "fetch", *QUIETLY, *source, attempt=attempt, cwd=cwd)
            commits = (_WORK, "--not", workspace.base_commit, "--")
            return await self._git.run(here, "log", *PATCH, *_EACH, *commits, attempt=attempt, cwd=cwd)

    async def archive(self, workspace: Workspace, file: Path) -> None:
        """Write the files of the base to ``file``, a tar archive.

        Raises:
            GitFailed: git could not.
        """
        async with self._opened(workspace):
            where = (f"--git-dir={workspace.sight_dir}", "archive", "--format=tar", f"--output={file}")
            await self._git.run(*where, workspace.base_commit, attempt=workspace.attempt, cwd=workspace.sight_dir)

    async def rebuild(self, workspace: Workspace) -> None:
        """Build the index of an attempt anew from its names and contents, so that git looks at every file.

        What git may be told to skip is skipped only if it is as in the base and not there (a sparse checkout): then it
        is not taken for deleted.

        Raises:
            GitFailed: git cannot read it.
        """
        if not (workspace.git_dir / "index").exists():
            return
        listed = [entry for entry in (await self._own(workspace, "ls-files", "-s", "-v", "-z")).split("\0") if entry]
        parts = [entry.partition("\t") for entry in listed if entry[:1] in {"S", "s"}]
        there, _ = await asyncio.to_thread(_that_count, workspace.path, [path for _, _, path in parts], [])
        skipped = {path: what.split()[1:3] for what, _, path in parts if path not in there}
        await asyncio.to_thread(remove_tree, workspace.git_dir / "index")
        entries = "".join(f"{entry[2:]}\0" for entry in listed).encode("utf-8", "surrogateescape")
        await self._own(workspace, "update-index", "-z", "--index-info", stdin=entries)
        if skipped and (names := await self._as_in_base(workspace, skipped)):
            await self._own(
                workspace, "update-index", "--skip-worktree", "-z", "--stdin", stdin="\0".join(names).encode()
            )

    async def _as_in_base(self, workspace: Workspace, skipped: dict[str, list[str]]) -> list[str]:
        """Those of ``skipped`` (mode and content by path) that are just so in the base."""
        if not workspace.base_commit:
            return []
        async with self._opened(workspace):
            where = (f"--git-dir={workspace.sight_dir}", "ls-tree", "-r", "-z", workspace.base_commit)
            tree = await self._git.run(*where, attempt=workspace.attempt, cwd=workspace.sight_dir)
        entries = (entry.partition("\t") for entry in tree.split("\0") if entry)
        base = {path: [what.split()[0], what.split()[2]] for what, _, path in entries}
        return [path for path, what in skipped.items() if base.get(path) == what]

    @asynccontextmanager
    async def _opened(self, workspace: Workspace) -> AsyncIterator[None]:
        await asyncio.to_thread(_make, workspace)
        try:
            yield
        finally:
            await asyncio.to_thread(remove_tree, workspace.sight_dir)

    async def _see(self, workspace: Workspace, *arguments: str) -> str:
        where = (f"--git-dir={workspace.sight_dir}", f"--work-tree={workspace.path}")
        walls = workspace.eyes
        return await self._git.run(*where, *arguments, attempt=workspace.attempt, cwd=workspace.path, walls=walls)

    async def _own(self, workspace: Workspace, *arguments: str, stdin: bytes | None = None) -> str:
        where = (f"--git-dir={workspace.git_dir}", f"--work-tree={workspace.path}")
        attempt, walls = workspace.attempt, workspace.walls
        return await self._git.run(*where, *arguments, attempt=attempt, cwd=workspace.path, stdin=stdin, walls=walls)


def _names(said: str) -> list[str]:
    return [name for name in said.split("\0") if name]


def _that_count(root: Path, forced: list[str], hidden: list[str]) -> tuple[list[str], list[str]]:
    """What is there of what will be delivered, and what steers tests of what is ignored."""
    there = [path for path in forced if os.path.lexists(root / path)]
    steering = [path for path in hidden if not path.endswith("/") and steers(path, is_link=os.path.islink(root / path))]  # noqa: PTH114 - never raises
    return there, [*steering, *(path for folder in hidden if folder.endswith("/") for path in _within(root, folder))]


def _within(root: Path, folder: str) -> Iterator[str]:
    """What steers tests in an ignored folder that is a repository of its own, into which git does not look."""
    count = 0
    for _, entries in walk(root / folder):
        count += len(entries)
        if count > MOST_LOOKED_AT:
            raise GitFailed("ls-files", None, f"more than {MOST_LOOKED_AT} files are ignored in {folder[:100]!r}")
        for entry in entries:
            path = os.path.relpath(entry.path, root)
            is_file = not entry.is_dir(follow_symlinks=False)
            if is_file and steers(path, is_link=entry.is_symlink()) and matches(path, STEERING):
                yield path


def _make(workspace: Workspace) -> None:
    """An empty repository of ours that finds objects in the cache alone."""
    folder = workspace.sight_dir
    remove_tree(folder)
    for name in ("", "info", "objects", "objects/info", "refs", "refs/heads"):
        (folder / name).mkdir(mode=0o700)
    write_afresh(folder / "HEAD", "ref: refs/heads/none\n")
    write_afresh(folder / "config", OWN)
    # An archive of the base is the base: attributes in its tree would leave out its tests, or write something else.
    write_afresh(folder / "info" / "attributes", "* -export-ignore -export-subst\n")
    if workspace.cache is not None:
        write_afresh(folder / "objects" / "info" / "alternates", f"{workspace.cache}/objects\n")
