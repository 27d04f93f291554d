"""What work has changed, line by line: what git tells, completed with what only the files tell.

Those are new files, and those that git takes for no text: attributes in the tree may call any file binary. Its caller
is :mod:`sidecar.proof`.
"""

import asyncio
import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from protocol.errors import BadInput
from protocol.tree import Tree
from sidecar.core.diff import Change, read_patch, whole_file
from sidecar.core.marks import Mark
from sidecar.workspace import Workspace, Workspaces

MAX_BYTES: Final = 1 << 20
"""Largest file that is looked at line by line."""
MAX_HASHED_BYTES: Final = 16 << 20
"""Of a larger file size and time tell whether it has changed; only the kernel sets the time of the last change."""
MESSAGES: Final = "the message"
"""Stands for the path of a file, of what the messages of commits say."""
_PIECE_BYTES: Final = 1 << 20


async def changes_of(workspaces: Workspaces, workspace: Workspace) -> tuple[Change, ...]:
    """All that differs from the base, committed or not, in order of the paths.

    Raises:
        GitFailed: git could not tell.
    """
    patch, fresh = await workspaces.patch(workspace)
    return await asyncio.to_thread(_read_all, workspace.path, patch, fresh)


async def history_of(workspaces: Workspaces, workspace: Workspace) -> tuple[Change, ...]:
    """What the commits of the work have added, each for itself, and their messages.

    Raises:
        GitFailed: git could not tell.
    """
    said = await workspaces.history(workspace)
    return await asyncio.to_thread(_commits, said)


def _commits(said: str) -> tuple[Change, ...]:
    messages = tuple((number, line) for number, line in enumerate(said.split("\n"), start=1) if line.startswith("    "))
    return (*read_patch(said), *([Change(MESSAGES, messages)] if messages else []))


def _read_all(root: Path, patch: str, fresh: Iterable[str]) -> tuple[Change, ...]:
    tree = Tree(root)
    found = [_opened(tree, change) for change in read_patch(patch)]
    return tuple(sorted([*found, *(_read(tree, path) for path in fresh)], key=lambda change: change.path))


def _opened(tree: Tree, change: Change) -> Change:
    """All lines count as added where it cannot be known which ones are; it stays opaque."""
    if not change.is_opaque or change.is_gone:
        return change
    return replace(change, added=_read(tree, change.path).added)


def _read(tree: Tree, path: str) -> Change:
    try:
        return whole_file(path, tree.read_bytes(path, MAX_BYTES + 1), MAX_BYTES)
    except BadInput:  # a link, or a folder with a repository of its own
        return Change(path, is_new=True, is_opaque=True)


async def marks_of(workspaces: Workspaces, workspace: Workspace) -> dict[str, Mark]:
    """What lies at each path that differs from the base, by path.

    Raises:
        GitFailed: git could not tell.
    """
    patch, fresh = await workspaces.patch(workspace)
    return await asyncio.to_thread(mark_all, workspace.path, patch, fresh)


def mark_all(root: Path, patch: str, fresh: Iterable[str]) -> dict[str, Mark]:
    """What lies below ``root`` at the paths of a patch, and at those that are new."""
    of_base = {change.path: Mark(_digest(root, change.path), is_new=False) for change in read_patch(patch)}
    return of_base | {path: Mark(_digest(root, path), is_new=True) for path in fresh if path not in of_base}


def _digest(root: Path, path: str) -> str:
    """A text that is another one as soon as something else lies there; empty if nothing can be read there."""
    try:
        opened, _ = Tree(root).open(path)
    except BadInput:
        return _lies(root / path)
    with opened:
        found = os.fstat(opened.fileno())
        if found.st_size > MAX_HASHED_BYTES:
            return _lies(root / path)
        digest = hashlib.sha256()
        while piece := opened.read(_PIECE_BYTES):
            digest.update(piece)
        return f"{found.st_mode:o} {digest.hexdigest()}"


def _lies(path: Path) -> str:
    """The same of what cannot be opened: where a link leads, or when something there was changed last."""
    try:
        found = path.lstat()
        where = path.readlink() if stat.S_ISLNK(found.st_mode) else ""
    except OSError:
        return ""
    return f"{found.st_mode:o} {where or f'{found.st_size} {found.st_ctime_ns} {found.st_ino}'}"
