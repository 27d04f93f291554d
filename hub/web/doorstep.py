"""The port: who has come to it and was not let in yet.

Strangers may come by the thousand, and most of what they could cost is what a server keeps for each connection. So a
connection stays a bare socket until it has said something whole: a request head, or the hello of a TLS handshake. What
has come is looked at and left where it is (``MSG_PEEK``); whoever is let in is read from the beginning by the event
loop, as if nobody had looked. All of them are heard with one descriptor, so they cost the loop one, and their time is
kept by one timer.

Everything is done in small portions, a turn of the loop each, and between two of them whoever is in is served: coming
in (the system holds only so many for us, and makes others wait for seconds), looking at what was said, letting in. A
handshake costs more than any request, so fewer of them begin in one turn.

Who may stay, whose turn it is and who has to go is ``hub/core/porch.py``; a connection that was let in,
``hub/web/porch.py``. ``hub/doorway.py`` puts this before the HTTP server.
"""

import asyncio
import contextlib
import errno
import selectors
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final

import structlog

from hub.core.first_words import LOOK_BYTES, NONSENSE, wanted_of_hello, wanted_of_request
from hub.core.porch import Porch, household, plain_address
from hub.web.porch import Visitor, hang_up

log = structlog.get_logger(__name__)
BACKLOG: Final = 4_096
"""Connections that the system holds for us: a whole fleet may come back in the same second."""
TICK_S: Final = 0.25
COMING, LOOKS, GOING = 64, 128, 256
"""So many in one turn of the loop: of those who come, who have said something, whose time is over."""
REQUESTS, HANDSHAKES = 16, 2
"""So many are let in, in one turn."""
SHORT_S: Final = 1.0
_LOOK: Final = socket.MSG_PEEK | socket.MSG_DONTWAIT
_SHORT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_ESTABLISHED: Final = 1
"""TCP_ESTABLISHED of Linux."""
_Networks = Sequence[IPv4Network | IPv6Network]


