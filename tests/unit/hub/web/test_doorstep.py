"""The port with real sockets: who says nothing whole costs no server and no handshake, and goes; who does is heard."""

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any, cast

import pytest

from hub.core.porch import Porch
from hub.web.doorstep import Doorstep
from hub.web.porch import Visitor, visitor_of
from tests.support.both_loops import on_both_loops
from tests.support.certificates import self_signed

PATIENCE_S = 60.0
HEAD = b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n"
FORM = b"POST /session HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody"


class Server:
    """What stands behind the port; it answers what it hears with the same, and keeps the connection."""

    def __init__(self, **limits: Any) -> None:
        self.heard: list[bytes] = []
        self.ended = 0
        self.visitors: list[Visitor] = []
        self.porch: Porch[Visitor] = Porch(**limits)

    def __call__(self) -> asyncio.Protocol:
        return _Inner(self)


class _Inner(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # those of uvloop are nobody's children
        visitor = visitor_of(transport)
        assert visitor is not None
        self._server.visitors.append(visitor)

    def data_received(self, data: bytes) -> None:
        self._server.heard.append(data)
        self._transport.write(data)

    def eof_received(self) -> None:
        self._server.heard.append(b"")

    def connection_lost(self, _exc: Exception | None) -> None:
        self._server.ended += 1


@contextlib.asynccontextmanager
async def opened(server: Server, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Doorstep, tuple[str, int]]]:
    step = Doorstep(server, tls, porch=server.porch)
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield step, await step.open("127.0.0.1", 0)
    finally:
        step.close()
        await asyncio.sleep(0)


async def until(fact: Callable[[], bool]) -> None:
    while not fact():  # noqa: ASYNC110 - whoever makes it true has no way to tell
        await asyncio.sleep(0.01)


@contextlib.contextmanager
def contexts(folder: Path) -> Iterator[tuple[ssl.SSLContext, ssl.SSLContext]]:
    """Of a server, and of a client that believes it."""
    cert, key = self_signed(folder, "127.0.0.1")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    yield server, ssl.create_default_context(cafile=str(cert))


async def is_closed(reader: asyncio.StreamReader) -> bool:
    try:
        return not await reader.read()
    except ConnectionError:
        return True


@pytest.mark.parametrize("said", [HEAD, FORM], ids=["head", "body"])
@on_both_loops
async def test_only_what_is_whole_reaches_the_server_and_then_as_it_was_said(said: bytes) -> None:
    async with opened(server := Server()) as (step, where):
        reader, writer = await asyncio.open_connection(*where)
        for at in range(len(said) - 1):
            writer.write(said[at : at + 1])
            await writer.drain()
            await asyncio.sleep(0)
        await until(lambda: step.waiting == 1)
        assert server.visitors == []
        writer.write(said[-1:])

        assert await reader.readexactly(len(said)) == said
        writer.write(b"and more")
        assert await reader.readexactly(8) == b"and more"
        writer.close()
        await until(lambda: server.ended == 1)
        assert server.heard[0] == said
        assert step.waiting == 0


@on_both_loops
async def test_a_whole_request_that_is_there_before_anybody_looks_is_one_word() -> None:
    async with opened(server := Server()) as (_, where):
        with socket.create_connection(where) as line:
            line.sendall(HEAD)
            line.shutdown(socket.SHUT_WR)
            await until(lambda: server.heard == [HEAD, b""])


