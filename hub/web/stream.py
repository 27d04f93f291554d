"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): one open answer.

A reader that takes nothing is cut off: what waits for it is bounded by the transport's buffer (64 KiB) and one write of
as much, and it resumes by the id of the last event it saw. A stream ends when its token does, and when the hub stops.
Several may write to one stream: each send is whole before the next.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final, Protocol

import structlog
from aiohttp import hdrs, web

from hub.web import forwarded, guard, porch
from hub.web.routing import SSE
from hub.web.services import IS_STREAMING, LIVE, PRINCIPAL, SETTINGS
from protocol.errors import Overloaded, Refused, Throttled, Unavailable

log = structlog.get_logger(__name__)
_RETRY_MS: Final = 1_000
_WRITE_BYTES: Final = 64 << 10
_BUSY_S: Final = 5.0
END_S: Final = 2.0
"""How long a reader whose stream was ended may take what was written by then."""


class Framed(Protocol):
    """Makes one event of ``data``; :func:`frame`, or what names it otherwise among others of one stream."""

    def __call__(self, data: bytes, *, seq: int | None = None, name: str = "") -> bytes:
        """The event, as it is sent."""


def frame(data: bytes, *, seq: int | str | None = None, name: str = "") -> bytes:
    """One event. ``data`` is one line; ``seq`` becomes its id, from which a reader resumes."""
    head = b"event: %s\n" % name.encode() if name else b""
    if seq is None:
        return b"%sdata: %s\n\n" % (head, data)
    return b"%sid: %s\ndata: %s\n\n" % (head, str(seq).encode(), data)


def chunk(data: bytes) -> bytes:
    """A piece of an answer whose length nobody knows (https://www.rfc-editor.org/rfc/rfc9112#section-7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Stream:
    """An open answer; use :func:`opened`."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._settings = request.app[SETTINGS]
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._asked_at = self._loop.time()
        self._wrote_at = self._asked_at
        self._is_cut = self._is_chunked = False
        self.response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: SSE, "X-Accel-Buffering": "no"})

    @property
    def keepalive_s(self) -> float:
        """How long to wait for news before calling :meth:`rest`."""
        return self._settings.keepalive_s

    @property
    def rests_in(self) -> float:
        """Seconds until :meth:`rest` has to be called, if nothing is sent before."""
        return max(0.0, min(self._asked_at, self._wrote_at) + self.keepalive_s - self._loop.time())

    async def begin(self) -> None:
        """Send the head; from here on what is said goes to the transport itself."""
        await self.response.prepare(self._request)
        self._request.writer.send_headers()
        self._is_chunked = self.response.headers.get(hdrs.TRANSFER_ENCODING) == "chunked"

    def tell(self, chunked: bytes) -> bool:
        """Write a :func:`chunk` at once; ``False``: it would have to wait, or it is time to look at the token."""
        line = self._request.transport
        now = self._loop.time()
        if (
            line is None
            or line.is_closing()
            or self._lock.locked()
            or not self._is_chunked
            or now - self._asked_at >= self.keepalive_s
            or line.get_write_buffer_size() + len(chunked) > _WRITE_BYTES
        ):
            return False
        self._wrote_at = now
        line.write(chunked)
        return True

    async def send(self, frames: Iterable[bytes]) -> None:
        """Send frames, with none of another sender between them; then :meth:`rest`.

        They are made when it is their turn, so an id can tell what was sent before.

        Raises:
            ConnectionError: the reader is gone, or takes nothing.
            Refused: its token has ended.
        """
        async with self._lock:
            self._look_at_token()
            waiting: list[bytes] = []
            size_bytes = 0
            for each in frames:
                # A long one goes alone: many readers share it, and joined to others it would be a copy for each.
                if waiting and size_bytes + len(each) > _WRITE_BYTES:
                    await self._write_all(b"".join(waiting))
                    waiting, size_bytes = [], 0
                waiting.append(each)
                size_bytes += len(each)
            if waiting:
                await self._write_all(b"".join(waiting))
            await self._show_life()

    async def _write_all(self, joined: bytes) -> None:
        # In pieces: the whole of a long frame would wait in memory for each reader that takes nothing.
        for start in range(0, len(joined), _WRITE_BYTES):
            await self._write(joined[start : start + _WRITE_BYTES])

    async def pause(self, seconds: float) -> None:
        """Let what happens in this time gather for the next send."""
        await asyncio.sleep(seconds)

    async def rest(self) -> None:
        """Show the reader (and what stands between) that the line lives, and check its token, whenever it is time.

        Raises:
            ConnectionError, Refused: as :meth:`send`.
        """
        async with self._lock:
            self._look_at_token()
            await self._show_life()

    def _look_at_token(self) -> None:
        now = self._loop.time()
        if now - self._asked_at >= self.keepalive_s:
            self._asked_at = now
            if guard.identify(self._request) != self._request[PRINCIPAL]:
                raise ConnectionResetError

    async def _show_life(self) -> None:
        if self._loop.time() - self._wrote_at >= self.keepalive_s * 0.9:
            await self._write(b": still here\n\n")

    async def _write(self, joined: bytes) -> None:
        self._wrote_at = self._loop.time()
        line = self._request.transport
        if line is None or line.is_closing():
            raise ConnectionResetError
        line.write(chunk(joined) if self._is_chunked else joined)
        if line.get_write_buffer_size() > _WRITE_BYTES:
            await self._until_taken()

    async def _until_taken(self) -> None:
        timer = self._loop.call_later(self._settings.stall_s, self._cut)
        try:
            await self._request.writer.drain()
        finally:
            timer.cancel()
        if self._is_cut:
            raise ConnectionResetError

    def _cut(self) -> None:
        """It takes nothing: with its connection what waits in a write ends."""
        stalled_s = self._settings.stall_s
        log.warning("stream_cut", path=self._request.path, stalled_s=stalled_s, next="the reader resumes by id")
        self._is_cut = True
        if self._request.transport is not None:
            porch.cut_off(self._request.transport)


