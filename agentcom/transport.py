"""HTTP to one hub: single calls with bounded retries, and event streams that survive lost connections.

A call is repeated when the hub cannot be reached or asks to wait (429, 503, 507; not before its ``Retry-After``), for
``patience_s`` altogether. What might already have been done is repeated only if doing it twice is the same as once
(``is_repeatable``). Knows no resource; those are in ``agentcom/aio.py``.
"""

import asyncio
import os
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, Final, NamedTuple, TypeVar

import aiohttp
import msgspec

from agentcom.answers import HOW_TO_START, LostAnswer, NoHub, value_from
from protocol.errors import HubUnreachable, ReadOnly, StoreDamaged, Unavailable

T = TypeVar("T")
CALL_S: Final = 60.0
SILENCE_S: Final = 20.0
"""A stream that says nothing for this long is dead: a hub sends a sign of life every 5 seconds."""
STREAM_PATIENCE_S: Final = 60.0
"""How long someone who waits for a task waits for a hub that is away: long enough for a restart."""
_BASE_DELAY_S: Final = 0.1
_MAX_DELAY_S: Final = 2.0


_HOPELESS: Final = (NoHub, ReadOnly, StoreDamaged)
"""Asking again changes nothing: a person has to do something first."""


class Frame(NamedTuple):
    """One server-sent event."""

    name: str
    seq: int | None
    data: bytes


