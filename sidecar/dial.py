"""Open one connection to the hub, and tell the ways in which a hub says no apart.

The only module of the link that knows WebSockets: what it opens is a :class:`Connection`, which carries whole frames.
A refusal that trying again cannot help (wrong token, wrong role, no common version) is :class:`HubRefused`; everything
else is one of the errors that ``sidecar/link.py`` answers by dialling again.
"""

import asyncio
import contextlib
import hashlib
import socket as socket_options
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol, cast
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.protocol import State

from protocol.errors import (
    Forbidden,
    HubUnreachable,
    MalformedFrame,
    ProtocolViolation,
    Refused,
    Throttled,
    Unauthenticated,
    VersionMismatch,
)
from protocol.keys import WrongKey
from protocol.limits import (
    DEAD_AFTER_HEARTBEATS,
    HANDSHAKE_S,
    MAX_FRAME_BYTES,
    MIN_DEAD_AFTER_S,
    RECONNECT_CAP_S,
    UNSENT_BYTES,
)
from protocol.messages import AnyMessage, Challenge, Error, Welcome
from protocol.pinning import Trust, WrongHub
from protocol.version import negotiate
from sidecar.core.reconnect import reconnect_delay
from sidecar.short_frames import ShortFrames

EVICTED: Final = "evicted"
"""Code of the fatal error that a hub sends when a newer start of a sidecar of this name has come."""

NAME_TAKEN: Final = "name_taken"
"""Code of the fatal error that a hub sends while a sidecar from another state directory has the name."""

CLONED: Final = "cloned"
"""Code of the fatal error that a hub sends while another sidecar is at work with the same key."""

FINAL: Final = frozenset({VersionMismatch.code, EVICTED, NAME_TAKEN})
"""Codes that nothing can mend; a token that was good before may become good again."""

HOPELESS: Final = FINAL | {Unauthenticated.code, Forbidden.code, WrongHub.code, WrongKey.code, CLONED}
"""Codes of a fatal error that trying again cannot help."""

LONGEST_ASKED_S: Final = 60.0
"""No hub asks for more; what stands before it may, and nobody obeys that."""

CLOSE_S: Final = 1.0
"""The library adds this to the time that it takes to notice a dead line, and its default is 10 s."""


class HubRefused(Refused):
    """The hub does not want this sidecar: its token, its role, its version, or because a newer one has its name."""

    code = "hub_refused"

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(reason, detail)

    def __str__(self) -> str:
        return f"the hub refuses this sidecar ({self.reason}): {self.detail}"


