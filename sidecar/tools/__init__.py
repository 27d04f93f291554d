"""What a model may do in a workspace: the tools of the ``agent`` executor."""

from collections.abc import Callable, Sequence
from typing import Any

from sidecar.sandbox.cell import Cell
from sidecar.tools.base import Tool
from sidecar.tools.files import file_tools
from sidecar.tools.shell import run_tool


def tools(
    cell: Cell,
    *,
    seconds_left: Callable[[], float],
    log: Callable[[str, str], None],
    git: Sequence[Tool[Any]] = (),
) -> dict[str, Tool[Any]]:
    """All tools of one attempt by name: list, read, search, edit, write, run; of git where it has any."""
    found = (
        *file_tools(cell),
        run_tool(cell, seconds_left=seconds_left, log=log),
        *git,
    )
    return {tool.name: tool for tool in found}
