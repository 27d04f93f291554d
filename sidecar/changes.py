"""What work has changed, line by line: what git tells, completed with what only the files tell.

Those are new files, and those that git takes for no text: attributes in the tree may call any file binary. Its caller
is :mod:`sidecar.proof`.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from protocol.errors import BadInput
from protocol.tree import Tree
from sidecar.core.diff import Change, read_patch, whole_file
from sidecar.workspace import Workspace, Workspaces

MAX_BYTES: Final = 1 << 20
"""Largest file that is looked at line by line."""


async def changes_of(workspaces: Workspaces, workspace: Workspace) -> tuple[Change, ...]:
    """All that differs from the base, committed or not, in order of the paths.

    Raises:
        GitFailed: git could not tell.
    """
    patch, fresh = await workspaces.patch(workspace)
    return await asyncio.to_thread(_read_all, workspace.path, patch, fresh)


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
