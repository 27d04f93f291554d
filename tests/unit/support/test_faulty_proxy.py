"""The proxy does to connections exactly what it is told, and nothing when it is told nothing."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest

from tests.support.faulty_proxy import Faults, FaultyProxy, Way
from tests.support.weather import Weather

PATIENCE_S = 10.0


async def until(fact: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not fact():  # noqa: ASYNC110 - counters and sockets tell nobody when they change
            await asyncio.sleep(0.001)


class Listener:
    """A server that keeps what it hears and says everything back; HTTP requests are answered by their number."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.ends: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.heard)
        self.heard.append(b"")
        self.ends.append("")
        try:
            while said := await reader.read(1 << 16):
                self.heard[number] += said
                if said.startswith(b"POST"):
                    writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\n%d" % number)
                    break
                writer.write(said)
                await writer.drain()
            self.ends[number] = "closed"
        except ConnectionError:
            self.ends[number] = "reset"
        writer.close()

    async def until_ended(self, count: int = 1) -> list[str]:
        await until(lambda: len(self.ends) >= count and all(self.ends))
        return self.ends


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    made = Listener()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest.fixture
async def proxy(listener: Listener) -> AsyncIterator[FaultyProxy]:
    made = FaultyProxy(("127.0.0.1", listener.port), seed=1)
    await made.start()
    yield made
    await made.stop()


@contextlib.asynccontextmanager
async def connected(proxy: FaultyProxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def heard(reader: asyncio.StreamReader, count: int) -> bytes:
    return await asyncio.wait_for(reader.readexactly(count), PATIENCE_S)


async def test_without_faults_everything_comes_through_and_the_end_too(listener: Listener, proxy: FaultyProxy) -> None:
    sent = bytes(range(256)) * 4_000
    async with connected(proxy) as (reader, writer):
        writer.write(sent)
        answer = await heard(reader, len(sent))
        writer.write_eof()
        rest = await asyncio.wait_for(reader.read(), PATIENCE_S)

    assert answer == sent
    assert rest == b""
    assert listener.heard == [sent]
    assert await listener.until_ended() == ["closed"]
    assert (proxy.counts.bytes_up, proxy.counts.bytes_down, proxy.counts.accepted) == (len(sent), len(sent), 1)


async def test_a_delay_holds_everything_up_and_keeps_its_order(proxy: FaultyProxy) -> None:
    proxy.faults = Faults(up=Way(delay_s=0.05, jitter_s=0.05))
    began = time.monotonic()
    async with connected(proxy) as (reader, writer):
        for number in range(20):
            writer.write(b"%02d" % number)
            await writer.drain()
        answer = await heard(reader, 40)

    assert answer == b"".join(b"%02d" % number for number in range(20))
    assert time.monotonic() - began >= 0.05


async def test_a_narrow_line_takes_its_time(proxy: FaultyProxy) -> None:
    proxy.faults = Faults(down=Way(bytes_per_s=100_000))
    began = time.monotonic()
    async with connected(proxy) as (reader, writer):
        writer.write(b"x" * 20_000)
        await heard(reader, 20_000)

    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("resets", [True, False])
async def test_a_cut_comes_after_so_many_bytes_and_both_ends_learn_of_it(
    listener: Listener, proxy: FaultyProxy, *, resets: bool
) -> None:
    proxy.faults = Faults(up=Way(cut_after=(1_000, 1_000)), resets=resets)
    async with connected(proxy) as (reader, writer):
        writer.write(b"x" * 5_000)
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), PATIENCE_S)
            await asyncio.wait_for(reader.read(), PATIENCE_S)

    assert await listener.until_ended() == ["reset" if resets else "closed"]
    assert len(listener.heard[0]) in ({0, 1_000} if resets else {1_000})  # a RST may overtake what it follows
    assert proxy.counts.cuts == 1


async def test_where_a_connection_is_cut_depends_on_the_seed_alone(listener: Listener) -> None:
    lengths = []
    for seed in (7, 7, 8):
        proxy = FaultyProxy(("127.0.0.1", listener.port), seed)
        proxy.faults = Faults(up=Way(cut_after=(1, 4_000)), resets=False)
        await proxy.start()
        before = len(listener.heard)
        async with connected(proxy) as (reader, writer):
            writer.write(b"x" * 5_000)
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), PATIENCE_S)
        await listener.until_ended(before + 1)
        lengths.append(len(listener.heard[before]))
        await proxy.stop()

    assert lengths[0] == lengths[1] != lengths[2]


async def test_a_swallowed_byte_is_told_to_nobody_and_neither_is_the_end(
    listener: Listener, proxy: FaultyProxy
) -> None:
    async with connected(proxy) as (reader, writer):
        writer.write(b"before")
        await heard(reader, 6)
        proxy.faults = Faults(up=Way(swallows=True))
        writer.write(b"lost")
        await until(lambda: proxy.counts.bytes_lost == 4)

    assert listener.heard == [b"before"]
    assert listener.ends == [""]


async def test_what_is_refused_is_reset_at_once(listener: Listener, proxy: FaultyProxy) -> None:
    proxy.faults = Faults(refuses=True)
    async with connected(proxy) as (reader, _):
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(reader.readexactly(1), PATIENCE_S)

    assert listener.heard == []
    assert (proxy.counts.accepted, proxy.counts.refused) == (0, 1)


async def test_cutting_ends_every_connection_that_stands_and_no_later_one(
    listener: Listener, proxy: FaultyProxy
) -> None:
    async with connected(proxy) as (reader, writer):
        writer.write(b"hello")
        await heard(reader, 5)
        proxy.cut()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(reader.readexactly(1), PATIENCE_S)
        assert await listener.until_ended() == ["reset"]
    async with connected(proxy) as (reader, writer):
        writer.write(b"again")
        assert await heard(reader, 5) == b"again"


async def test_a_request_is_said_twice_and_answered_once(listener: Listener, proxy: FaultyProxy) -> None:
    proxy.faults = Faults(says_twice=True)
    async with connected(proxy) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nbo")
        writer.write(b"dy")
        answer = await asyncio.wait_for(reader.read(), PATIENCE_S)

    request = b"POST / HTTP/1.1\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody"
    assert listener.heard == [request, request]
    assert answer[-1:] in {b"0", b"1"}
    assert proxy.counts.doubled == 1


async def test_as_a_process_it_takes_orders_and_counts(listener: Listener) -> None:
    weather = await asyncio.to_thread(Weather, f"127.0.0.1:{listener.port}")
    try:
        port = int(weather.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        await heard(reader, 5)
        counts = await asyncio.to_thread(lambda: weather.counts)
        await asyncio.to_thread(weather.cut)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(reader.readexactly(1), PATIENCE_S)
        writer.close()
    finally:
        await asyncio.to_thread(weather.end)

    assert (counts["accepted"], counts["open"], counts["bytes_up"], counts["bytes_down"]) == (1, 1, 5, 5)


def test_a_fault_that_is_none_is_refused_by_its_name() -> None:
    weather = Weather("127.0.0.1:9")
    try:
        with pytest.raises(AssertionError, match="sideways"):
            weather.set(sideways={})
    finally:
        weather.end()
