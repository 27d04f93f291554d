"""Stands between a client and a server of models, passes everything on as it comes, and reads the server's own count.

So a test can hold what we say was used against what the server said on the wire, whatever we made of it.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Self

import aiohttp
from aiohttp import web

from tests.support.serving import served

PATIENCE_S: Final = 60.0
_OURS: Final = frozenset({"host", "content-length", "accept-encoding", "transfer-encoding", "connection"})


@dataclass(frozen=True)
class Passed:
    """One request with its answer, byte by byte."""

    method: str
    path: str
    asked: bytes
    answered: bytes


@dataclass
class Tap:
    """A proxy in a thread of its own.

    Args:
        target: the server's address, without a path.
    Attributes:
        url: where clients find it; ``passed``: what went by, in order of its ends.
    """

    target: str
    url: str = ""
    passed: list[Passed] = field(default_factory=list)
    _ready: threading.Event = field(default_factory=threading.Event)
    _end: asyncio.Event = field(default_factory=asyncio.Event)

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._pass)
        async with aiohttp.ClientSession(auto_decompress=False) as self._session, served(app, end_s=1.0) as self.url:
            self._ready.set()
            await self._end.wait()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        asked, answered = await request.read(), bytearray()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OURS}
        where = f"{self.target}{request.rel_url}"
        async with self._session.request(request.method, where, data=asked, headers=headers) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OURS}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                answered += piece
                await response.write(piece)
        self.passed.append(Passed(request.method, request.path, asked, bytes(answered)))
        await response.write_eof()
        return response

    # --- what went by -------------------------------------------------------------------------------------------------

    def bodies(self) -> list[dict[str, Any]]:
        """The questions that were put to a model, in order."""
        return [json.loads(passed.asked) for passed in self.passed if _is_question(passed)]

    def counted(self) -> tuple[int, int]:
        """Tokens in and out, as the server has counted them in the answers to all questions."""
        counts = [_counted(passed.answered) for passed in self.passed if _is_question(passed)]
        return sum(count[0] for count in counts), sum(count[1] for count in counts)


def _is_question(passed: Passed) -> bool:
    if passed.method != "POST":
        return False
    asked = json.loads(passed.asked)
    return bool(asked.get("messages") or asked.get("contents"))


def _counted(answered: bytes) -> tuple[int, int]:
    """What the last word of an answer says; counts grow while it comes."""
    read = written = 0
    for event in _events(answered):
        if event.get("type") == "message_start":
            event = event["message"]  # noqa: PLW2901 - Claude's first event holds a whole message
        usage = event.get("usage") or event.get("usageMetadata") or event
        for name in ("prompt_eval_count", "input_tokens", "prompt_tokens", "promptTokenCount"):
            read = usage.get(name) or read
        for name in ("eval_count", "output_tokens", "completion_tokens", "candidatesTokenCount"):
            written = usage.get(name) or written
    return read, written


def _events(answered: bytes) -> Iterator[dict[str, Any]]:
    for line in answered.decode().splitlines():
        text = line.removeprefix("data:").strip()
        if text.startswith("{"):
            yield json.loads(text)
