"""HTTP for a command that asks one thing and ends: a connection a call, no event loop, nothing large to import first.

The library behind ``agentcom/transport.py`` takes longer to import than a hub to answer, and so does an event loop.
This speaks just enough HTTP/1.1 for the hub's JSON (RFC 9112: a length, chunks, or the end of the connection), in the
thread that calls, so Ctrl-C ends a call at once. Its coroutines never wait for a loop: ``agentcom/blocking.py`` runs
them without one. Streams and files go the other way.
"""

import os
import socket
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit

from agentcom.answers import HOW_TO_START, LostAnswer, NoHub, value_from
from agentcom.calls import CALL_S, CONNECT_S, Asked, Calls, Frame
from protocol.errors import HubUnreachable

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")
_PORTS: Final = {"http": 80, "https": 443}
_CONTINUE: Final = 200
_WITHOUT_BODY: Final = frozenset({204, 304})
_MAX_HEAD_BYTES: Final = 64 << 10
_PIECE_BYTES: Final = 64 << 10


class Answer(NamedTuple):
    """What came back; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class BriefTransport(Calls):
    """Single calls, each over a connection of its own."""

    async def close(self) -> None:
        """Nothing is kept."""

    def follow(
        self, path: str, *, query: Mapping[str, Any] | None = None, after: int | None = None
    ) -> AsyncGenerator[Frame, None]:
        """No stream: that takes a loop."""
        del query, after
        raise AssertionError(f"nobody follows {path} without a loop")

    def fetch(self, path: str, size_bytes: int) -> AsyncGenerator[bytes, None]:
        """No file: that takes a loop."""
        del size_bytes
        raise AssertionError(f"nobody fetches {path} without a loop")

    async def server_date(self) -> str:
        """See :class:`agentcom.calls.Calls`."""
        asked = Asked("GET", "/healthz", None, None, {}, CALL_S)
        return (await self._answered(asked)).headers.get("date", "")

    async def _pause(self, pause_s: float) -> None:
        time.sleep(pause_s)  # noqa: ASYNC251 - there is no loop that could go on meanwhile

    async def _once(self, asked: Asked, shape: type[T]) -> T:
        answer = await self._answered(asked)
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        return value_from(self.url, answer.status, kind, answer.body, shape, answer.headers.get("retry-after"))

    async def _answered(self, asked: Asked) -> Answer:
        with closing(await self._connected()) as line:
            try:
                line.ends_at = time.monotonic() + asked.call_s
                request = _request(self.url, asked)
                with suppress(ConnectionError):  # who hangs up before all was said may have answered first
                    line.write(request)
                return _answer(line)
            except (OSError, ValueError) as exc:  # TimeoutError is an OSError
                broke = f"the connection broke ({str(exc) or type(exc).__name__})"
                why = "no answer in time" if isinstance(exc, TimeoutError) else broke
                raise LostAnswer(self.url, f"{why}; the request may or may not have been done") from exc

    async def _connected(self) -> "_Line":
        parts = urlsplit(self.url)
        ends_at = time.monotonic() + CONNECT_S
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        try:
            if parts.scheme == "https":
                return await self._secured(host, port, ends_at)
            return _Line(_reached(host, port, ends_at), ends_at)
        except TimeoutError as exc:
            raise HubUnreachable(self.url, f"no connection within {CONNECT_S:g} s; {HOW_TO_START}") from exc
        except OSError as exc:
            # Python words some errors itself; the system's words are the ones that people know and search for.
            why = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else str(exc)
            raise HubUnreachable(self.url, f"{why}; {HOW_TO_START}") from exc

    async def _secured(self, host: str, port: int, ends_at: float) -> "_Line":
        import ssl  # half as dear as all the rest, and most hubs of one's own machine speak without

        async def connect(host: str, port: int, ssl: "ssl.SSLContext") -> "tuple[_Line, _Line]":
            line = _Line(_wrapped(_reached(host, port, ends_at), host, ssl, ends_at), ends_at)
            return line, line

        try:
            context = await self._trust.context(self.url, connect) or ssl.create_default_context()
            return (await connect(host, port, context))[0]
        except ssl.SSLCertVerificationError as exc:
            if (refusal := self._trust.refusal(self.url)) is not None:
                raise refusal from exc
            raise NoHub(self.url, f"its certificate is not trusted here: {exc}") from exc
        except ssl.SSLError as exc:  # its number is none of the system's
            raise OSError(f"TLS failed: {exc.strerror or exc}") from exc


class _Line:
    """A connection; whatever is done with it ends by ``ends_at``, or raises :exc:`TimeoutError`."""

    def __init__(self, line: socket.socket, ends_at: float) -> None:
        self._socket, self._held = line, b""
        self.ends_at = ends_at

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def write(self, data: bytes) -> None:
        """Send all of ``data``."""
        self._socket.settimeout(_left_s(self.ends_at))
        self._socket.sendall(data)

    async def read(self, n: int = -1) -> bytes:
        """At most ``n`` bytes, as asyncio's streams give them; none at the end."""
        self._socket.settimeout(_left_s(self.ends_at))
        return self._socket.recv(n if n > 0 else _PIECE_BYTES)

    def until(self, end: bytes) -> bytes:
        """All up to ``end``, and that.

        Raises:
            ValueError: there is none within what a head may hold.
        """
        while (at := self._held.find(end)) < 0 and len(self._held) <= _MAX_HEAD_BYTES:
            self._held += self._more()
        if not 0 <= at <= _MAX_HEAD_BYTES:
            raise ValueError(f"no end within {_MAX_HEAD_BYTES:,} bytes")
        found, self._held = self._held[: at + len(end)], self._held[at + len(end) :]
        return found

    def exactly(self, size: int) -> bytes:
        """``size`` bytes.

        Raises:
            ValueError: there is no such size, or the connection ends before.
        """
        if size < 0:
            raise ValueError(f"a length of {size}")
        pieces = [self._held]
        missing = size - len(self._held)
        while missing > 0:
            pieces.append(self._more())
            missing -= len(pieces[-1])
        whole = b"".join(pieces)
        found, self._held = whole[:size], whole[size:]
        return found

    def rest(self) -> bytes:
        """All up to the end of the connection."""
        pieces = [self._held]
        self._held = b""
        while piece := self._piece():
            pieces.append(piece)
        return b"".join(pieces)

    def _more(self) -> bytes:
        if not (piece := self._piece()):
            raise ValueError("it ended too early")
        return piece

    def _piece(self) -> bytes:
        self._socket.settimeout(_left_s(self.ends_at))
        return self._socket.recv(_PIECE_BYTES)


