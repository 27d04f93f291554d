"""Whoever listens to a sidecar's socket hears each frame in the turn that read it, in its order, until it closes."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from contextvars import ContextVar
from random import Random

import pytest
import websockets

from hub.gateway.websocket import QUEUE_BYTES, WebSocket
from tests.integration.test_mesh_sockets import Anteroom, dial, in_a_room, masked, raw, until, upgrade

READ_BYTES = 256 << 10
"""As much as a loop reads from a socket at once."""
WHO: ContextVar[str] = ContextVar("who", default="nobody")


class Listener:
    """Keeps what it hears, and who heard it; listens when it is told to."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.heard: list[bytes] = []
        self.who: set[str] = set()
        self.listens = asyncio.Event()
        if at_once:
            self.listens.set()

    def hear(self, frame: bytes) -> None:
        self.heard.append(frame)
        self.who.add(WHO.get())
        if frame == b"wrong":
            raise ConnectionResetError("that was wrong")

    async def __call__(self, socket: WebSocket) -> str:
        WHO.set("listener")
        await self.listens.wait()
        await socket.listen(self.hear)
        return "closed"


class Turns:
    """Counts what is heard in one turn of the loop."""

    def __init__(self) -> None:
        self.heard_bytes = self.most_bytes = self._now_bytes = 0

    def hear(self, frame: bytes) -> None:
        if not self._now_bytes:
            asyncio.get_running_loop().call_soon(self._next)
        self.heard_bytes += len(frame)
        self._now_bytes += len(frame)

    def _next(self) -> None:
        self.most_bytes, self._now_bytes = max(self.most_bytes, self._now_bytes), 0


@contextlib.asynccontextmanager
async def opened(room: Anteroom) -> AsyncIterator[tuple[WebSocket, Listener, asyncio.StreamReader]]:
    """A socket that somebody listens to; what comes is given to it by hand, in pieces of any kind."""
    listener = Listener()
    room.serve = listener
    async with raw(room) as (reader, writer):
        writer.write(upgrade() + masked(0x82, b"first"))
        await reader.readuntil(b"\r\n\r\n")
        await until(lambda: listener.heard)
        listener.heard.clear()
        yield room.sockets[-1], listener, reader


@in_a_room
async def test_a_frame_is_heard_in_the_turn_that_read_it_by_who_listens(room: Anteroom) -> None:
    async with opened(room) as (socket, listener, _):
        socket.data_received(masked(0x82, b"one") + masked(0x82, b"two"))

        assert listener.heard == [b"one", b"two"]
        assert listener.who == {"listener"}


@pytest.mark.parametrize("seed", range(10))
@in_a_room
async def test_frames_are_heard_in_their_order_however_they_come(room: Anteroom, seed: int) -> None:
    chance = Random(seed)
    frames = [chance.randbytes(chance.randint(0, 125)) for _ in range(60)]
    said = b""
    for frame in frames:
        if chance.random() < 0.2:
            said += masked(0x89, b"?")
        if chance.random() < 0.2:
            middle = chance.randint(0, len(frame))
            said += masked(0x02, frame[:middle]) + masked(0x80, frame[middle:])
        else:
            said += masked(0x82, frame)
    async with opened(room) as (socket, listener, _):
        while said:
            size = chance.choice((1, 7, 100, 1_000))
            socket.data_received(said[:size])
            said = said[size:]
            if chance.random() < 0.2:
                await asyncio.sleep(0)
        await until(lambda: len(listener.heard) >= len(frames))

        assert listener.heard == frames


@in_a_room
async def test_what_came_before_anybody_listened_is_heard_first(room: Anteroom) -> None:
    listener = Listener(at_once=False)
    room.serve = listener
    frames = [bytes([number]) * (QUEUE_BYTES * 3 if number % 4 == 0 else 1_000) for number in range(60)]
    async with dial(room) as line:
        sending = asyncio.ensure_future(send_all(line, frames))
        await until(lambda: room.sockets and room.sockets[0]._reading_paused)
        listener.listens.set()
        await sending
        await until(lambda: len(listener.heard) == len(frames))

        assert listener.heard == frames


