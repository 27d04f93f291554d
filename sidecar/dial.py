"""Open one connection to the hub, and tell the ways in which a hub says no apart.

The only module of the link that knows WebSockets: what it opens is a :class:`Connection`, which carries whole frames.
A refusal that trying again cannot help (wrong token, wrong role, no common version) is :class:`HubRefused`; everything
else is one of the errors that ``sidecar/link.py`` answers by dialling again.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from protocol.errors import (
    Forbidden,
    HubUnreachable,
    MalformedFrame,
    ProtocolViolation,
    Refused,
    Unauthenticated,
    VersionMismatch,
)
from protocol.limits import HANDSHAKE_S, MAX_FRAME_BYTES, RECONNECT_CAP_S
from protocol.messages import AnyMessage, Error, Welcome
from protocol.version import negotiate

EVICTED: Final = "evicted"
"""Code of the fatal error that a hub sends when a newer start of a sidecar of this name has come."""

NAME_TAKEN: Final = "name_taken"
"""Code of the fatal error that a hub sends while a sidecar from another state directory has the name."""

HOPELESS: Final = frozenset({VersionMismatch.code, Unauthenticated.code, Forbidden.code, EVICTED, NAME_TAKEN})
"""Codes of a fatal error that trying again cannot help."""

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
    watch_s: float = 1.0
    """How often the leases are looked at, at least."""


class Connection(Protocol):
    """One connection to a hub: whole frames, both ways."""

    async def send(self, frame: bytes) -> None:
        """Write a frame; returns when the line has taken it.

        Raises:
            OSError: the connection is over.
        """
        ...

    async def receive(self) -> bytes:
        """The next frame.

        Raises:
            OSError: the connection is over.
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
async def dial(hub: str, token: str, version: str, timeout_s: float) -> AsyncIterator[Connection]:
    """A WebSocket to the hub; see :class:`Dial`."""
    try:
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
        )
    except InvalidStatus as exc:
        raise _refusal_of_status(exc.response.status_code, hub) from exc
    except WebSocketException as exc:
        raise ConnectionError(_why(exc)) from exc
    try:
        yield _Socket(socket)
    finally:
        await socket.close()


class _Socket:
    """A WebSocket as a :class:`Connection`."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def send(self, frame: bytes) -> None:
        try:
            await self._socket.send(frame)
        except WebSocketException as exc:
            raise ConnectionError(_why(exc)) from exc

    async def receive(self) -> bytes:
        try:
            return await self._socket.recv(decode=False)
        except WebSocketException as exc:
            raise ConnectionError(_why(exc)) from exc

    def abort(self) -> None:
        self._socket.transport.abort()


def _why(error: WebSocketException) -> str:
    return str(error) or type(error).__name__


def _refusal_of_status(status: int, hub: str) -> HubRefused | HubUnreachable:
    if status == 401:  # noqa: PLR2004 - RFC 9110 section 15.5.2
        return HubRefused(Unauthenticated.code, "it does not know the token, or the token has expired")
    if status == 403:  # noqa: PLR2004 - RFC 9110 section 15.5.4
        return HubRefused(Forbidden.code, "the token may not join; 'agentcom token create --role agent' makes one")
    return HubUnreachable(hub, f"it answers {status} at /mesh; is that address a hub?")


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
    if error.code == ProtocolViolation.code:
        return ProtocolViolation("a hub that counts messages as we do", error.detail)
    return HubUnreachable("the other end", f"it ended the connection: {error.code}, {error.detail}")
