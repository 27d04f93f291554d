"""The promises of the short way of frames: what comes is what was sent, however it was cut, and so is what leaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.frames import Frame, Opcode

from sidecar.short_frames import ShortFrames

SIZES = (0, 1, 2, 3, 124, 125, 126, 127, 128, 1_000, 65_534, 65_535, 65_536, 100_000)


@asynccontextmanager
async def connected(max_size: int = 1 << 20) -> AsyncIterator[tuple[ShortFrames, list[bytes]]]:
    """A connection, and what the other end has heard; nothing comes from there but the end."""
    heard: list[bytes] = []

    async def listen(connection: ServerConnection) -> None:
        async for message in connection:
            assert isinstance(message, bytes)
            heard.append(message)

    async with serve(listen, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"ws://127.0.0.1:{port}"
        async with connect(
            url, compression=None, ping_interval=None, max_size=max_size, create_connection=ShortFrames
        ) as socket:
            assert isinstance(socket, ShortFrames)
            yield socket, heard


def framed(data: bytes, opcode: Opcode = Opcode.BINARY, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=False)


@pytest.mark.parametrize("seed", range(20))
async def test_messages_come_as_they_were_sent_however_they_are_cut(seed: int) -> None:
    chance = Random(seed)
    messages = [chance.randbytes(chance.choice(SIZES[:10])) for _ in range(40)]
    pieces: list[bytes] = []
    for message in messages:
        if chance.random() < 0.2:
            pieces.append(framed(b"x", Opcode.PING))
        if chance.random() < 0.2:
            middle = chance.randint(0, len(message))
            pieces += [framed(message[:middle], fin=False), framed(message[middle:], Opcode.CONT)]
        else:
            pieces.append(framed(message))
    async with connected() as (socket, _):
        while pieces:
            come = pieces.pop(0)
            how = chance.random()
            if how < 0.2 and pieces:
                pieces[0] = come + pieces[0]
                continue
            cut = chance.randint(0, len(come)) if how < 0.5 else 0
            for part in (come[:cut], come[cut:]):
                if part:
                    socket.data_received(part)
        found = [await socket.recv(decode=False) for _ in messages]

    assert found == messages


async def test_a_part_that_looks_like_a_frame_is_a_part() -> None:
    part = framed(b"abc")
    message = b"before" + part + b"behind"
    head, _, rest = framed(message).partition(part)
    async with connected() as (socket, _):
        for data in (framed(b"first"), head, part, rest):
            socket.data_received(data)

        assert [await socket.recv(decode=False) for _ in range(2)] == [b"first", message]


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_put_arrives_in_its_order(size: int) -> None:
    async with connected() as (socket, heard):
        expected = [bytes(size), b"between", Random(size).randbytes(size)]
        for frame in expected:
            socket.put(frame)

    assert heard == expected


async def test_a_frame_counts_byte_by_byte_before_it_is_whole() -> None:
    async with connected() as (socket, _):
        before = socket.received_bytes
        for byte in framed(b"some bytes"):
            socket.data_received(bytes((byte,)))
            before += 1
            assert socket.received_bytes == before
        assert await socket.recv(decode=False) == b"some bytes"


async def test_who_asks_for_nothing_is_sent_no_more() -> None:
    async with connected() as (socket, _):
        for _ in range(17):
            socket.data_received(framed(b"some bytes"))
        assert socket.recv_messages.paused
        for _ in range(17):
            assert await socket.recv(decode=False) == b"some bytes"
        assert not socket.recv_messages.paused


async def test_nothing_is_read_behind_the_end() -> None:
    async with connected() as (socket, _):
        socket.data_received(framed(b"before"))
        socket.data_received(framed(b"\x03\xe8", Opcode.CLOSE))
        socket.data_received(framed(b"behind it"))

        assert await socket.recv(decode=False) == b"before"
        with pytest.raises(ConnectionClosedOK):
            await socket.recv(decode=False)


@pytest.mark.parametrize("first", [0xC2, 0x83])
async def test_what_no_hub_says_ends_the_line(first: int) -> None:
    async with connected() as (socket, _):
        socket.data_received(bytes((first,)) + framed(b"some bytes")[1:])

        with pytest.raises(ConnectionClosedError):
            await socket.recv(decode=False)


@pytest.mark.parametrize("seed", range(20))
async def test_who_listens_hears_all_in_order_however_it_was_cut(seed: int) -> None:
    chance = Random(seed)
    messages = [chance.randbytes(chance.choice(SIZES[:10])) for _ in range(40)]
    stream = b"".join(map(framed, messages))
    found: list[bytes] = []
    async with connected() as (socket, _):
        listening = asyncio.create_task(socket.listen(found.append))
        while stream:
            size = (
                len(framed(messages[len(found)]))
                if chance.random() < 0.6 and len(found) < 40
                else chance.randint(1, 300)
            )
            socket.data_received(stream[:size])
            stream = stream[size:]
            if chance.random() < 0.7:
                await asyncio.sleep(0)
        socket.data_received(framed(b"", Opcode.CLOSE))
        with pytest.raises(ConnectionClosedOK):
            await listening

    assert found == messages


async def test_a_listener_is_called_as_a_short_message_comes() -> None:
    found: list[bytes] = []
    async with connected() as (socket, _):
        socket.data_received(framed(b"before"))
        listening = asyncio.create_task(socket.listen(found.append))
        await asyncio.sleep(0)
        socket.data_received(framed(b"at once"))
        at_once = [*found]
        socket.data_received(framed(b"a part", fin=False))
        socket.data_received(framed(b" and more", Opcode.CONT))
        socket.data_received(framed(b"behind it"))
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    assert at_once == [b"before", b"at once"]


async def test_what_a_listener_raises_ends_its_listening() -> None:
    found: list[bytes] = []

    def heard(message: bytes) -> None:
        found.append(message)
        if message == b"wrong":
            raise ValueError("it cannot be read")

    async with connected() as (socket, _):
        listening = asyncio.create_task(socket.listen(heard))
        await asyncio.sleep(0)
        for message in (b"right", b"wrong", b"behind it"):
            socket.data_received(framed(message))
        with pytest.raises(ValueError, match="it cannot be read"):
            await listening
        socket.data_received(framed(b"too late"))

    assert found == [b"right", b"wrong"]
