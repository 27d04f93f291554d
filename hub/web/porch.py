"""One connection in front of the HTTP server: what came over it, and whether its caller is known.

Before it is let in, a connection is nothing but a socket that somebody listens to now and then
(``hub/web/doorstep.py``): no transport, no parser, no task. It gets a transport when it has said something whole, and
the server's own protocol with the first whole request, which over TLS comes after the handshake. Who may come in, who
waits and who has to go is ``hub/core/porch.py``; with a valid token (``hub/web/guard.py`` tells) a visitor is a guest.

What arrives passes through here, until a WebSocket of a sidecar takes the connection away. Of what leaves, the kernel
holds little that it has not sent: a heartbeat would stand behind it, and readers that never read would fill it.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from typing import Any, Final, Protocol, cast

import structlog

from hub.core.first_words import wanted_of_request
from hub.core.porch import ANSWER_S, Caller
from protocol.limits import UNSENT_BYTES

log = structlog.get_logger(__name__)
SHUTDOWN_S: Final = 2.0
"""How long the end of TLS may take before a connection is simply closed."""
MAX_HEAD_BYTES: Final = 4 << 10
"""The head of a request that is longer is not remembered."""
_AT_ONCE: Final = struct.pack("ii", 1, 0)


class ShortWay(Protocol):
    """What understands some of the requests of a connection without the HTTP server."""

    def take(self, data: bytes) -> bytes:
        """Take what has come; what has to go the long way is given back."""
        ...

    def leave(self) -> None:
        """The connection is gone."""
        ...


class Step(Protocol):
    """What a visitor comes over."""

    tls: ssl.SSLContext | None

    def inner(self) -> asyncio.Protocol:
        """The server's protocol for one more connection."""
        ...

    def heard(self, visitor: "Visitor") -> None:
        """A request of it is whole."""
        ...

    def expected(self, visitor: "Visitor") -> None:
        """It has yet to say something."""
        ...

    def leave(self, visitor: "Visitor") -> None:
        """It is known, or gone."""
        ...


