"""A WebSocket of a sidecar, once the HTTP server has let it in and is done with it.

The server would keep the request, its own parser, the tasks and the layers of handlers that led here for as long as the
socket stands: 20 kB of each of thousands of sidecars that say nothing. So the connection is taken from it
(:func:`take_over`), and only what reads frames stays. Frames are read by the library's own reader (RFC 6455), those
that are sent need no mask. Nothing is ever compressed: the answer to the handshake has agreed on no extension.

Whoever listens is called with a frame as it comes, in the turn of the event loop that read it, instead of being woken
in the next one through the library's queue.

Callers: ``socket.py``, which has shaken hands.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from struct import Struct
from typing import Final, cast

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web
from aiohttp._websocket.models import WSMessageTextBytes  # no other place has it
from aiohttp._websocket.reader import WebSocketDataQueue  # nor this
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import WebSocketError, WebSocketReader
from aiohttp.streams import EofStream

from hub.core.access import Principal
from protocol.errors import ProtocolViolation
from protocol.limits import MAX_FRAME_BYTES

CLOSE_S: Final = 2.0
"""How long a closing handshake may take before the socket is cut off."""
ANSWER_S: Final = 1.0
"""How long the other end has of it to say that it closes, too."""
QUEUE_BYTES: Final = 64 << 10
"""Twice as much may wait to be acted on before no more is read."""
_JOINED_BYTES: Final = 16 << 10
"""A frame that is longer is not copied to stand behind its head."""
_FIN: Final = 0x80
_SHORT, _MIDDLE, _LONG = Struct("!BB").pack, Struct("!BBH").pack, Struct("!BBQ").pack
_MOST_SHORT, _MOST_MIDDLE = 125, 0xFFFF
_CODE: Final = Struct("!H").pack
_MOST_WHY_BYTES: Final = 120
"""A control frame holds 125 bytes, two of them for the code."""
_OURS: Final = WSMessage(WSMsgType.CLOSING, None, None)
"""Stands in the queue when this end has closed, to wake whoever waits for a frame."""


class _Frames(WebSocketDataQueue):
    """What the reader has read. With somebody to tell, a message is not queued, unless it would overtake another.

    Attributes:
        tell: called with a message, and raises nothing; ``None``: it is queued.
    """

    __slots__ = ("tell",)

    def __init__(self, protocol: BaseProtocol, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(protocol, QUEUE_BYTES, loop=loop)
        self.tell: Callable[[bytes], None] | None = None

    def feed_data(self, data: WSMessage | WSMessageTextBytes, size: int) -> None:
        """One frame, or one message of several, has come."""
        if self.tell is None or self._buffer or data[0] is not WSMsgType.BINARY:
            super().feed_data(data, size)
        else:
            self.tell(data[1])


class WebSocket(BaseProtocol):
    """A :class:`hub.gateway.line.Line` over a transport."""

    __slots__ = (
        "_failure",
        "_is_closed",
        "_is_waiting",
        "_is_welcome",
        "_listener",
        "_queue",
        "_reader",
        "_who",
        "_yielded",
        "channels",
        "received_bytes",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        who: Principal,
        is_welcome: Callable[[Principal], bool],
        channels: frozenset[str] = frozenset(),
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(loop)
        self.transport = transport
        self._upgraded = True  # the reader is paused with the transport, by its queue
        self._who, self._is_welcome, self.channels = who, is_welcome, channels
        self._queue = _Frames(self, loop)
        self._reader = WebSocketReader(self._queue, MAX_FRAME_BYTES + 1, compress=False, decode_text=False)
        self.received_bytes = 0
        self._is_closed = self._is_waiting = False
        self._yielded: asyncio.Future[None] | None = None  # who closes waits until nobody else waits for a frame
        self._listener: tuple[Callable[[bytes], None], Context] | None = None  # and its context: what is logged says so
        self._failure: Exception | None = None  # that it has raised

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Some of it is here."""
        self.received_bytes += len(data)
        # libuv fills its buffer (256 kB) up to 32 times in one turn of the loop, unless reading is paused meanwhile.
        # Only what is queued pauses it: told at once, a flood would be acted on in one turn, megabytes of it.
        if self._listener is None or len(data) > QUEUE_BYTES:
            self._reader.feed_data(data)
            return
        # Only now: what the queue lets the reader go on with, whoever takes something out of it has not acted on yet.
        self._queue.tell = self._tell
        self._reader.feed_data(data)
        self._queue.tell = None

    def eof_received(self) -> None:
        """It will say no more: the loop closes the connection."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is gone."""
        super().connection_lost(exc)
        self._queue.feed_eof()

    # --- Line ---------------------------------------------------------------------------------------------------------

    @property
    def token(self) -> str:
        """As :class:`hub.gateway.line.Line` says."""
        return self._who.token

    def is_for(self, sidecar: str) -> bool:
        """As :class:`hub.gateway.line.Line` says."""
        return self._who.is_for(sidecar)

    @property
    def is_welcome(self) -> bool:
        """As :class:`hub.gateway.line.Line` says."""
        return self._is_welcome(self._who)

    async def receive(self) -> bytes | None:
        """As :class:`hub.gateway.line.Line` says."""
        while not self._is_closed:
            self._is_waiting = True
            try:
                frame = await self._queue.read()
            except EofStream:
                self._waits_no_more()
                await self.close()
                return None
            except WebSocketError as exc:
                self._waits_no_more()
                await self._close(exc.code)
                raise ProtocolViolation("a binary frame", f"{exc}") from exc
            finally:
                self._waits_no_more()
            kind = frame.type
            if kind is WSMsgType.BINARY:
                data: bytes = frame.data  # as its kind says; a cast would be a call
                return data
            if kind is WSMsgType.PING:
                await self._write(WSMsgType.PONG, frame.data)
            elif kind is WSMsgType.CLOSE:
                await self._close(WSCloseCode.OK, is_answer=True)
            elif kind is WSMsgType.TEXT:
                raise ProtocolViolation("a binary frame", "text")
        return None

    async def listen(self, heard: Callable[[bytes], None]) -> None:
        """As :class:`hub.gateway.line.Line` says."""
        self._listener, self._failure = (heard, copy_context()), None
        try:
            while (frame := await self.receive()) is not None and not self._is_closed and self._failure is None:
                heard(frame)
            if self._failure is not None:
                raise self._failure
        finally:
            self._listener = self._failure = None

    def _tell(self, frame: bytes) -> None:
        assert self._listener is not None, "somebody listens"
        heard, context = self._listener
        try:
            context.run(heard, frame)
        except Exception as exc:  # noqa: BLE001 - the transport would only log it; `listen` raises it, whatever it is
            self._listener, self._failure, self._queue.tell = None, exc, None
            self._queue.feed_data(WSMessage(WSMsgType.BINARY, frame, None), len(frame))

    async def send(self, frame: bytes) -> None:
        """As :class:`hub.gateway.line.Line` says."""
        if self._is_closed:
            raise ConnectionResetError("the socket is closing")
        await self._write(WSMsgType.BINARY, frame)

    @property
    def is_free(self) -> bool:
        """As :class:`hub.gateway.line.Line` says."""
        return not self._is_closed and self.transport is not None and not self.transport.get_write_buffer_size()

    def put(self, frame: bytes) -> None:
        """As :class:`hub.gateway.line.Line` says."""
        self._put(WSMsgType.BINARY, frame)

    async def close(self, *, refused: bool = False, why: str = "") -> None:
        """As :class:`hub.gateway.line.Line` says."""
        code = WSCloseCode.POLICY_VIOLATION if refused else WSCloseCode.GOING_AWAY if why else WSCloseCode.OK
        await self._close(code, why.encode())

    def cut_off(self) -> None:
        """End it at once, if it still stands; what the other end has not taken is dropped."""
        if self.transport is not None:
            self.transport.abort()

    # --- frames -------------------------------------------------------------------------------------------------------

    def _waits_no_more(self) -> None:
        """Nobody waits for a frame; who closes may read the answer."""
        self._is_waiting = False
        if self._yielded is not None and not self._yielded.done():
            self._yielded.set_result(None)

    def _put(self, kind: WSMsgType, data: bytes) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the connection is gone")
        size, first = len(data), _FIN | kind
        if size <= _MOST_SHORT:
            head = _SHORT(first, size)
        elif size <= _MOST_MIDDLE:
            head = _MIDDLE(first, 126, size)
        else:
            head = _LONG(first, 127, size)
        if size <= _JOINED_BYTES:
            transport.write(head + data)
        else:
            transport.write(head)
            transport.write(data)

    async def _write(self, kind: WSMsgType, data: bytes) -> None:
        self._put(kind, data)
        if self._paused:
            await self._drain_helper()

    async def _close(self, code: int, why: bytes = b"", *, is_answer: bool = False) -> None:
        if self._is_closed:
            return
        self._is_closed, self._listener, self._queue.tell = True, None, None
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._write(WSMsgType.CLOSE, _CODE(code) + why[:_MOST_WHY_BYTES])
        except TimeoutError:
            self.cut_off()
        except ConnectionError:
            pass  # it is gone already
        else:
            if not is_answer:
                await self._closed_by_both()
        finally:
            if self.transport is not None:
                if self.transport.get_write_buffer_size():  # who takes nothing would keep it for ever
                    self._loop.call_later(CLOSE_S, self.cut_off)
                self.transport.close()

    async def _closed_by_both(self) -> None:
        """Wait until the other end has closed, too, but not for long."""
        try:
            async with asyncio.timeout(ANSWER_S):
                if self._is_waiting:
                    self._yielded = self._loop.create_future()
                    self._queue.feed_data(_OURS, 0)
                    await self._yielded
                while (await self._queue.read()).type is not WSMsgType.CLOSE:
                    pass
        except (TimeoutError, EofStream, WebSocketError):
            pass


class _Rest:
    """What came behind the request, in the place of a parser."""

    def __init__(self) -> None:
        self.said = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """More has come."""
        self.said += data
        return False, b""

    def feed_eof(self) -> None:
        """Somebody else has the connection now."""


def take_over(
    request: web.Request,
    *,
    who: Principal,
    is_welcome: Callable[[Principal], bool],
    channels: frozenset[str] = frozenset(),
) -> WebSocket:
    """The connection of a request, for which the hand was shaken; for the HTTP server it is gone.

    Raises:
        ConnectionResetError: it is indeed.
    """
    server, transport = request.protocol, request.transport
    if transport is None:
        raise ConnectionResetError("the connection is gone")
    rest = _Rest()
    server.set_parser(cast("WebSocketReader", rest))
    socket = WebSocket(transport, who=who, is_welcome=is_welcome, channels=channels)
    if server.writing_paused:
        socket.pause_writing()
    transport.set_protocol(socket)
    server.transport = None  # else it would close it
    server.connection_lost(None)
    if rest.said:
        socket.data_received(rest.said)
    return socket
