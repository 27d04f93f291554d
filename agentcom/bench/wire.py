"""One kept HTTP connection to a hub, with as little in front of it as there can be: what is measured is the hub.

A general client costs more processor time a request than the hub does, and both share the machine that is measured.
This one sends one request at a time whose head is prepared, and understands answers that have a length: those of a hub.
"""

import asyncio
from typing import Final, cast
from urllib.parse import urlsplit

from protocol.errors import HubUnreachable

_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"\r\ncontent-length:"


class Wire(asyncio.Protocol):
    """A connection; :func:`wire` opens one."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        host = f"Host: {urlsplit(url).netloc}\r\n"
        self._common = f"{host}Authorization: Bearer {token}\r\nContent-Type: application/json\r\n".encode()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._came = b""

    async def post(self, path: str, body: bytes, key: str) -> tuple[int, bytes]:
        """Send a JSON body; status and body of the answer.

        Raises:
            HubUnreachable: the connection is over.
        """
        if self._transport is None:
            raise HubUnreachable(self._url, "the connection is closed")
        assert self._answer is None, "one request at a time"
        self._answer = asyncio.get_running_loop().create_future()
        head = b"POST %s HTTP/1.1\r\n%sIdempotency-Key: %s\r\nContent-Length: %d\r\n\r\n"
        self._transport.write(head % (path.encode(), self._common, key.encode(), len(body)) + body)
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """A part of an answer has come."""
        came = self._came = self._came + data if self._came else data
        end = came.find(_HEAD_END)
        if end < 0 or self._answer is None:
            return
        found = _answer_in(came, end)
        if found is None:
            return
        self._came, answer, self._answer = b"", self._answer, None
        if not answer.done():
            answer.set_result(found)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(HubUnreachable(self._url, f"the connection broke ({exc or 'closed'})"))


def _answer_in(came: bytes, end: int) -> tuple[int, bytes] | None:
    """The answer whose head ends at ``end``; ``None`` if more of it is to come."""
    head = came[:end].lower()
    status = int(head[9:12])
    start = head.find(_LENGTH)
    size = 0 if start < 0 else int(head[start + len(_LENGTH) :].split(b"\r\n", 1)[0])
    body = came[end + len(_HEAD_END) :]
    return (status, body) if len(body) >= size else None


async def wire(url: str, token: str) -> Wire:
    """An open connection to the hub at ``url`` (``http://host:port``).

    Raises:
        HubUnreachable: nobody answers there.
    """
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    try:
        _, made = await loop.create_connection(lambda: Wire(url, token), parts.hostname or "", parts.port or 80)
    except OSError as exc:
        raise HubUnreachable(url, exc.strerror or str(exc)) from exc
    return made
