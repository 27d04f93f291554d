"""Servers that anybody may run: they take a request and answer nothing that could be used, each in its own way."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final

_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n"
_JSON: Final = _HEAD % b"application/json"
_CHUNKED: Final = _JSON + b"Transfer-Encoding: chunked\r\n\r\n"
_MUD_S: Final = 0.05


def _whole(head: bytes, body: bytes) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


_HUGE: Final = b",".join(b'{"name": "%d", "id": "%d"}' % (n, n) for n in range(300_000))
_WHOLE: Final = {
    "wrong_json": _whole(_JSON, b'{"models": 7, "data": {"id": []}, "candidates": "none", "choices": 1}'),
    "no_json": _whole(_JSON, b"{'models': ["),
    "wrong_type": _whole(_HEAD % b"text/html", b"<html>Please log in</html>"),
    "closed": b"",
    "cut": _JSON + b'Content-Length: 1000\r\n\r\n{"models": [',
    "huge": _whole(_JSON, b'{"models": [' + _HUGE + b'], "data": []}'),
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
}
_FOR_EVER: Final = {
    "endless": (_CHUNKED, b"10000\r\n" + b" " * 65_536 + b"\r\n"),
    "endless_head": (_JSON, b"X-More: yes\r\n" * 100),
    "mud": (_CHUNKED, b"1\r\n \r\n"),
}
LIES: Final = (*_WHOLE, *_FOR_EVER, "silent")


@dataclass
class Liar:
    """One of them; ``asked``: somebody has sent it a request."""

    lie: str
    url: str = ""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answering: set[asyncio.Task[None]] = field(default_factory=set)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Lie to one client, as long as it listens."""
        task = asyncio.current_task()
        assert task is not None
        self.answering.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked.set()
            await self._lie(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # nobody listens any more
        except asyncio.CancelledError:
            return  # the end of the test; the stream's own callback would take it for an error
        finally:
            self.answering.discard(task)
            writer.close()

    async def _lie(self, writer: asyncio.StreamWriter) -> None:
        if self.lie in _WHOLE:
            writer.write(_WHOLE[self.lie])
            await writer.drain()
        elif self.lie in _FOR_EVER:
            head, piece = _FOR_EVER[self.lie]
            writer.write(head)
            while True:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(_MUD_S if self.lie == "mud" else 0)
        else:
            await asyncio.Event().wait()  # silent


@contextlib.asynccontextmanager
async def lying(lies: Sequence[str] = LIES) -> AsyncIterator[list[Liar]]:
    """A server for each of these lies, each on a port of its own."""
    liars = [Liar(lie) for lie in lies]
    servers = [await asyncio.start_server(liar.answer, "127.0.0.1", 0) for liar in liars]
    for liar, server in zip(liars, servers, strict=True):
        liar.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield liars
    finally:
        for server in servers:
            server.close()
        answering = [task for liar in liars for task in liar.answering]
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering)
