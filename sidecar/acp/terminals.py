"""Terminals that an agent asks for: commands in the cell of the attempt, each watched by its number.

A terminal starts in a cell of its own like every command, so its background ends with it. Of its output the end is
kept, as much as the agent wants and not more than we keep of any command. Caller: ``sidecar/acp/client.py``.
"""

import asyncio
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from protocol.errors import BadInput, Problem
from protocol.limits import MAX_OUTPUT_BYTES
from sidecar.acp.shapes import OfTerminal, ToStart, read
from sidecar.acp.wire import Params
from sidecar.child import Tail
from sidecar.process import ProcessOutcome
from sidecar.sandbox.cell import Cell

MAX_TERMINALS: Final = 32
"""Terminals that an agent has not released."""
_IN_FOLDER: Final = 'cd -- "$1" && shift && exec "$@"'


@dataclass(slots=True)
class _Terminal:
    tail: Tail
    limit_bytes: int
    running: asyncio.Task[ProcessOutcome]
    seen_bytes: int = 0


class Terminals:
    """Those of one prompt.

    Args:
        cell: where commands run.
        log: takes (stream, text), for the live log.
    """

    def __init__(self, cell: Cell, log: Callable[[str, str], None]) -> None:
        self._cell, self._log = cell, log
        self._open: dict[str, _Terminal] = {}
        self._made = 0

    def create(self, wanted: ToStart, folder: str) -> dict[str, Any]:
        """Start a command in a folder of the workspace, given from its top.

        Raises:
            BadInput: there are too many terminals.
        """
        if len(self._open) >= MAX_TERMINALS:
            raise BadInput([Problem("terminal", f"at most {MAX_TERMINALS} at a time; release some")], "params")
        limit = MAX_OUTPUT_BYTES if wanted.output_byte_limit is None else wanted.output_byte_limit
        limit = max(0, min(limit, MAX_OUTPUT_BYTES))
        self._made += 1
        name = f"t{self._made}"
        tail = Tail(limit)
        terminal = _Terminal(tail, limit, asyncio.create_task(self._run(name, wanted, folder)))
        self._open[name] = terminal
        return {"terminalId": name}

    async def _run(self, name: str, wanted: ToStart, folder: str) -> ProcessOutcome:
        # Agents give a program with its arguments, or a whole line for a shell.
        argv = [wanted.command, *wanted.args] if wanted.args else ["/bin/sh", "-c", wanted.command]
        if PurePosixPath(folder) != PurePosixPath():
            argv = ["/bin/sh", "-c", _IN_FOLDER, "sh", f"./{folder}", *argv]

        def keep(stream: str, text: str) -> None:
            terminal = self._open.get(name)
            if terminal is not None:
                terminal.seen_bytes += len(text.encode("utf-8", "replace"))
                terminal.tail.add(text)
            self._log(stream, text)

        env = {each.name: each.value for each in wanted.env or ()}
        return await self._cell.run(argv, env=env, on_output=keep, max_output_bytes=0)

    async def output(self, params: Params) -> Mapping[str, Any]:
        """What a terminal has said so far, and how it ended if it has."""
        terminal = self._found(params)
        ended = {"exitStatus": _status(terminal.running)} if terminal.running.done() else {}
        is_cut = terminal.seen_bytes > terminal.limit_bytes
        return {"output": terminal.tail.text() if terminal.limit_bytes else "", "truncated": is_cut, **ended}

    async def wait(self, params: Params) -> Mapping[str, Any]:
        """How it ended, as soon as it has."""
        terminal = self._found(params)
        await asyncio.wait({terminal.running})
        return _status(terminal.running)

    async def kill(self, params: Params) -> Mapping[str, Any]:
        """End its command; what it has said is still there."""
        await _ended(self._found(params))
        return {}

    async def release(self, params: Params) -> Mapping[str, Any]:
        """End its command, and forget it."""
        terminal = self._found(params)
        await _ended(terminal)
        self._open = {name: each for name, each in self._open.items() if each is not terminal}
        return {}

    async def close(self) -> None:
        """End them all."""
        await asyncio.gather(*(_ended(terminal) for terminal in self._open.values()))
        self._open.clear()

    def _found(self, params: Params) -> _Terminal:
        asked = read(params, OfTerminal)
        if (found := self._open.get(asked.terminal_id)) is None:
            raise BadInput([Problem("terminalId", f"there is no terminal {asked.terminal_id[:40]!r}")], "params")
        return found


async def _ended(terminal: _Terminal) -> None:
    terminal.running.cancel()
    await asyncio.wait({terminal.running})


def _status(running: "asyncio.Task[ProcessOutcome]") -> dict[str, Any]:
    """In the words of the protocol.

    Raises:
        WorkFailed: it could not be started.
        LeaseOver: nothing may happen for this attempt any more.
    """
    if running.cancelled():
        return {"exitCode": None, "signal": signal.SIGKILL.name}
    code = running.result().exit_code
    if code is None:
        return {"exitCode": None, "signal": signal.SIGKILL.name}
    if code < 0:
        known = {each.value: each.name for each in signal.Signals}
        return {"exitCode": None, "signal": known.get(-code, str(-code))}
    return {"exitCode": code, "signal": None}