@on_both_loops
async def test_where_the_system_tells_too_early_nobody_goes_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: no low-water mark (some sandboxes), or one that counts for nothing (Linux when short of memory)."""
    monkeypatch.setattr(socket, "SO_RCVLOWAT", socket.SO_KEEPALIVE)  # an option that changes nothing here
    async with opened(server := Server()) as (step, where):
        reader, writer = await asyncio.open_connection(*where)
        writer.write(HEAD[:9])
        await until(lambda: step.waiting == 1 or step.turned_away == 1)
        for _ in range(20):  # turns in which it is looked at again
            await asyncio.sleep(0)
        writer.write(HEAD[9:])

        assert await reader.readexactly(len(HEAD)) == HEAD
        assert step.turned_away == 0
        writer.close()
        await until(lambda: server.ended == 1)


@pytest.mark.parametrize("how", ["leaves", "is cut", "says no more"])
@on_both_loops
async def test_who_goes_before_it_has_said_anything_whole_leaves_nothing(how: str) -> None:
    async with opened(server := Server()) as (step, where):
        with socket.create_connection(where) as line:
            line.sendall(HEAD[:9])
            await until(lambda: step.waiting == 1)
            if how == "is cut":
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if how == "says no more":
                line.shutdown(socket.SHUT_WR)
            else:
                line.close()
            await until(lambda: step.waiting == 0)
    assert server.visitors == []


@pytest.mark.parametrize("said", [b"", HEAD[:9]], ids=["nothing", "half a head"])
@on_both_loops
async def test_who_takes_too_long_is_shown_out_and_a_drip_is_no_help(said: bytes) -> None:
    async with opened(server := Server(patience_s=0.3)) as (step, where):
        reader, writer = await asyncio.open_connection(*where)
        writer.write(said)
        ending = asyncio.ensure_future(is_closed(reader))
        while not ending.done():
            if said and not writer.is_closing():  # its reader hears of the end a turn later
                writer.write(b"x")
            await asyncio.sleep(0.01)
        writer.close()
        await until(lambda: step.turned_away == 1)
    assert (step.waiting, server.visitors) == (0, [])


@on_both_loops
async def test_a_guest_stays_and_who_has_shown_nothing_goes_after_its_answer() -> None:
    async with opened(server := Server(patience_s=0.3)) as (step, where):
        lines = [await asyncio.open_connection(*where) for _ in range(2)]
        for reader, writer in lines:
            writer.write(HEAD)
            await reader.readexactly(len(HEAD))
        guest, stranger = server.visitors
        guest.is_known()
        stranger.asks()
        stranger.answered()
        await until(lambda: server.ended == 1)

        assert (step.waiting, step.turned_away, guest.is_guest) == (0, 1, True)
        lines[0][1].write(b"still here")
        assert await lines[0][0].readexactly(10) == b"still here"
        assert await is_closed(lines[1][0])
        for _, writer in lines:
            writer.close()


@pytest.mark.parametrize("said", [b"", HEAD], ids=["silent", "asking"])
@on_both_loops
async def test_one_too_many_is_told_so(said: bytes) -> None:
    async with opened(Server(altogether=0)) as (step, where):
        with socket.create_connection(where, PATIENCE_S) as line:
            line.sendall(said)  # before the hub has seen it
            await until(lambda: step.turned_away == 1)

            assert line.recv(1_000).split()[1] == b"503"
            assert line.recv(1) == b"", "an end in order"


@on_both_loops
async def test_the_end_of_the_port_is_the_end_of_all_that_wait() -> None:
    async with opened(server := Server()) as (step, where):
        silent = await asyncio.open_connection(*where)
        reader, served = await asyncio.open_connection(*where)
        served.write(HEAD)
        await reader.readexactly(len(HEAD))
        await until(lambda: step.waiting == 2)
        step.close()

        assert await is_closed(silent[0])
        served.write(b"go on")
        assert await reader.readexactly(5) == b"go on"
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*where)
        for each in (silent[1], served):
            each.close()
        await until(lambda: server.ended == 1)


@on_both_loops
async def test_where_descriptors_are_short_strangers_make_room() -> None:
    """Fault: no descriptor is left for one more connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with opened(server := Server()) as (step, where):
        lines = [socket.socket() for _ in range(12)]  # three times what there is room for
        taken = {int(each.name) for each in Path("/proc/self/fd").iterdir()}
        free = (number for number in count() if number not in taken)
        resource.setrlimit(resource.RLIMIT_NOFILE, (next(islice(free, 4, None)), hard))
        try:
            for line in lines:
                line.connect(where)  # the system takes all of them
            lines[-1].send(HEAD)
            await until(lambda: server.heard == [HEAD])
            assert step.turned_away > 0
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for line in lines:
            line.close()
        await until(lambda: step.waiting == 0)


# --- over TLS ---------------------------------------------------------------------------------------------------------


def hello(client: ssl.SSLContext) -> bytes:
    heard, says = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        client.wrap_bio(heard, says, server_hostname="127.0.0.1").do_handshake()
    return says.read()


@on_both_loops
async def test_over_tls_the_server_has_whoever_has_said_something_whole_behind_the_handshake(tmp_path: Path) -> None:
    server = Server()
    with contexts(tmp_path) as (tls, client):
        async with opened(server, tls) as (step, where):
            reader, writer = await asyncio.open_connection(*where, ssl=client)
            writer.write(HEAD[:5])
            await until(lambda: step.waiting == 1)
            await asyncio.sleep(0)
            assert server.visitors == []
            writer.write(HEAD[5:])

            assert await reader.readexactly(len(HEAD)) == HEAD
            assert server.heard == [HEAD]
            writer.close()
            await until(lambda: server.ended == 1)


@pytest.mark.parametrize("ends", ["by itself", "in the middle", "after it"])
@on_both_loops
async def test_who_ends_no_handshake_or_says_nothing_after_it_is_shown_out(ends: str, tmp_path: Path) -> None:
    server = Server(patience_s=0.3)
    with contexts(tmp_path) as (tls, client):
        async with opened(server, tls) as (step, where):
            context = client if ends == "after it" else None
            reader, writer = await asyncio.open_connection(*where, ssl=context)
            if ends != "after it":
                writer.write(hello(client)[: -1 if ends == "by itself" else None])
            await until(lambda: step.turned_away == 1)
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
    assert (step.waiting, server.visitors) == (0, [])


@on_both_loops
async def test_what_is_no_handshake_is_not_waited_for(tmp_path: Path) -> None:
    with contexts(tmp_path) as (tls, _):
        async with opened(Server(), tls) as (step, where):
            reader, writer = await asyncio.open_connection(*where)
            writer.write(HEAD)

            assert await is_closed(reader)
            assert step.turned_away == 1
            writer.close()


@on_both_loops
async def test_many_handshakes_at_once_are_all_done(tmp_path: Path) -> None:
    with contexts(tmp_path) as (tls, client):
        async with opened(server := Server(), tls) as (_, where):
            lines = await asyncio.gather(*(asyncio.open_connection(*where, ssl=client) for _ in range(40)))
            for reader, writer in lines:
                writer.write(HEAD)
                assert await reader.readexactly(len(HEAD)) == HEAD
                writer.close()
            await until(lambda: server.ended == 40)


@on_both_loops
async def test_an_address_that_is_taken_or_not_here_is_said_to_be() -> None:
    async with opened(Server()) as (_, where):
        other = Doorstep(Server())
        with pytest.raises(OSError, match="in use"):
            await other.open(*where)
    with pytest.raises(OSError, match=r"[Cc]annot assign|no such"):
        await Doorstep(Server()).open("192.0.2.1", 0)