@in_a_room
async def test_what_is_read_on_when_the_queue_has_room_overtakes_nothing(room: Anteroom) -> None:
    long, head = bytes(3 * QUEUE_BYTES), struct.pack("!BBQ", 0x82, 0xFF, 3 * QUEUE_BYTES) + bytes(4)
    said = masked(0x89, b"?") + head + long + masked(0x82, b"small")
    async with opened(room) as (socket, listener, _):
        socket.data_received(said[:-100])  # more than the queue's share, and no end of the frame
        socket.data_received(said[-100:])  # behind the ping: the queue is full, and the small frame is left unread
        await until(lambda: len(listener.heard) > 1)

        assert listener.heard == [long, b"small"]


@in_a_room
async def test_a_flood_is_not_acted_on_in_one_turn_of_the_loop(room: Anteroom) -> None:
    size, count = 200, 40_000
    flood = masked(0x82, b"x") + (b"\x82\xfe" + struct.pack("!H", size) + bytes(4 + size)) * count
    turns = Turns()
    room.serve = lambda socket: socket.listen(turns.hear)
    async with raw(room) as (reader, writer):
        writer.write(upgrade())
        await reader.readuntil(b"\r\n\r\n")
        peer = writer.get_extra_info("socket").dup()
        peer.setblocking(True)  # the loop has nothing to write any more
        with contextlib.closing(peer):
            await asyncio.to_thread(peer.sendall, flood)
        await until(lambda: turns.heard_bytes == 1 + size * count)

    assert turns.most_bytes <= 2 * READ_BYTES


async def send_all(line: websockets.ClientConnection, frames: list[bytes]) -> None:
    for frame in frames:
        await line.send(frame)


@pytest.mark.parametrize("behind", [b"", masked(0x82, b"late")], ids=["nothing behind", "more behind"])
@pytest.mark.parametrize("before", [b"", masked(0x89, b"?")], ids=["at once", "behind what is queued"])
@in_a_room
async def test_what_the_listener_raises_ends_its_listening(room: Anteroom, before: bytes, behind: bytes) -> None:
    async with opened(room) as (socket, listener, _):
        socket.data_received(before + masked(0x82, b"good") + masked(0x82, b"wrong") + behind)

        assert str(await room.end()) == "that was wrong"
        assert listener.heard == [b"good", b"wrong"]


@in_a_room
async def test_text_ends_the_listening(room: Anteroom) -> None:
    async with opened(room) as (socket, listener, _):
        socket.data_received(masked(0x82, b"good") + masked(0x81, b"text") + masked(0x82, b"late"))

        assert "a binary frame" in str(await room.end())
        assert listener.heard == [b"good"]


@in_a_room
async def test_nothing_is_heard_behind_a_close_of_either_end(room: Anteroom) -> None:
    async with opened(room) as (socket, listener, reader):
        closing = asyncio.ensure_future(socket.close(why="ending"))
        await asyncio.sleep(0)
        socket.data_received(masked(0x82, b"late") + masked(0x88, struct.pack("!H", 1000)))
        await closing

        assert await reader.read() == b"\x88\x08\x03\xe9ending"
    async with opened(room) as (socket, other, _):
        socket.data_received(masked(0x88, struct.pack("!H", 1000)) + masked(0x82, b"late"))
        assert [await room.end(), await room.end()] == ["closed", "closed"]
    assert listener.heard == other.heard == []


@in_a_room
async def test_what_is_queued_while_this_end_closes_is_not_heard(room: Anteroom) -> None:
    late = struct.pack("!BBQ", 0x82, 0xFF, 3 * QUEUE_BYTES) + bytes(4 + 3 * QUEUE_BYTES)
    async with opened(room) as (socket, listener, _):
        closing = asyncio.ensure_future(socket.close(why="ending"))
        socket.data_received(late + masked(0x88, struct.pack("!H", 1000)))
        await closing

        assert await room.end() == "closed"
    assert listener.heard == []