class Visitor(Caller, asyncio.Protocol):
    """One connection."""

    __slots__ = (
        "_early",
        "_entering",
        "_inner",
        "_is_refused",
        "_step",
        "_transport",
        "came_bytes",
        "is_guest",
        "is_settled",
        "is_stuck",
        "last",
        "line",
        "peer",
        "short_way",
        "wanted",
    )

    def __init__(self, step: Step, line: socket.socket, peer: str) -> None:
        super().__init__()
        self._step, self.line, self.peer = step, line, peer
        self._entering: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._inner: asyncio.Protocol | None = None
        self._early, self.wanted = b"", 1
        self._is_refused = self.is_guest = self.is_stuck = False
        self.short_way: ShortWay | None = None
        self.is_settled = True
        """Everything that has come was answered, as far as is known."""
        self.last, self.came_bytes = b"", 0
        """The begin of what has come since everything before it was answered, if it may be a request; its length."""

    @property
    def is_outside(self) -> bool:
        """Whether it is a bare socket still."""
        return self._entering is None and not self._is_refused

    @property
    def is_served(self) -> bool:
        """Whether the server has it, and ends it when it ends."""
        return self._inner is not None

    def asks(self) -> None:
        """A request of it is complete, and will be answered."""
        self._step.heard(self)

    def answered(self) -> None:
        """It may ask again."""
        self._step.expected(self)

    def is_known(self) -> None:
        """It has shown a valid token: from now on it is a guest."""
        if not self.is_guest:
            self.is_guest = True
            self._step.leave(self)

    def turn_away(self) -> None:
        """Close it without a word."""
        self._step.leave(self)
        self._is_refused = True
        if self._transport is not None:
            cut_off(self._transport)
        elif self._entering is not None:
            _drop_the_rest(self.line)
            self._entering.cancel()
        else:
            hang_up(self.line)

    def end(self) -> None:
        """Cut it off, if it still stands."""
        if self._inner is not None and self._transport is not None:
            cut_off(self._transport)

    def enter(self) -> None:
        """Come in: from now on the event loop has the connection, and what was said stands in it still."""
        if self.wanted > 1:
            with contextlib.suppress(OSError):  # some systems take no options of a socket whose other end is gone
                self.line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            self.wanted = 1
        self.line.setblocking(False)  # noqa: FBT003 - the socket's own signature
        _keep_short(self.line)
        self._entering = asyncio.get_running_loop().create_task(self._enter())
        self._entering.add_done_callback(self._entered)

    async def _enter(self) -> None:
        tls = self._step.tls
        limits: dict[str, Any] = (
            {} if tls is None else {"ssl_handshake_timeout": ANSWER_S, "ssl_shutdown_timeout": SHUTDOWN_S}
        )
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: self, self.line, ssl=tls, **limits)
        except OSError as exc:
            log.debug("handshake_failed", address=self.peer, why=str(exc)[:200])

    def _entered(self, _task: asyncio.Task[None]) -> None:
        if self._transport is None:  # it has gone, or was turned away
            self._step.leave(self)
            self.line.close()

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is in, and its handshake is done."""
        self._transport = cast("asyncio.Transport", transport)  # those of uvloop are nobody's children
        if self._is_refused:
            cut_off(transport)
        elif self._step.tls is not None:
            self._step.expected(self)

    def data_received(self, data: bytes) -> None:
        """It says something."""
        if self._inner is not None:
            self.go_on(data)
            return
        self._early += data
        if len(self._early) < self.wanted or self._is_refused:
            return
        if not (wanted := wanted_of_request(self._early)):
            early, self._early = self._early, b""
            assert self._transport is not None, "it is in"
            self._inner = self._step.inner()
            self._inner.connection_made(self._transport)
            self.go_on(early)
        self.wanted = wanted

    def go_on(self, data: bytes) -> None:
        """Hand on what it says: the short way, if there is one and it takes that, or to the HTTP server."""
        if self.is_settled and self.short_way is not None and not (data := self.short_way.take(data)):
            return
        self._go_long(data)

    def _go_long(self, data: bytes) -> None:
        if self.is_settled or _is_idle(self._inner):
            self.last, self.came_bytes = data[:MAX_HEAD_BYTES] if data.startswith(b"POST ") else b"", len(data)
        elif self.last:
            self.last += data[: MAX_HEAD_BYTES - len(self.last)]
            self.came_bytes += len(data)
        self.is_settled = False
        if self._inner is not None:
            self._inner.data_received(data)

    def hold(self) -> None:
        """Hear no more of it for now."""
        if (line := self._standing()) is not None:
            line.pause_reading()

    def hear(self, later: bytes) -> None:
        """Hear it again; ``later`` came before it was held."""
        if (line := self._standing()) is not None:
            line.resume_reading()
            self.go_on(later)

    def go_long(self, data: bytes) -> None:
        """Hear it again; the short way has taken ``data`` and cannot answer it."""
        if (line := self._standing()) is not None:
            line.resume_reading()
            self._go_long(data)

    def answer(self, data: bytes) -> None:
        """Answer, if it is still there."""
        if (line := self._standing()) is not None:
            line.write(data)

    def _standing(self) -> asyncio.Transport | None:
        return (
            None if self._inner is None or self._transport is None or self._transport.is_closing() else self._transport
        )

    def eof_received(self) -> bool | None:
        """It will say no more."""
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        """It takes nothing for now."""
        self.is_stuck = True
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It takes again."""
        self.is_stuck = False
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        if self.short_way is not None:
            self.short_way.leave()
        self._is_refused, self.short_way = True, None  # each knows the other
        self._step.leave(self)
        if self._inner is not None:
            inner, self._inner = self._inner, None
            inner.connection_lost(exc)


def visitor_of(transport: asyncio.BaseTransport | None) -> Visitor | None:
    """Who is on this connection; ``None`` if it did not come over a porch (a test that serves the bare application)."""
    # Not asked for its class: the transports of uvloop are nobody's children.
    found = None if transport is None else cast("asyncio.Transport", transport).get_protocol()
    return found if isinstance(found, Visitor) else None


def _is_idle(server: asyncio.Protocol | None) -> bool:
    """Whether the HTTP server has answered every request of this connection, and waits for the next one to be whole."""
    waiter = getattr(server, "_waiter", None)  # aiohttp tells nobody
    return waiter is not None and not waiter.done()


def cut_off(transport: asyncio.BaseTransport) -> None:
    """End a connection at once; what the other end has not taken is dropped (the kernel would keep it for minutes)."""
    line = transport.get_extra_info("socket")
    if line is not None:
        _drop_the_rest(line)
    cast("asyncio.Transport", transport).abort()


def hang_up(line: socket.socket) -> None:
    """The same for a socket that is nobody's yet."""
    _drop_the_rest(line)
    line.close()


def _drop_the_rest(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)


def _keep_short(line: socket.socket) -> None:
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with contextlib.suppress(OSError):
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
