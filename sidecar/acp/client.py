"""What an agent may ask of us: files of the workspace, terminals in the cell, and leave to do something.

Files are reached through :mod:`protocol.tree`, so no path leads out and git's own are not touched; a terminal is a
command of the attempt like any other. Whatever an agent asks permission for happens within the same walls, so it is
given by policy and nobody is asked. Caller: ``sidecar/executors/acp.py``.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from protocol.errors import BadInput, Problem
from protocol.tree import MAX_READ_BYTES, Tree
from sidecar.acp.shapes import Option, ToPermit, ToRead, ToStart, ToWrite, read
from sidecar.acp.story import Story
from sidecar.acp.terminals import Terminals
from sidecar.acp.wire import NoMethod, Params
from sidecar.core.programs import AgentProgram
from sidecar.sandbox.cell import Cell

MAX_WRITE_BYTES: Final = 8 << 20
_GIVEN: Final = ("allow_once", "allow_always")
_REFUSED: Final = ("reject_once", "reject_always")


class Client:
    """Our side of one prompt.

    Args:
        cell: of the attempt.
        program: whose rules hold.
        story: is told what is refused.
        log: takes (stream, text), for the live log.
        check: raises if nothing may happen for the attempt any more.
    """

    def __init__(
        self,
        cell: Cell,
        program: AgentProgram,
        story: Story,
        log: Callable[[str, str], None],
        check: Callable[[], None],
    ) -> None:
        self._root, self._tree, self._program, self._story = cell.workspace, Tree(cell.workspace), program, story
        self._check = check
        self.terminals = terminals = Terminals(cell, log)
        self._methods: dict[str, Callable[[Params], Awaitable[Mapping[str, Any]]]] = {
            "fs/read_text_file": self._read,
            "fs/write_text_file": self._write,
            "session/request_permission": self._permission,
            "terminal/create": self._start,
            "terminal/output": terminals.output,
            "terminal/wait_for_exit": terminals.wait,
            "terminal/kill": terminals.kill,
            "terminal/release": terminals.release,
        }

    def hear(self, method: str, params: Params) -> None:
        """Take news of the agent."""
        update = params.get("update")
        if method == "session/update" and isinstance(update, dict):
            self._story.hear(update)

    async def answer(self, method: str, params: Params) -> Mapping[str, Any]:
        """Answer a question of the agent.

        Raises:
            NoMethod: we do not offer that.
            BadInput, msgspec.ValidationError: what it asks for makes no sense, or leads out of the workspace.
            LeaseOver: nothing may happen for this attempt any more.
        """
        self._check()
        if (found := self._methods.get(method)) is None:
            raise NoMethod
        return await found(params)

    # --- files --------------------------------------------------------------------------------------------------------

    def _inside(self, path: str) -> str:
        """The path from the top of the workspace; agents give it from the root.

        Raises:
            BadInput: it leads out.
        """
        if not path.startswith("/"):
            return path
        plain = Path(os.path.normpath(path))
        for root in (self._root, self._root.resolve()):
            if plain.is_relative_to(root):
                return plain.relative_to(root).as_posix()
        raise BadInput([Problem("path", f"{path[:200]!r} is not in the workspace {self._root}")], "params")

    async def _read(self, params: Params) -> Mapping[str, Any]:
        wanted = read(params, ToRead)
        raw = await asyncio.to_thread(self._tree.read_whole, self._inside(wanted.path), MAX_READ_BYTES)
        text = raw.decode("utf-8", "replace")
        if wanted.line or wanted.limit is not None:
            first = max(1, wanted.line or 1) - 1
            last = None if wanted.limit is None else first + max(0, wanted.limit)
            text = "".join(text.splitlines(keepends=True)[first:last])
        return {"content": text}

    async def _write(self, params: Params) -> Mapping[str, Any]:
        wanted = read(params, ToWrite)
        raw = wanted.content.encode("utf-8", "replace")
        if len(raw) > MAX_WRITE_BYTES:
            raise BadInput([Problem("content", f"{len(raw)} bytes; at most {MAX_WRITE_BYTES}")], "params")
        await asyncio.to_thread(self._tree.write_bytes, self._inside(wanted.path), raw)
        return {}

    async def _start(self, params: Params) -> Mapping[str, Any]:
        wanted = read(params, ToStart)
        return self.terminals.create(wanted, self._inside(wanted.cwd or "."))

    # --- permission ---------------------------------------------------------------------------------------------------

    async def _permission(self, params: Params) -> Mapping[str, Any]:
        asked = read(params, ToPermit)
        kind = asked.tool_call.kind or "other"
        is_denied = kind in self._program.denies
        if is_denied:
            self._story.remark(f"[refused: {kind} {(asked.tool_call.title or '')[:200]}]")
        option = _first(asked.options, _REFUSED if is_denied else _GIVEN)
        if option is None:
            return {"outcome": {"outcome": "cancelled"}}
        return {"outcome": {"outcome": "selected", "optionId": option.option_id}}


def _first(options: list[Option], kinds: tuple[str, ...]) -> Option | None:
    """The first that is there of these kinds, in this order."""
    return next((option for kind in kinds for option in options if option.kind == kind), None)