class HubBusy(HubUnreachable):
    """The hub lets only so many in at a time, and has said when this one may come."""

    def __init__(self, url: str, retry_after_s: float, why: str = "it is busy") -> None:
        super().__init__(url, f"{why} and asks to come back in {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the link tries; tests hurry it."""

    first_s: float = 1.0
    cap_s: float = RECONNECT_CAP_S
    settled_s: float = 10.0
    """A connection that lived this long was a good one: the next wait is short again."""
    refused_s: float = 60.0
    """Wait after the hub refused a token that it has accepted before."""
    handshake_s: float = HANDSHAKE_S
    next_s: float = 0.1
    """Longest wait before the next address of a round, so that not all sidecars of a dead hub come at once."""
    watch_s: float = 1.0
    """How often the leases are looked at, at least."""

    def delay_s(self, rounds: int | None, chance: float) -> float:
        """How long to wait when so many rounds have failed before; ``None``: in the middle of one."""
        if rounds is None:
            return self.next_s * chance
        return reconnect_delay(rounds, chance, first_s=self.first_s, cap_s=self.cap_s)


class Connection(Protocol):
    """One connection to a hub: whole frames, both ways."""

    async def send(self, frame: bytes) -> None:
        """Write a frame; returns when the line has taken it.

        Raises:
            OSError: the connection is over.
        """
        ...

    @property
    def is_free(self) -> bool:
        """Whether it has taken everything, so that :data:`protocol.limits.LITTLE_BYTES` more go out at once."""
        ...

    def put(self, frame: bytes) -> None:
        """Write a frame to a connection that is free, at once; all that are put together are at most a little."""
        ...

    @property
    def received_bytes(self) -> int:
        """What has come so far, that of an unfinished frame too."""
        ...

    @property
    def channel(self) -> str:
        """SHA-256 of the certificate at the other end, 64 hexadecimal digits; empty: no TLS."""
        ...

    async def receive(self) -> bytes:
        """The next frame.

        Raises:
            OSError: the connection is over.
        """
        ...

    async def listen(self, heard: Callable[[bytes], None]) -> None:
        """Call ``heard`` with every frame that comes, in order; it may be called from the event loop itself.

        Raises:
            OSError: the connection is over.
            Exception: what ``heard`` has raised; it is not called again.
        """
        ...

    def abort(self) -> None:
        """Cut it off, without a word to the other end."""
        ...


class Dial(Protocol):
    """How to reach a hub; :func:`dial` is one."""

    def __call__(self, hub: str, token: str, version: str, timeout_s: float) -> AbstractAsyncContextManager[Connection]:
        """A connection to ``hub``, closed at the end.

        Raises:
            HubRefused: the hub does not take the token.
            HubUnreachable: something answers there that is no hub.
            OSError, TimeoutError: nothing answers, or not in this protocol.
        """
        ...


def mesh_url(hub: str) -> str:
    """The WebSocket address of the hub whose HTTP address is ``hub``."""
    parts = urlsplit(hub)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/mesh", "", ""))


@asynccontextmanager
async def dial(
    hub: str, token: str, version: str, timeout_s: float, *, trust: Trust | None = None
) -> AsyncIterator[Connection]:
    """A WebSocket to the hub; see :class:`Dial`.

    ``trust``: whom to take for it; what is said to another, or to nobody, holds no token.
    """
    trust = trust or Trust()
    try:
        context = await trust.context(hub, asyncio.open_connection)
        socket = await connect(
            mesh_url(hub),
            additional_headers={"Authorization": f"Bearer {token}"},
            user_agent_header=f"agentcom-sidecar/{version}",
            compression=None,
            max_size=MAX_FRAME_BYTES,
            open_timeout=timeout_s,
            close_timeout=CLOSE_S,
            ping_interval=None,
            proxy=None,
            create_connection=ShortFrames,
            ssl=context or (hub.startswith("https:") or None),
        )
    except WrongHub as exc:
        raise HubRefused(exc.code, str(exc)) from exc
    except ssl.SSLCertVerificationError as exc:
        if (refusal := trust.refusal(hub)) is not None:
            raise HubRefused(refusal.code, str(refusal)) from exc
        way = "give its authority with --ca-file or --ca-hash"
        raise HubUnreachable(hub, f"its certificate is not trusted here ({exc.verify_message}); {way}") from exc
    except InvalidStatus as exc:
        asked = exc.response.headers.get("Retry-After", "")
        raise _refusal_of_status(exc.response.status_code, hub, asked) from exc
    except WebSocketException as exc:
        raise ConnectionError(_why(exc)) from exc
    _keep_line_short(socket)
    try:
        yield _Socket(cast("ShortFrames", socket))
    finally:
        await socket.close()


def _keep_line_short(connection: ClientConnection) -> None:
    """Let the kernel hold little that is not sent yet: a heartbeat would stand behind all of it."""
    line = connection.transport.get_extra_info("socket")
    if line is not None and hasattr(socket_options, "TCP_NOTSENT_LOWAT"):
        with contextlib.suppress(OSError):
            line.setsockopt(socket_options.IPPROTO_TCP, socket_options.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


class _Socket:
    """A WebSocket as a :class:`Connection`."""

    def __init__(self, socket: ShortFrames) -> None:
        self._socket = socket

    @property
    def received_bytes(self) -> int:
        return self._socket.received_bytes

    @property
    def channel(self) -> str:
        tls = self._socket.transport.get_extra_info("ssl_object")
        shown = tls.getpeercert(binary_form=True) if tls is not None else None
        return hashlib.sha256(shown).hexdigest() if shown else ""

    async def send(self, frame: bytes) -> None:
        try:
            await self._socket.send(frame)
        except WebSocketException as exc:
            raise ConnectionError(_why(exc)) from exc

    @property
    def is_free(self) -> bool:
        socket = self._socket
        is_open = socket.protocol.state is State.OPEN and not socket.transport.is_closing()
        return is_open and socket.send_in_progress is None and not socket.transport.get_write_buffer_size()

    def put(self, frame: bytes) -> None:
        try:
            self._socket.put(frame)
        except WebSocketException as exc:
            raise ConnectionError(_why(exc)) from exc

    async def receive(self) -> bytes:
        try:
            return await self._socket.recv(decode=False)
        except WebSocketException as exc:
            raise ConnectionError(_why(exc)) from exc

    async def listen(self, heard: Callable[[bytes], None]) -> None:
        try:
            await self._socket.listen(heard)
        except WebSocketException as exc:
            raise ConnectionError(_why(exc)) from exc

    def abort(self) -> None:
        self._socket.transport.abort()


def _why(error: WebSocketException) -> str:
    return str(error) or type(error).__name__


def _refusal_of_status(status: int, hub: str, asked: str) -> HubRefused | HubUnreachable:
    if status == 401:  # noqa: PLR2004 - RFC 9110 section 15.5.2
        return HubRefused(Unauthenticated.code, "it does not know the token, or the token has expired")
    if status == 403:  # noqa: PLR2004 - RFC 9110 section 15.5.4
        return HubRefused(Forbidden.code, "the token may not join; 'agentcom token create --role agent' makes one")
    if status in {429, 503} and asked.isascii() and asked.isdecimal():
        return HubBusy(hub, min(float(asked), LONGEST_ASKED_S))
    return HubUnreachable(hub, f"it answers {status} at /mesh; is that address a hub?")


def dead_after_s(welcome: Welcome) -> float:
    """Seconds of silence after which the hub counts as gone: some heartbeats, and some seconds however fast these are.

    Of a short lease no more than a third, so that there is time to come back before it ends.
    """
    return max(DEAD_AFTER_HEARTBEATS * welcome.heartbeat_s, min(MIN_DEAD_AFTER_S, welcome.lease_s / 3))


def challenge_in(messages: Sequence[AnyMessage]) -> Challenge | None:
    """What a hub wants to be signed before it answers a hello; ``None``: it has answered already."""
    match messages:
        case [Challenge() as challenge]:
            return challenge
        case _:
            return None


def welcome_in(messages: Sequence[AnyMessage]) -> Welcome:
    """The welcome that a hub's first frame begins with.

    Raises:
        HubRefused, HubUnreachable: it is a fatal error instead.
        VersionMismatch: the hub settled on a protocol that we do not speak.
        ProtocolViolation, MalformedFrame: it is something else.
    """
    match messages:
        case [Welcome() as welcome, *_]:
            negotiate((welcome.protocol, welcome.protocol))
            return welcome
        case [Error() as error, *_]:
            raise refusal_in(error)
        case [other, *_]:
            raise ProtocolViolation("welcome", type(other).__name__)
        case _:
            raise MalformedFrame("an empty array instead of a welcome")


def refusal_in(error: Error) -> HubRefused | ProtocolViolation | HubUnreachable:
    """What a fatal error of the hub means for this sidecar."""
    if error.code in HOPELESS:
        return HubRefused(error.code, error.detail)
    if error.code == Throttled.code:
        return HubBusy("the other end", min(max(error.retry_after_s, 0.0), LONGEST_ASKED_S), error.detail)
    if error.code == ProtocolViolation.code:
        return ProtocolViolation("a hub that counts messages as we do", error.detail)
    return HubUnreachable("the other end", f"it ended the connection: {error.code}, {error.detail}")
