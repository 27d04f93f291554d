"""A model that works in turns, for tests that stop it between two of them: a stand-in for Ollama in a thread.

What it answers depends on nothing but how many results of tools the conversation holds, so a conversation that goes on
elsewhere gets the next answer, and one that begins anew is found out by :attr:`Turns.asked`.
"""

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support.ollama_server import Model, OllamaServer, Reply

PATIENCE_S = 60.0


def _write(turn: int) -> tuple[str, dict[str, Any]]:
    return "write", {"path": f"part-{turn}.txt", "content": f"written in turn {turn}\n"}


@dataclass
class Turns:
    """Writes ``part-<turn>.txt`` in each of ``last`` turns, then finishes.

    Attributes:
        asked: the turn that each request was for, in order; ``said``: what the newest message of each said.
        holds: turns whose answer waits until :meth:`release`, the first time.
        call: what it does in a turn, if it is to do something else.
    """

    last: int = 7
    model: str = "qwen3:8b"
    holds: set[int] = field(default_factory=set)
    call: Callable[[int], tuple[str, dict[str, Any]]] = _write
    asked: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    _ready: threading.Event = field(default_factory=threading.Event)
    _end: asyncio.Event = field(default_factory=asyncio.Event)
    _gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __enter__(self) -> Self:
        self.server = OllamaServer(models=(Model(self.model),), script=self._reply)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        await self.server.start()
        self._ready.set()
        await self._end.wait()
        await self.server.stop()

    def _reply(self, body: dict[str, Any]) -> Reply:
        messages = body["messages"]
        turn = 1 + sum(message["role"] == "tool" for message in messages)
        self.asked.append(turn)
        self.said.append(json.dumps(messages[-1], ensure_ascii=False))
        calls = (self.call(turn),) if turn <= self.last else (("finish", {"summary": "all parts are written"}),)
        if turn in self.holds:
            self.holds.discard(turn)
            return Reply(text=f"turn {turn} begins. ", tool_calls=calls, hold=self._gate)
        return Reply(text=f"turn {turn}. ", tool_calls=calls)

    def release(self) -> None:
        """Let the answer that waits go on."""
        self._loop.call_soon_threadsafe(self._gate.set)

    def config(self, file: Any) -> str:  # noqa: ANN401 - a path
        """Settings for a sidecar beside it, written to ``file``."""
        file.write_text(f'[[endpoints]]\nid = "ollama"\nkind = "ollama"\nurl = "{self.server.url}"\n')
        return str(file)
