"""The one way out for confined work: a proxy for HTTP and TLS that passes on to listed names only.

A program in a network namespace of its own reaches nobody; who connects to :data:`ADDRESS` is talked to here, outside
(``sidecar/sandbox/door.py``). Names are looked up here, all that a name stands for has to be public, and the connection
goes to the address that was judged, so a second answer of a name server changes nothing. Rules:
:mod:`sidecar.core.egress`. Caller: ``sidecar/sandbox/cell.py``.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import structlog

from sidecar.core.egress import Allowed, Denied, Wanted, is_public, request
from sidecar.sandbox.door import served

log = structlog.get_logger(__name__)

PORT: Final = 3128
ADDRESS: Final = f"http://127.0.0.1:{PORT}"
VARIABLES: Final = {
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), ADDRESS),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), "localhost,127.0.0.1,::1"),
}
"""How programs learn of it."""
_HEAD_BYTES: Final = 16 << 10
_CHUNK_BYTES: Final = 64 << 10
_HEAD_S: Final = 30.0
_CONNECT_S: Final = 15.0
IDLE_S: Final = 300.0
_MOST: Final = 64
"""Connections of one program at a time."""
_ADDRESSES: Final = 4
"""Addresses of a name that are tried."""


async def resolve(host: str) -> Sequence[str]:
    """All addresses that a name stands for.

    Raises:
        OSError: nobody knows.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(each[4][0]) for each in found))


class Egress:
    """The proxy of this sidecar.

    Args:
        allowed: the names that work may reach.
        look_up: what a name stands for.
        may_reach: whether an address may be reached at all.
        idle_s: after so long without a byte in either direction a connection is closed.
    """

    def __init__(
        self,
        allowed: Allowed,
        look_up: Callable[[str], Awaitable[Sequence[str]]] = resolve,
        may_reach: Callable[[str], bool] = is_public,
        idle_s: float = IDLE_S,
    ) -> None:
        self._allowed, self._look_up, self._may_reach = allowed, look_up, may_reach
        self._idle_s = idle_s

    port: Final = PORT
    variables: Final = VARIABLES

    def line(self) -> AbstractAsyncContextManager[int]:
        """See :class:`sidecar.sandbox.door.Door`."""
        return served(self._serve)

    async def _serve(self, door: socket.socket) -> None:
        talks: set[asyncio.Task[None]] = set()

        def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(talks) >= _MOST:
                writer.close()
                return
            task = asyncio.create_task(self._talk(reader, writer))
            talks.add(task)
            task.add_done_callback(talks.discard)

        server = await asyncio.start_server(welcome, sock=door, limit=_HEAD_BYTES)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for task in talks:
                task.cancel()
            await asyncio.gather(*talks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HEAD_S):
                wanted = request(await reader.readuntil(b"\r\n\r\n"))
            far_reader, far_writer = await self._connect(wanted)
            try:
                if wanted.first:
                    far_writer.write(wanted.first)
                else:
                    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await relay((reader, far_writer), (far_reader, writer), idle_s=self._idle_s)
            finally:
                far_writer.close()
        except Denied as exc:
            log.info("egress_refused", status=exc.status, why=exc.why)
            text = f"{exc.why}\n".encode()
            head = f"HTTP/1.1 {exc.status} Refused\r\nContent-Type: text/plain\r\nConnection: close\r\n"
            writer.write(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # one side went away, or never said what it wants
        finally:
            writer.close()

    async def _connect(self, wanted: Wanted) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._allowed.check(wanted.host, wanted.port)
        try:
            async with asyncio.timeout(_CONNECT_S):
                addresses = await self._look_up(wanted.host)
        except (OSError, UnicodeError) as exc:  # TimeoutError is an OSError
            raise Denied(502, f"nobody knows {wanted.host}") from exc
        if not addresses or not all(map(self._may_reach, addresses)):
            raise Denied(403, f"{wanted.host} does not stand for addresses of the public internet only")
        for address in addresses[:_ADDRESSES]:
            with contextlib.suppress(OSError):
                async with asyncio.timeout(_CONNECT_S):
                    return await asyncio.open_connection(address, wanted.port)
        raise Denied(502, f"{wanted.host}:{wanted.port} does not answer")


async def relay(*ways: tuple[asyncio.StreamReader, asyncio.StreamWriter], idle_s: float) -> None:
    """Pass on what comes, each way until it ends.

    Raises:
        TimeoutError: nothing came in either direction for ``idle_s``: who downloads for an hour says nothing meanwhile.
    """
    async with asyncio.timeout(idle_s) as idle:
        await asyncio.gather(*(_copy(reader, writer, idle, idle_s) for reader, writer in ways))


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, idle: asyncio.Timeout, idle_s: float
) -> None:
    clock = asyncio.get_running_loop().time
    while chunk := await reader.read(_CHUNK_BYTES):
        idle.reschedule(clock() + idle_s)
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