class Transport:
    """Connections to one hub; use it within one event loop and close it there."""

    def __init__(self, url: str, token: str, *, patience_s: float) -> None:
        self.url, self.patience_s = url, patience_s
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(  # noqa: PLR0913 - one request, part by part
        self,
        method: str,
        path: str,
        shape: type[T],
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,  # noqa: ANN401 - any of the contract's bodies
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
        raw = None if body is None else msgspec.json.encode(body)
        sent = {**self._headers, **(headers or {}), "Accept": "application/json"}
        if raw is not None:
            sent["Content-Type"] = "application/json"
        timeout = aiohttp.ClientTimeout(total=call_s, sock_connect=10.0)
        options = {"params": query, "data": raw, "headers": sent, "timeout": timeout}
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + (self.patience_s if patience_s is None else patience_s)
        tries = 0
        while True:
            try:
                return await self._once(method, path, shape, options)
            except Unavailable as exc:
                tries += 1
                delay_s = _delay_s(tries) if exc.retry_after_s is None else _asked_delay_s(exc.retry_after_s)
                is_safe = is_repeatable or not isinstance(exc, LostAnswer)
                if isinstance(exc, _HOPELESS) or not is_safe or loop.time() + delay_s > ends_at:
                    raise
            await asyncio.sleep(delay_s)

    async def follow(
        self, path: str, *, query: Mapping[str, Any] | None = None, after: int | None = None
    ) -> AsyncGenerator[Frame, None]:
        """Events of a stream, until its ``end`` event; a lost connection is resumed behind the last event seen.

        A hub that was there is waited for longer than one that never answered.

        Raises:
            HubUnreachable: it was away for too long.
            AgentComError: it answers an error.
        """
        loop = asyncio.get_running_loop()
        heard_at, tries, patience_s = loop.time(), 0, self.patience_s
        while True:
            asked_s: float | None = None
            try:
                async with aclosing(self._frames(path, query, after)) as frames:
                    async for frame in frames:
                        heard_at, tries, patience_s = loop.time(), 0, max(self.patience_s, STREAM_PATIENCE_S)
                        after = after if frame.seq is None else frame.seq
                        if frame.data:
                            yield frame
                        if frame.name == "end":
                            return
            except Unavailable as exc:
                if isinstance(exc, NoHub) or loop.time() - heard_at > patience_s:
                    raise
                asked_s = exc.retry_after_s
            tries += 1
            await asyncio.sleep(_delay_s(tries) if asked_s is None else _asked_delay_s(asked_s))

    async def server_date(self) -> str:
        """The ``Date`` header of an answer that needs no token; empty if there is none.

        Raises:
            HubUnreachable: the hub does not answer.
        """
        try:
            async with self._open().get(f"{self.url}/healthz") as response:
                return response.headers.get("Date", "")
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise self._unreachable(exc) from exc

    async def text(self, path: str) -> str:
        """An answer that is plain text, asked for once.

        Raises:
            HubUnreachable: the hub does not answer.
            AgentComError: it answers an error.
        """
        try:
            async with self._open().get(f"{self.url}{path}", headers=self._headers) as response:
                body = await response.read()
                if response.status != HTTPStatus.OK:
                    value_from(self.url, response.status, response.content_type, body, msgspec.Raw)
                return body.decode("utf-8", "replace")
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise self._unreachable(exc) from exc

    async def _once(self, method: str, path: str, shape: type[T], options: Mapping[str, Any]) -> T:
        try:
            async with self._open().request(method, f"{self.url}{path}", allow_redirects=False, **options) as response:
                body = await response.read()
                after = response.headers.get("Retry-After")
                return value_from(self.url, response.status, response.content_type, body, shape, after)
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise self._unreachable(exc) from exc

    async def _frames(
        self, path: str, query: Mapping[str, Any] | None, after: int | None
    ) -> AsyncGenerator[Frame, None]:
        headers = {**self._headers, "Accept": "text/event-stream"}
        if after is not None:
            headers["Last-Event-ID"] = str(after)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=SILENCE_S)
        try:
            async with self._open().get(
                f"{self.url}{path}", params=query, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                if response.content_type != "text/event-stream":
                    body = await response.read()
                    retry_after = response.headers.get("Retry-After")
                    value_from(self.url, response.status, response.content_type, body, msgspec.Raw, retry_after)
                    raise NoHub(self.url, f"it answers {path} without a stream")
                pending = b""
                async for piece in response.content.iter_any():
                    *blocks, pending = (pending + piece).replace(b"\r\n", b"\n").split(b"\n\n")
                    for block in blocks:
                        yield _frame(block)
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise self._unreachable(exc) from exc

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=CALL_S, sock_connect=10.0)
            self._session = aiohttp.ClientSession(timeout=timeout)
        return self._session

    def _unreachable(self, exc: Exception) -> HubUnreachable:
        if isinstance(exc, aiohttp.ClientConnectorCertificateError):
            return NoHub(self.url, f"its certificate is not trusted here: {exc.certificate_error}")
        if isinstance(exc, aiohttp.ClientConnectorError):
            number = exc.os_error.errno
            # asyncio words its own errors; the system's words are the ones that people know and search for.
            why = os.strerror(number) if number and number > 0 else str(exc.os_error)
            return HubUnreachable(self.url, f"{why}; {HOW_TO_START}")
        if isinstance(exc, aiohttp.ConnectionTimeoutError):
            return HubUnreachable(self.url, f"no connection within 10 s; {HOW_TO_START}")
        if isinstance(exc, aiohttp.InvalidURL):
            return NoHub(self.url, "not an address")
        broke = f"the connection broke ({str(exc) or type(exc).__name__})"
        why = "no answer in time" if isinstance(exc, TimeoutError) else broke
        return LostAnswer(self.url, f"{why}; the request may or may not have been done")


def _delay_s(tries: int) -> float:
    """Full jitter below a doubling ceiling, so that many clients do not come back at once."""
    return random.uniform(0.2, 1.0) * min(_MAX_DELAY_S, _BASE_DELAY_S * 2.0**tries)


def _asked_delay_s(retry_after_s: float) -> float:
    """What the hub asked for and a little more, never less: all who were told the same must not come back together."""
    return retry_after_s * random.uniform(1.0, 1.5)


def _frame(block: bytes) -> Frame:
    name, seq, data = "", None, []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = value.decode("utf-8", "replace")
        elif field == b"id" and value.isdigit():
            seq = int(value)
        elif field == b"data":
            data.append(value)
    return Frame(name, seq, b"\n".join(data))
