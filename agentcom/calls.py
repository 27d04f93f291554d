"""Calls to one hub with bounded retries, whatever they are made with.

A call is repeated when the hub cannot be reached or asks to wait (429, 503, 507; not before its ``Retry-After``), for
``patience_s`` altogether. What might already have been done is repeated only if doing it twice is the same as once
(``is_repeatable``). Knows no resource; those are in ``agentcom/aio.py``. How a request travels is
``agentcom/transport.py``, and for commands that ask little ``agentcom/brief.py``.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from agentcom.answers import LostAnswer, NoHub
from protocol.errors import HubUnreachable, ReadOnly, StoreDamaged, Unavailable
from protocol.pinning import Trust

T = TypeVar("T")
CALL_S: Final = 60.0
CONNECT_S: Final = 10.0
STREAM_PATIENCE_S: Final = 60.0
"""How long someone who waits for a task waits for a hub that is away: long enough for a restart."""
_BASE_DELAY_S: Final = 0.1
_MAX_DELAY_S: Final = 2.0


HOPELESS: Final = (NoHub, ReadOnly, StoreDamaged)
"""Asking again changes nothing: a person has to do something first."""


class Asked(NamedTuple):
    """One request, ready to go; its answer may take ``call_s``."""

    method: str
    path: str
    query: Mapping[str, Any] | None
    body: bytes | None
    headers: Mapping[str, str]
    call_s: float


class Frame(NamedTuple):
    """One server-sent event."""

    name: str
    seq: int | None
    data: bytes


def given(body: msgspec.Struct) -> dict[str, Any]:
    """What of a body somebody has said: an older hub need not know the rest."""
    return {name: value for name, value in msgspec.to_builtins(body).items() if value is not None}


class Calls(ABC):
    """A way to one hub; use it within one event loop and close it there.

    ``url`` may hold several addresses, separated by commas, of hubs that share one database: when one cannot be
    reached, or says that it cannot serve now, the next one is asked. ``self.url`` is the one that is asked now.
    """

    def __init__(self, url: str, token: str, *, patience_s: float, trust: Trust | None = None) -> None:
        self._trust = trust or Trust()
        self._urls = url.split(",")
        self.url, self.patience_s = self._urls[0], patience_s
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    @abstractmethod
    async def close(self) -> None:
        """End all connections."""

    @abstractmethod
    def follow(
        self, path: str, *, query: Mapping[str, Any] | None = None, after: int | None = None
    ) -> AsyncGenerator[Frame, None]:
        """Events of a stream, until its ``end`` event; a lost connection is resumed behind the last event seen.

        A hub that was there is waited for longer than one that never answered.

        Raises:
            HubUnreachable: it was away for too long.
            AgentComError: it answers an error.
        """

    @abstractmethod
    def fetch(self, path: str, size_bytes: int) -> AsyncGenerator[bytes, None]:
        """The bytes of a file, piece by piece; a lost connection is taken up where it was lost.

        Raises:
            HubUnreachable: it was away for too long.
            AgentComError: it answers an error.
        """

    @abstractmethod
    async def server_date(self) -> str:
        """The ``Date`` header of an answer that needs no token; empty if there is none.

        Raises:
            HubUnreachable: the hub does not answer.
        """

    @abstractmethod
    async def _once(self, asked: Asked, shape: type[T]) -> T:
        """What the hub answers, asked once."""

    @abstractmethod
    async def _pause(self, pause_s: float) -> None:
        """Wait before asking again."""

    async def call(  # noqa: PLR0913 - one request, part by part
        self,
        method: str,
        path: str,
        shape: type[T],
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,  # noqa: ANN401 - any of the contract's bodies, or bytes as they are
        headers: Mapping[str, str] | None = None,
        is_repeatable: bool = False,
        patience_s: float | None = None,
        call_s: float = CALL_S,
    ) -> T:
        """What the hub answers to one request; ``call_s`` is how long the answer may take.

        Raises:
            HubUnreachable: it does not answer within the patience of this transport.
            AgentComError: it answers an error.
        """
        raw = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        sent = {**self._headers, **(headers or {}), "Accept": "application/json"}
        if raw is not None:
            sent["Content-Type"] = "application/octet-stream" if raw is body else "application/json"
        asked = Asked(method, path, query, raw, sent, call_s)
        ends_at = time.monotonic() + (self.patience_s if patience_s is None else patience_s)
        tries = 0
        while True:
            try:
                return await self._once(asked, shape)
            except Unavailable as exc:
                tries += 1
                pause_s = delay_s(tries) if exc.retry_after_s is None else asked_delay_s(exc.retry_after_s)
                if self._turn(exc) and tries % len(self._urls):
                    pause_s = 0.0  # another one may answer at once
                is_safe = is_repeatable or not isinstance(exc, LostAnswer)
                if isinstance(exc, HOPELESS) or not is_safe or time.monotonic() + pause_s > ends_at:
                    raise
            await self._pause(pause_s)

    def _turn(self, exc: Unavailable) -> bool:
        """Ask the next hub from now on, if there is one and this one has not merely too much to do."""
        if len(self._urls) == 1 or not (isinstance(exc, HubUnreachable) or exc.code == Unavailable.code):
            return False
        self.url = self._urls[(self._urls.index(self.url) + 1) % len(self._urls)]
        return True


def delay_s(tries: int) -> float:
    """Full jitter below a doubling ceiling, so that many clients do not come back at once."""
    return _between(0.2, 1.0) * min(_MAX_DELAY_S, _BASE_DELAY_S * 2.0**tries)


def asked_delay_s(retry_after_s: float) -> float:
    """What the hub asked for and a little more, never less: all who were told the same must not come back together."""
    return retry_after_s * _between(1.0, 1.5)


def _between(least: float, most: float) -> float:
    import random  # only who has to wait needs it

    return random.uniform(least, most)