@asynccontextmanager
async def opened(request: web.Request, after: int | None = None) -> AsyncIterator[Stream]:
    """A stream, with its head sent; ``after`` is the id a reader resumes from before it has seen an event.

    A reader that leaves, is cut off or loses its token ends the block quietly.

    Raises:
        Overloaded: too many streams are open.
        Throttled: too many of this token, or of this address.
    """
    live = request.app[LIVE]
    whose = _whose(request)
    task = asyncio.current_task()
    assert task is not None, "a handler runs in a task"
    live.streams[task] = whose
    try:
        stream = Stream(request)
        await stream.begin()
        request[IS_STREAMING] = True
        await stream.send([b"retry: %d\n" % _RETRY_MS + (b"id: %d\n\n" % after if after is not None else b"\n")])
        try:
            yield stream
        except (ConnectionError, Refused, Unavailable) as exc:
            log.debug("stream_ended", path=request.path, why=type(exc).__name__)
    finally:
        del live.streams[task]
        if task.cancelling() and (visitor := porch.visitor_of(request.transport)) is not None:
            asyncio.get_running_loop().call_later(END_S, visitor.end)  # what was written may never be taken


def _whose(request: web.Request) -> tuple[str, str]:
    """Token and address of a reader who may have one more stream."""
    token, address = request[PRINCIPAL].token, forwarded.address(request)
    open_, settings = request.app[LIVE].streams, request.app[SETTINGS]
    if len(open_) >= settings.max_streams:
        raise Overloaded(f"{len(open_)} streams are open, no more can be", _BUSY_S)
    if sum(whose[0] == token for whose in open_.values()) >= settings.max_streams_of_token:
        raise Throttled(f"{settings.max_streams_of_token} streams of this token are open, no more can be", _BUSY_S)
    if sum(whose[1] == address for whose in open_.values()) >= settings.max_streams_of_address:
        raise Throttled(f"{settings.max_streams_of_address} streams from {address} are open, no more can be", _BUSY_S)
    return token, address


def end_those_of(app: web.Application, token: str) -> None:
    """End the streams of a token that has been revoked, at once."""
    for task, whose in tuple(app[LIVE].streams.items()):
        if whose[0] == token:
            task.cancel()


async def end_all(app: web.Application) -> None:
    """End every open stream: the hub stops."""
    for task in tuple(app[LIVE].streams):
        task.cancel()
