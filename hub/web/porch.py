"""Connections that have not shown who they are: how many there may be, and for how long.

Until its first request with a token a connection costs the hub something and has earned nothing. Each has
``PATIENCE_S`` for a complete request head. There may be ``MAX_OF_ADDRESS`` of one address; of more, the one that has
been here longest makes room, or (a whole fleet comes back at once) the new one has ``HASTE_S`` only. Of all together
there may be ``MAX_ALTOGETHER``; then, too, whoever has been here longest makes room, so that crowds of silent strangers
keep nobody out who has something to say. With a valid token (``hub/web/guard.py`` says so) it is a guest and has no
such limits.

Where the port speaks TLS a connection comes here before the handshake (:class:`Doorstep`), which costs more than any
request: it has ``PATIENCE_S`` for that, and as long again for its request. Where the port speaks in the clear to
proxies only, nobody else gets as far as a word.

What arrives passes through here, so it is also known how much did (:func:`received_bytes`). Of what leaves, the kernel
holds little that it has not sent: a heartbeat would stand behind it, and readers that never read would fill it.

``hub/app.py`` puts this between the listening socket and the HTTP server.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Coroutine, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final, cast

import structlog

from protocol.limits import UNSENT_BYTES

log = structlog.get_logger(__name__)
MAX_OF_ADDRESS: Final = 200
MAX_AT_ONCE: Final = 10
"""So many times as many of one address may be here for a moment."""
MAX_ALTOGETHER: Final = 4_000
PATIENCE_S: Final = 5.0
HASTE_S: Final = 1.0
SHUTDOWN_S: Final = 2.0
"""How long the end of TLS may take before a connection is simply closed."""
ANSWER_S: Final = 15.0
"""How long a request without a token may be answered (it may wait for a database that is away)."""
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Porch:
    """All connections that are not guests yet."""

    def __init__(
        self,
        *,
        of_address: int = MAX_OF_ADDRESS,
        altogether: int = MAX_ALTOGETHER,
        only: Sequence[IPv4Network | IPv6Network] | None = None,
    ) -> None:
        """Prepare a porch.

        Args:
            of_address, altogether: how many may wait here.
            only: networks that may come in, beside this machine; ``None``: any.
        """
        self._of_address, self._altogether, self._only = of_address, altogether, only
        self._waiting: dict[str, dict[Visitor, None]] = {}  # by address, oldest first
        self._everybody: dict[Visitor, None] = {}  # the same, oldest first
        self._handshakes: set[asyncio.Task[None]] = set()
        self.turned_away = 0

    @property
    def waiting(self) -> int:
        """How many are here."""
        return len(self._everybody)

    def factory(
        self, server: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None = None
    ) -> Callable[[], asyncio.Protocol]:
        """What makes the protocol of a new connection; ``server`` makes the one behind it, which may speak ``tls``."""
        if tls is None:
            return lambda: Visitor(self, server())
        return lambda: Doorstep(self, Visitor(self, server()), tls)

    def shake(self, handshake: Coroutine[Any, Any, None]) -> None:
        """Let a handshake go on for as long as it may."""
        task = asyncio.get_running_loop().create_task(handshake)
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    def close(self) -> None:
        """The port is closed: handshakes need not end any more."""
        for task in list(self._handshakes):
            task.cancel()

    def enter(self, visitor: "Visitor") -> float:
        """How long one more of its address may wait with the others; 0: there is no room for it."""
        others = self._waiting.get(visitor.address, {})
        patience_s = PATIENCE_S
        if self._only is not None and not self._admits(visitor.peer):
            self.turned_away += 1
            return 0.0
        if len(others) >= self._of_address:
            oldest = next(iter(others))
            if oldest.age_s > HASTE_S:
                oldest.turn_away("others of its address wait")
            else:
                patience_s = HASTE_S
        if self.waiting >= self._altogether and (first := next(iter(self._everybody))).age_s > HASTE_S:
            first.turn_away("others wait")
        if len(others) >= MAX_AT_ONCE * self._of_address or self.waiting >= self._altogether:
            self.turned_away += 1
            return 0.0
        self._waiting.setdefault(visitor.address, {})[visitor] = self._everybody[visitor] = None
        return patience_s

    def _admits(self, address: str) -> bool:
        try:
            found = plain_address(address)
        except ValueError:
            return False
        return found.is_loopback or any(found in network for network in self._only or ())

    def leave(self, visitor: "Visitor") -> None:
        """It is a guest now, or gone; twice is once."""
        others = self._waiting.get(visitor.address, {})
        if visitor in others:
            del others[visitor], self._everybody[visitor]
        if not others:
            self._waiting.pop(visitor.address, None)


class Visitor(asyncio.Protocol):
    """One connection, in front of the HTTP server's own protocol."""

    __slots__ = (
        "_came_at",
        "_early",
        "_inner",
        "_is_inside",
        "_is_refused",
        "_loop",
        "_porch",
        "_timer",
        "_transport",
        "address",
        "is_guest",
        "peer",
        "received_bytes",
    )

    def __init__(self, porch: Porch, inner: asyncio.Protocol) -> None:
        self._porch, self._inner = porch, inner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._came_at = 0.0
        self._is_refused = self._is_inside = False
        self._early = b""
        self.address = self.peer = ""
        self.is_guest = False
        self.received_bytes = 0

    @property
    def age_s(self) -> float:
        """How long it has been here."""
        return self._loop.time() - self._came_at

    def asks(self) -> None:
        """A request of it is complete, and will be answered."""
        self._wait(ANSWER_S)

    def answered(self) -> None:
        """It may ask again."""
        self._wait(PATIENCE_S)

    def is_known(self) -> None:
        """It has shown a valid token: from now on it is a guest."""
        if not self.is_guest:
            self.is_guest = True
            self._stop_waiting()

    def turn_away(self, why: str) -> None:
        """Close it without a word."""
        log.debug("visitor_turned_away", address=self.address, why=why)
        self._porch.turned_away += 1
        self._is_refused = True
        self._stop_waiting()
        if self._transport is not None:
            cut_off(self._transport)

    def _wait(self, seconds: float) -> None:
        if self.is_guest or self._is_refused:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.turn_away, "no complete request in time")

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._porch.leave(self)

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def arrive(self, transport: asyncio.BaseTransport) -> bool:
        """A connection has come; whether it may stay for now."""
        self._transport, self._came_at = cast("asyncio.Transport", transport), self._loop.time()
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        self.address = household(self.peer or "local")
        patience_s = self._porch.enter(self)
        if not patience_s:
            self._is_refused = True
            return False
        _keep_short(transport)
        self._wait(patience_s)
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection has come, or its handshake is done."""
        if self._transport is None and not self.arrive(transport):
            cast("asyncio.Transport", transport).write(_BUSY)
            cast("asyncio.Transport", transport).close()
            return
        self._transport, self._is_inside = cast("asyncio.Transport", transport), True
        self._inner.connection_made(transport)
        if self._early:
            early, self._early = self._early, b""
            self._inner.data_received(early)

    def data_received(self, data: bytes) -> None:
        """It says something."""
        self.received_bytes += len(data)
        if self._is_inside:
            self._inner.data_received(data)
        elif not self._is_refused:
            self._early += data  # with the last word of its handshake; whoever waits for that has not heard it yet

    def eof_received(self) -> bool | None:
        """It will say no more."""
        return self._inner.eof_received() if self._is_inside else None

    def pause_writing(self) -> None:
        """It takes nothing for now."""
        if self._is_inside:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It takes again."""
        if self._is_inside:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._stop_waiting()
        self._is_refused = True
        if self._is_inside:
            self._is_inside = False
            self._inner.connection_lost(exc)

    async def shake(self, tls: ssl.SSLContext, opening: Callable[[], None]) -> None:
        """The handshake; what was said after it is heard when it is done. ``opening`` is called when it begins."""
        transport = self._transport
        assert transport is not None, "it has arrived"
        if self._is_refused:
            return  # gone already: nothing would ever end its handshake
        # Two turns from now: in the same turn as, and right behind, what start_tls puts there to begin.
        self._loop.call_soon(self._loop.call_soon, opening)
        try:
            secured = await self._loop.start_tls(
                transport,
                self,
                tls,
                server_side=True,
                ssl_handshake_timeout=PATIENCE_S,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        except OSError as exc:
            log.debug("handshake_failed", address=self.address, why=str(exc)[:200])
        else:
            if secured is not None and not self._is_refused:
                self._wait(PATIENCE_S)
                self.connection_made(secured)
                return
        finally:
            if not self._is_inside:
                self._stop_waiting()


class Doorstep(asyncio.Protocol):
    """A connection of a port that speaks TLS, before its handshake."""

    __slots__ = ("_early", "_porch", "_tls", "_transport", "_visitor")

    def __init__(self, porch: Porch, visitor: Visitor, tls: ssl.SSLContext) -> None:
        self._porch, self._visitor, self._tls = porch, visitor, tls
        self._transport: asyncio.Transport | None = None
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection has come."""
        if not self._visitor.arrive(transport):
            cut_off(transport)  # a word in the clear would be none to it
            return
        self._transport = cast("asyncio.Transport", transport)
        self._porch.shake(self._visitor.shake(self._tls, self._pass_on))

    def data_received(self, data: bytes) -> None:
        """It speaks before the handshake can hear: uvloop reads as soon as a connection is made, paused or not."""
        self._early += data

    def _pass_on(self) -> None:
        """Give the handshake what was said before it began."""
        assert self._transport is not None, "it has arrived"
        early, self._early = memoryview(self._early), b""
        shaking = cast("asyncio.BufferedProtocol", self._transport.get_protocol())
        while early and not self._transport.is_closing():
            room = memoryview(cast("bytearray", shaking.get_buffer(len(early))))
            count = min(len(room), len(early))
            room[:count], early = early[:count], early[count:]
            shaking.buffer_updated(count)

    def connection_lost(self, _exc: Exception | None) -> None:
        """It has gone before its handshake began."""
        self._visitor.connection_lost(None)


def visitor_of(transport: asyncio.BaseTransport | None) -> Visitor | None:
    """Who is on this connection; ``None`` if it did not come over a porch (a test that serves the bare application)."""
    # Not asked for its class: the transports of uvloop are nobody's children.
    found = None if transport is None else cast("asyncio.Transport", transport).get_protocol()
    return found if isinstance(found, Visitor) else None


def received_bytes(transport: asyncio.BaseTransport | None) -> int:
    """Bytes that have come over this connection, those of unfinished frames and requests too."""
    visitor = visitor_of(transport)
    return visitor.received_bytes if visitor is not None else 0


def cut_off(transport: asyncio.BaseTransport) -> None:
    """End a connection at once; what the other end has not taken is dropped (the kernel would keep it for minutes)."""
    line = transport.get_extra_info("socket")
    if line is not None:
        with contextlib.suppress(OSError):
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    cast("asyncio.Transport", transport).abort()


def _keep_short(transport: asyncio.BaseTransport) -> None:
    line = transport.get_extra_info("socket")
    if line is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with contextlib.suppress(OSError):
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def household(host: str) -> str:
    """What counts as one address: an IPv4 address, or the 64 bits of an IPv6 one that a whole household shares."""
    try:
        found = plain_address(host)
    except ValueError:
        return host
    return found.exploded[:19] if isinstance(found, IPv6Address) else str(found)


def plain_address(text: str) -> IPv4Address | IPv6Address:
    """An address without its zone; one of IPv4 in the clothes of IPv6 as what it is.

    Raises:
        ValueError: it is none.
    """
    found = ip_address(text.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found
