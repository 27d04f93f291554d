"""HTTP for a command that asks one thing and ends: a connection a call, and nothing large to import first.

The library behind ``agentcom/transport.py`` takes longer to import than a hub to answer. This speaks just enough
HTTP/1.1 for the hub's JSON (RFC 9112: a length, chunks, or the end of the connection); streams go the other way.
"""

import asyncio
import os
import ssl
from asyncio import IncompleteReadError, LimitOverrunError, StreamReader, StreamWriter
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit

from agentcom.answers import HOW_TO_START, LostAnswer, NoHub, value_from
from agentcom.calls import CALL_S, CONNECT_S, Asked, Calls, Frame
from protocol.errors import HubUnreachable
from protocol.pinning import Trust

if TYPE_CHECKING:
    from agentcom.transport import Transport

T = TypeVar("T")
_PORTS: Final = {"http": 80, "https": 443}
_CONTINUE: Final = 200
_WITHOUT_BODY: Final = frozenset({204, 304})


class Answer(NamedTuple):
    """What came back; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class BriefTransport(Calls):
    """Single calls, each over a connection of its own."""

    def __init__(self, url: str, token: str, *, patience_s: float, trust: Trust | None = None) -> None:
        super().__init__(url, token, patience_s=patience_s, trust=trust)
        self._token = token
        self._kept: Transport | None = None

    async def close(self) -> None:
        """End all connections."""
        if self._kept is not None:
            await self._kept.close()

    async def follow(
        self, path: str, *, query: Mapping[str, Any] | None = None, after: int | None = None
    ) -> AsyncGenerator[Frame, None]:
        """See :class:`agentcom.calls.Calls`."""
        async with aclosing(self._long().follow(path, query=query, after=after)) as frames:
            async for frame in frames:
                yield frame

    async def fetch(self, path: str, size_bytes: int) -> AsyncGenerator[bytes, None]:
        """See :class:`agentcom.calls.Calls`."""
        async with aclosing(self._long().fetch(path, size_bytes)) as pieces:
            async for piece in pieces:
                yield piece

    async def server_date(self) -> str:
        """See :class:`agentcom.calls.Calls`."""
        asked = Asked("GET", "/healthz", None, None, {}, CALL_S)
        return (await self._answered(asked)).headers.get("date", "")

    async def _once(self, asked: Asked, shape: type[T]) -> T:
        answer = await self._answered(asked)
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        return value_from(self.url, answer.status, kind, answer.body, shape, answer.headers.get("retry-after"))

    async def _answered(self, asked: Asked) -> Answer:
        reader, writer = await self._connected()
        try:
            async with asyncio.timeout(asked.call_s):
                writer.write(_request(self.url, asked))
                await writer.drain()
                return await _answer(reader)
        except (OSError, ValueError, IncompleteReadError, LimitOverrunError) as exc:  # TimeoutError is an OSError
            broke = f"the connection broke ({str(exc) or type(exc).__name__})"
            why = "no answer in time" if isinstance(exc, TimeoutError) else broke
            raise LostAnswer(self.url, f"{why}; the request may or may not have been done") from exc
        finally:
            writer.close()
            with suppress(OSError):  # what mattered has been read
                await writer.wait_closed()

    async def _connected(self) -> tuple[StreamReader, StreamWriter]:
        parts = urlsplit(self.url)
        try:
            async with asyncio.timeout(CONNECT_S):
                context = await self._trust.context(self.url, asyncio.open_connection)
                return await asyncio.open_connection(
                    parts.hostname,
                    parts.port or _PORTS[parts.scheme],
                    ssl=context or (parts.scheme == "https" or None),
                )
        except ssl.SSLCertVerificationError as exc:
            if (refusal := self._trust.refusal(self.url)) is not None:
                raise refusal from exc
            raise NoHub(self.url, f"its certificate is not trusted here: {exc}") from exc
        except TimeoutError as exc:
            raise HubUnreachable(self.url, f"no connection within {CONNECT_S:g} s; {HOW_TO_START}") from exc
        except OSError as exc:
            # asyncio words its own errors; the system's words are the ones that people know and search for.
            why = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else str(exc)
            raise HubUnreachable(self.url, f"{why}; {HOW_TO_START}") from exc

    def _long(self) -> "Transport":
        """The transport for what takes longer than importing it."""
        if self._kept is None:
            from agentcom.transport import Transport

            self._kept = Transport(
                ",".join([self.url, *self._urls]), self._token, patience_s=self.patience_s, trust=self._trust
            )
        return self._kept


def _request(url: str, asked: Asked) -> bytes:
    """A request as it travels.

    Raises:
        ValueError: something in it would end a line.
    """
    parts, body = urlsplit(url), asked.body or b""
    query = f"?{urlencode(asked.query)}" if asked.query else ""
    length = {"Content-Length": str(len(body))} if body or asked.method == "POST" else {}
    headers = {"Host": parts.netloc, **asked.headers, **length, "Connection": "close"}
    lines = [f"{asked.method} {parts.path}{asked.path}{query} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    if any("\r" in line or "\n" in line for line in lines):
        message = "a line break in a request"
        raise ValueError(message)
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


async def _answer(reader: StreamReader) -> Answer:
    """What the other end answers.

    Raises:
        ValueError: it is no HTTP.
        IncompleteReadError, LimitOverrunError: it ends too early, or its head never does.
    """
    status = 0
    headers: dict[str, str] = {}
    while status < _CONTINUE:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
            message = f"not HTTP: {first[:60]!r}"
            raise ValueError(message)
        status = int(rest[:3])
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Answer(status, headers, b"" if status in _WITHOUT_BODY else await _body(reader, headers))


async def _body(reader: StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        pieces = []
        while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            pieces.append(await reader.readexactly(size))
            await reader.readexactly(2)
        return b"".join(pieces)
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    return await reader.read()