class Doorstep:
    """A port; :meth:`open` and :meth:`close` it."""

    def __init__(
        self,
        inner: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None = None,
        *,
        porch: Porch[Visitor] | None = None,
        only: _Networks | None = None,
        proxies: _Networks = (),
    ) -> None:
        """Prepare a port.

        Args:
            inner: makes the server's protocol for a connection.
            tls: what it speaks; ``None``: in the clear.
            porch: how many may wait.
            only: networks that may come in, beside this machine; ``None``: any.
            proxies: networks from which many people may come under one address.
        """
        self.inner, self.tls = inner, tls
        self._porch: Porch[Visitor] = porch or Porch()
        self._only, self._proxies = only, proxies
        self._loop = asyncio.get_running_loop()
        self._wanted = wanted_of_request if tls is None else wanted_of_hello
        self._ports: list[socket.socket] = []
        self._ears = selectors.DefaultSelector()
        self._spoke: deque[Visitor] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._is_letting_in = False
        self.turned_away = 0

    @property
    def waiting(self) -> int:
        """How many are here that nobody knows."""
        return self._porch.waiting

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen; where, with the port's number.

        Raises:
            OSError: the address cannot be used.
        """
        found = await self._loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            self._ports.extend(_listening(found))
        except OSError:
            self.close()
            raise
        for each in self._ports:
            self._loop.add_reader(each, self._come, each)
        self._loop.add_reader(self._ears.fileno(), self._listen)
        bound = self._ports[0].getsockname()
        return str(bound[0]), int(bound[1])

    def close(self) -> None:
        """Listen no more; whoever is not with the server has to go. Twice is once."""
        if self._ears.get_map() is None:
            return
        for each in self._ports:
            self._loop.remove_reader(each)
            each.close()
        self._ports.clear()
        if self._timer is not None:
            self._timer.cancel()
        for visitor in self._porch.callers:
            if not visitor.is_served:
                visitor.turn_away()
        self._loop.remove_reader(self._ears.fileno())
        self._ears.close()

    # --- coming -------------------------------------------------------------------------------------------------------

    def _come(self, port: socket.socket) -> None:
        for _ in range(COMING):
            try:
                line, peer = port.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno in _SHORT:
                    self._run_short(port, exc)
                    return
                continue  # gone before it was seen
            self._arrive(line, str(peer[0]))

    def _arrive(self, line: socket.socket, peer: str) -> None:
        visitor = Visitor(self, line, peer)
        if self._only is not None and not _is_of(peer, self._only, or_here=True):
            self._refuse(line)
            return
        is_proxy = bool(self._proxies) and _is_of(peer, self._proxies)
        for caller in self._porch.come(visitor, household(peer), self._loop.time(), is_proxy=is_proxy):
            if caller is visitor:
                self._refuse(line)
                return
            self._show_out(caller)
        self._ears.register(line, selectors.EVENT_READ, visitor)
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._tick)

    def _refuse(self, line: socket.socket) -> None:
        self.turned_away += 1
        if self.tls is not None:
            hang_up(line)  # a word in the clear would be none to it
            return
        with contextlib.suppress(OSError):
            line.send(_BUSY, socket.MSG_DONTWAIT)
            line.recv(LOOK_BYTES, socket.MSG_DONTWAIT)  # unread, it would make the end a reset that overtakes the word
        line.close()

    def _run_short(self, port: socket.socket, why: OSError) -> None:
        """There is no descriptor for one more; those of strangers are the first to be missed."""
        log.warning("descriptors_short", why=why.strerror, strangers=self.waiting, next="strangers make room")
        for _ in range(min(COMING, (self.waiting + 1) // 2)):
            if (visitor := self._porch.crowded()) is not None:
                self._show_out(visitor)
        self._loop.remove_reader(port)
        self._loop.call_later(SHORT_S, self._open_again, port)

    def _open_again(self, port: socket.socket) -> None:
        if port in self._ports:
            self._loop.add_reader(port, self._come, port)

    # --- speaking -----------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if not self._spoke:
            self._spoke.extend(key.data for key, _ in self._ears.select(0))
        for _ in range(min(LOOKS, len(self._spoke))):
            visitor = self._spoke.popleft()
            if visitor.is_outside and visitor.waits:
                self._look(visitor)

    def _look(self, visitor: Visitor) -> None:
        line = visitor.line
        try:
            said = line.recv(LOOK_BYTES, _LOOK)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        wanted = self._wanted(said)
        is_early = len(said) < visitor.wanted
        if wanted == NONSENSE or (is_early and _has_ended(line, said)):
            self._show_out(visitor)
        elif wanted and not is_early:
            visitor.wanted = wanted
            with contextlib.suppress(OSError):  # its other end is gone, as the next look shows
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)  # so long nothing is heard of it
        else:  # if told too early, the loop has to wait for the rest: a mark that does not count would be told for ever
            self._ears.unregister(line)
            self._porch.stand_in_line(visitor, self._loop.time())
            if not self._is_letting_in:
                self._is_letting_in = True
                self._loop.call_soon(self._let_in)

    def _let_in(self) -> None:
        for _ in range(REQUESTS if self.tls is None else HANDSHAKES):
            visitor = self._porch.next()
            if visitor is None:
                self._is_letting_in = False
                return
            if self.tls is not None:
                self.expected(visitor)  # to end its handshake
            visitor.enter()
        self._loop.call_soon(self._let_in)

    # --- leaving ------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        late = self._porch.late(self._loop.time(), GOING)
        for caller in late:
            self._show_out(caller)
        self._timer = None
        if self.waiting:
            self._timer = self._loop.call_later(0 if len(late) == GOING else TICK_S, self._tick)

    def _show_out(self, visitor: Visitor) -> None:
        self.turned_away += 1
        visitor.turn_away()

    # --- what visitors say (hub/web/porch.py) -------------------------------------------------------------------------

    def heard(self, visitor: Visitor) -> None:
        """A request of it is whole."""
        self._porch.heard(visitor, self._loop.time())

    def expected(self, visitor: Visitor) -> None:
        """It has yet to say something."""
        self._porch.expected(visitor, self._loop.time())

    def leave(self, visitor: Visitor) -> None:
        """It is known, or gone."""
        self._porch.leave(visitor)
        if visitor.is_outside:
            with contextlib.suppress(KeyError):  # nobody listens any more to one that stands in line
                self._ears.unregister(visitor.line)


def _has_ended(line: socket.socket, said: bytes) -> bool:
    """Whether there is less than was waited for because no more will come.

    Systems tell of less for other reasons: Linux when it is short of memory for TCP, some sandboxes always.
    """
    if not said or not hasattr(socket, "TCP_INFO"):
        return True
    try:
        return line.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED
    except OSError:
        return True


def _listening(found: Iterable[tuple[Any, ...]]) -> Iterator[socket.socket]:
    """A socket for each address of ``getaddrinfo`` that this machine has.

    Raises:
        OSError: one is taken, or may not be used, or there is none of them.
    """
    missing, is_open = OSError(errno.EADDRNOTAVAIL, "no such address here"), False
    for family, kind, proto, _, address in dict.fromkeys(found):
        try:
            port = socket.socket(family, kind, proto)
        except OSError as exc:  # a name may stand for an address of a family that is turned off
            missing = exc
            continue
        try:
            port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                port.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            port.bind(address)
            port.listen(BACKLOG)
            port.setblocking(False)  # noqa: FBT003 - the socket's own signature
        except OSError as exc:
            port.close()
            if exc.errno != errno.EADDRNOTAVAIL:
                raise
            missing = exc
            continue
        is_open = True
        yield port
    if not is_open:
        raise missing


def _is_of(peer: str, networks: _Networks, *, or_here: bool = False) -> bool:
    try:
        found = plain_address(peer)
    except ValueError:
        return False
    return (or_here and found.is_loopback) or any(found in network for network in networks)
