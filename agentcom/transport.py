"""HTTP to one hub over kept connections: single calls, and event streams that survive lost connections.

When a call is repeated is ``agentcom/calls.py``; which there are is ``agentcom/aio.py``.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, Final, TypeVar

import aiohttp
import msgspec

from agentcom.answers import HOW_TO_START, LostAnswer, NoHub, value_from
from agentcom.calls import CALL_S, CONNECT_S, STREAM_PATIENCE_S, Asked, Calls, Frame, asked_delay_s, delay_s
from protocol.errors import HubUnreachable, Unavailable
from protocol.pinning import Trust, WrongHub

T = TypeVar("T")
SILENCE_S: Final = 20.0
"""A stream that says nothing for this long is dead: a hub sends a sign of life every 5 seconds."""


class Transport(Calls):
    """Connections to one hub; use it within one event loop and close it there."""

    def __init__(self, url: str, token: str, *, patience_s: float, trust: Trust | None = None) -> None:
        super().__init__(url, token, patience_s=patience_s, trust=trust)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

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
                self._turn(exc)
                asked_s = exc.retry_after_s
            tries += 1
            await asyncio.sleep(delay_s(tries) if asked_s is None else asked_delay_s(asked_s))

    async def fetch(self, path: str, size_bytes: int) -> AsyncGenerator[bytes, None]:
        """The bytes of a file, piece by piece; a lost connection is taken up where it was lost.

        Raises:
            HubUnreachable: it was away for too long.
            AgentComError: it answers an error.
        """
        loop = asyncio.get_running_loop()
        done, tries, heard_at = 0, 0, loop.time()
        while done < size_bytes or not tries:
            asked_s: float | None = None
            try:
                async with aclosing(self._rest(path, done)) as pieces:
                    async for piece in pieces:
                        done, tries, heard_at = done + len(piece), 0, loop.time()
                        yield piece
                if done >= size_bytes:
                    return
                raise LostAnswer(self.url, f"only {done} of {size_bytes} bytes came")
            except Unavailable as exc:
                if isinstance(exc, NoHub) or loop.time() - heard_at > max(self.patience_s, STREAM_PATIENCE_S):
                    raise
                self._turn(exc)
                asked_s = exc.retry_after_s
            tries += 1
            await asyncio.sleep(delay_s(tries) if asked_s is None else asked_delay_s(asked_s))

    async def _rest(self, path: str, start: int) -> AsyncGenerator[bytes, None]:
        headers = {**self._headers, **({"Range": f"bytes={start}-"} if start else {})}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        try:
            async with (await self._open()).get(
                f"{self.url}{path}", headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                if response.status != (HTTPStatus.PARTIAL_CONTENT if start else HTTPStatus.OK):
                    body, after = await response.read(), response.headers.get("Retry-After")
                    value_from(self.url, response.status, response.content_type, body, msgspec.Raw, after)
                    raise NoHub(self.url, f"it answers {path} with {response.status}")
                async for piece in response.content.iter_any():
                    yield piece
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise self._unreachable(exc) from exc

    async def server_date(self) -> str:
        """The ``Date`` header of an answer that needs no token; empty if there is none.

        Raises:
            HubUnreachable: the hub does not answer.
        """
        try:
            async with (await self._open()).get(f"{self.url}/healthz") as response:
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
            async with (await self._open()).get(f"{self.url}{path}", headers=self._headers) as response:
                body = await response.read()
                if response.status != HTTPStatus.OK:
                    value_from(self.url, response.status, response.content_type, body, msgspec.Raw)
                return body.decode("utf-8", "replace")
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise self._unreachable(exc) from exc

    async def _pause(self, pause_s: float) -> None:
        await asyncio.sleep(pause_s)

    async def _once(self, asked: Asked, shape: type[T]) -> T:
        timeout = aiohttp.ClientTimeout(total=asked.call_s, sock_connect=CONNECT_S)
        options: dict[str, Any] = {"params": asked.query, "data": asked.body, "headers": asked.headers}
        try:
            async with (await self._open()).request(
                asked.method, f"{self.url}{asked.path}", allow_redirects=False, timeout=timeout, **options
            ) as response:
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
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        try:
            async with (await self._open()).get(
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

    async def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            try:
                context = await self._trust.context(self.url, asyncio.open_connection)
            except OSError as exc:
                why = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else str(exc)
                raise HubUnreachable(self.url, f"{why}; {HOW_TO_START}") from exc
            if self._session is None:  # nobody else has made one meanwhile
                timeout = aiohttp.ClientTimeout(total=CALL_S, sock_connect=CONNECT_S)
                connector = aiohttp.TCPConnector(ssl=context or True)
                self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        return self._session

    def _unreachable(self, exc: Exception) -> HubUnreachable | WrongHub:
        if isinstance(exc, aiohttp.ClientConnectorCertificateError):
            if (refusal := self._trust.refusal(self.url)) is not None:
                return refusal
            return NoHub(self.url, f"its certificate is not trusted here: {exc.certificate_error}")
        if isinstance(exc, aiohttp.ClientConnectorError):
            number = exc.os_error.errno
            # asyncio words its own errors; the system's words are the ones that people know and search for.
            why = os.strerror(number) if number and number > 0 else str(exc.os_error)
            return HubUnreachable(self.url, f"{why}; {HOW_TO_START}")
        if isinstance(exc, aiohttp.ConnectionTimeoutError):
            return HubUnreachable(self.url, f"no connection within {CONNECT_S:g} s; {HOW_TO_START}")
        if isinstance(exc, aiohttp.InvalidURL):
            return NoHub(self.url, "not an address")
        broke = f"the connection broke ({str(exc) or type(exc).__name__})"
        why = "no answer in time" if isinstance(exc, TimeoutError) else broke
        return LostAnswer(self.url, f"{why}; the request may or may not have been done")


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