def _left_s(ends_at: float) -> float:
    left_s = ends_at - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _reached(host: str, port: int, ends_at: float) -> socket.socket:
    """A connection to the first of the addresses of ``host`` that takes one.

    Raises:
        OSError: none does; or nobody knows the name.
    """
    refused: OSError | None = None
    for family, kind, protocol, _, address in _addresses(host, port, ends_at):
        try:
            line = socket.socket(family, kind, protocol)
        except OSError as exc:  # a kind of address that this system does not have
            refused = refused or exc
            continue
        try:
            line.settimeout(_left_s(ends_at))
            line.connect(address)
        except BaseException as exc:
            line.close()
            if isinstance(exc, TimeoutError) or not isinstance(exc, OSError):
                raise
            refused = exc
            continue
        return line
    raise refused or OSError(f"{host} has no address")


def _addresses(host: str, port: int, ends_at: float) -> "list[tuple[Any, ...]]":
    # As text a name is put into the form of other alphabets first, for which there is a library of its own.
    name = host.encode() if host.isascii() else host
    try:
        return [*socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)]
    except socket.gaierror:
        return _looked_up(name, port, ends_at)
    except UnicodeError as exc:
        raise OSError(f"{host!r} cannot be the name of a host: {exc}") from exc


def _looked_up(host: str | bytes, port: int, ends_at: float) -> "list[tuple[Any, ...]]":
    """The addresses of a name, from a thread: the system's look-up hears neither Ctrl-C nor how long there is."""
    import threading

    found: list[tuple[Any, ...]] = []
    failed: list[OSError] = []

    def look_up() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as exc:
            failed.append(exc)

    looking = threading.Thread(target=look_up, name="agentcom-names", daemon=True)
    looking.start()
    looking.join(_left_s(ends_at))
    if failed:
        raise failed[0]
    if looking.is_alive():
        raise TimeoutError
    return found


def _wrapped(line: socket.socket, host: str, context: "ssl.SSLContext", ends_at: float) -> "ssl.SSLSocket":
    try:
        line.settimeout(_left_s(ends_at))
        return context.wrap_socket(line, server_hostname=host)
    except BaseException:
        line.close()
        raise


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


def _answer(line: _Line) -> Answer:
    """What the other end answers.

    Raises:
        ValueError: it is no HTTP, ends too early, or its head never does.
        OSError: the connection breaks, or takes too long.
    """
    status = 0
    headers: dict[str, str] = {}
    while status < _CONTINUE:
        first, *lines = line.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
            message = f"not HTTP: {first[:60]!r}"
            raise ValueError(message)
        status = int(rest[:3])
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Answer(status, headers, b"" if status in _WITHOUT_BODY else _body(line, headers))


def _body(line: _Line, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        pieces = []
        while size := int(line.until(b"\r\n").partition(b";")[0], 16):
            pieces.append(line.exactly(size))
            line.exactly(2)
        return b"".join(pieces)
    if "content-length" in headers:
        return line.exactly(int(headers["content-length"]))
    return line.rest()
