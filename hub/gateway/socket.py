"""``/mesh``: the WebSockets that sidecars open. Carries frames; what they mean is ``server.py``.

The route has checked the token of the request; whether it still counts is looked at again for as long as the socket
stands.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from hub.core.access import Principal
from hub.gateway.arrivals import Arrivals
from hub.gateway.server import Gateway
from protocol.clock import Clock
from protocol.errors import Overloaded, ProtocolViolation, Unavailable
from protocol.limits import MAX_FRAME_BYTES
from protocol.model import Role

CLOSE_S: Final = 2.0
"""How long a closing handshake may take before the socket is cut off; twice what the library waits for its answer."""
RETRY_AFTER_S: Final = 2.0
ANYBODY: Final = Principal("", Role.AGENT)
_CLOSED: Final = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED})


class Door:
    """Lets sidecars in to the gateway."""

    def __init__(
        self,
        gateway: Gateway,
        is_welcome: Callable[[web.Request], bool],
        *,
        clock: Clock,
        fleet: Callable[[], int] = lambda: 0,
        received_bytes: Callable[[web.Request], int] = lambda _request: 0,
        why_closed: Callable[[], str] = str,
        who: Callable[[web.Request], Principal] = lambda _request: ANYBODY,
        channels: Callable[[web.Request], frozenset[str]] = lambda _request: frozenset(),
    ) -> None:
        """Prepare a door.

        Args:
            gateway: serves what comes in.
            is_welcome: whether the token of a request still lets it in.
            clock: the time.
            fleet: how many sidecars are known.
            received_bytes: what has come over the connection of a request so far.
            why_closed: why nobody is let in for the moment; empty: all are.
            who: whose token a request has shown.
            channels: certificates that this hub shows to whoever has sent a request, if it knows.
        """
        self._who, self._channels = who, channels
        self._gateway, self._is_welcome, self._received_bytes = gateway, is_welcome, received_bytes
        self._clock, self._fleet, self._why_closed = clock, fleet, why_closed
        self._arrivals = Arrivals(clock.monotonic())

    async def accept(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one socket until it closes.

        Raises:
            Unavailable: nobody is let in for the moment.
            Overloaded: too many have come at once; it says when to come back.
        """
        if why := self._why_closed():
            raise Unavailable(why, RETRY_AFTER_S)
        if wait_s := self._arrivals.ask(self._clock.monotonic(), self._fleet()):
            raise Overloaded("too many sidecars come in at once", wait_s)
        socket = web.WebSocketResponse(compress=False, max_msg_size=MAX_FRAME_BYTES + 1, autoping=True, timeout=1.0)
        await socket.prepare(request)
        line = _Socket(request, socket, self._is_welcome, self._received_bytes, self._who(request))
        line.channels = self._channels(request)
        await self._gateway.serve(line)
        return socket


class _Socket:
    """A :class:`hub.gateway.line.Line`."""

    channels: frozenset[str] = frozenset()

    def __init__(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        is_welcome: Callable[[web.Request], bool],
        received_bytes: Callable[[web.Request], int],
        who: Principal,
    ) -> None:
        self.token, self.is_for = who.token, who.is_for
        self._request, self._socket, self._is_welcome = request, socket, is_welcome
        self._received_bytes = received_bytes

    @property
    def received_bytes(self) -> int:
        return self._received_bytes(self._request)

    @property
    def is_welcome(self) -> bool:
        return self._is_welcome(self._request)

    async def receive(self) -> bytes | None:
        frame = await self._socket.receive()
        if frame.type in _CLOSED:
            return None
        if frame.type is not WSMsgType.BINARY:
            raise ProtocolViolation("a binary frame", _describe(frame))
        data: bytes = frame.data
        return data

    async def send(self, frame: bytes) -> None:
        await self._socket.send_bytes(frame)

    @property
    def is_free(self) -> bool:
        transport = self._request.transport
        return transport is not None and not transport.get_write_buffer_size() and not self._socket.closed

    def put(self, frame: bytes) -> None:
        sending = self._socket.send_bytes(frame)
        try:
            sending.send(None)
        except StopIteration:
            return
        sending.close()
        raise AssertionError("a line that is free takes a little at once")

    async def close(self, *, refused: bool = False, why: str = "") -> None:
        code = WSCloseCode.POLICY_VIOLATION if refused else WSCloseCode.GOING_AWAY if why else WSCloseCode.OK
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._socket.close(code=code, message=why.encode())
        except TimeoutError:
            if self._request.transport is not None:
                self._request.transport.abort()


def _describe(frame: WSMessage) -> str:
    return f"{frame.type.name.lower()}{f' ({frame.extra})' if frame.extra else ''}"
