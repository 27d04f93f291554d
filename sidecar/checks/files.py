"""The check ``file_exists``."""

import asyncio

from protocol.errors import BadInput
from protocol.model import CheckFileExists, Finding
from protocol.tree import Tree
from sidecar.checks.base import Ground, finding


async def file_exists(check: CheckFileExists, ground: Ground) -> Finding:
    """Passes if a file or directory is there. Links do not count: what they point to is not the work's."""
    try:
        there = await asyncio.to_thread(Tree(ground.cell.workspace).exists, check.path)
    except BadInput as exc:
        return finding(check, passed=False, detail=str(exc))
    return finding(check, passed=there, detail="" if there else f"{check.path!r} is not there")
