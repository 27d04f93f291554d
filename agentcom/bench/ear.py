"""The event stream of a hub over a bare connection, with as little in front of it as there can be: see ``wire.py``.

Understands what a hub sends: an answer in chunks, in it events of one line of data each.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast
from urllib.parse import urlsplit

from protocol.errors import HubUnreachable

_HEAD_END: Final = b"\r\n\r\n"
_DATA: Final = b"data: "
_ID: Final = b"id: "


class Ear(asyncio.Protocol):
    """One open stream; :func:`listen` opens it.

    Attributes:
        newest: the last event that was heard, from which another one may go on.
        over: done when the stream is; with an error if it never began, or holds what cannot be understood.
    """

    def __init__(self, url: str, request: bytes, after: int, heard: Callable[[bytes], None]) -> None:
        self.newest = after
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._url, self._request, self._heard = url, request, heard
        self._is_open = False
        self._came = self._text = b""  # what is no whole chunk yet, and of those what is no whole event

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands: ask."""
        self._transport = cast("asyncio.Transport", transport)  # those of uvloop are nobody's children
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """A part of the stream has come."""
        self._came += data
        if not self._is_open:
            head, end, rest = self._came.partition(_HEAD_END)
            if not end:
                return
            status = head.split(b"\r\n", 1)[0].decode("ascii", "replace")
            if " 200 " not in status or b"\r\ntransfer-encoding: chunked" not in head.lower():
                self._end(HubUnreachable(self._url, f"no stream of events: {status}"))
                return
            self._is_open, self._came = True, rest
        try:
            *events, self._text = (self._text + self._chunks()).split(b"\n\n")
            for event in events:
                self._tell(event)
        except Exception as exc:  # noqa: BLE001 - the loop would only log it; whoever waits is told
            self._end(exc)

    def _chunks(self) -> bytes:
        """What is in the chunks that are whole."""
        came, at, found = self._came, 0, b""
        while (start := came.find(b"\r\n", at) + 2) > 1:
            end = start + int(came[at : start - 2], 16)
            if len(came) < end + 2:
                break
            found += came[start:end]
            at = end + 2
        self._came = came[at:]
        return found

    def _tell(self, event: bytes) -> None:
        for line in event.split(b"\n"):
            if line.startswith(_ID):
                self.newest = int(line[len(_ID) :])
            elif line.startswith(_DATA):
                self._heard(line[len(_DATA) :])

    def _end(self, error: Exception | None) -> None:
        self._transport.close()
        if not self.over.done():
            if error is None:
                self.over.set_result(None)
            else:
                self.over.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        broke = HubUnreachable(self._url, f"the connection broke ({exc or 'closed'})")
        self._end(None if self._is_open else broke)

    def close(self) -> None:
        """Hang up."""
        self._end(None)


async def listen(url: str, token: str, path: str, after: int, heard: Callable[[bytes], None]) -> Ear:
    """Hear the data of every event behind ``after`` that ``path`` tells of.

    Raises:
        HubUnreachable: nobody answers there.
    """
    parts = urlsplit(url)
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n"
        f"Accept: text/event-stream\r\nLast-Event-ID: {after}\r\n\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    try:
        _, ear = await loop.create_connection(
            lambda: Ear(url, request, after, heard), parts.hostname or "", parts.port or 80
        )
    except OSError as exc:
        raise HubUnreachable(url, exc.strerror or str(exc)) from exc
    return ear
