"""A socket of a sidecar after the HTTP server has let it go: frames of every kind, both ways of closing, its end."""

import asyncio
import base64
import contextlib
import functools
import gc
import inspect
import secrets
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any

import aiohttp
import pytest
import websockets
from aiohttp import web

from hub.clock import SystemClock
from hub.gateway.socket import Door
from hub.gateway.websocket import ANSWER_S, QUEUE_BYTES, WebSocket
from protocol.errors import ProtocolViolation
from protocol.limits import MAX_FRAME_BYTES
from tests.support.both_loops import on_both_loops
from tests.support.serving import served

FAR_S = 20.0
Served = Callable[[WebSocket], Awaitable[object]]


class Anteroom:
    """Stands where the gateway does: does with each socket what a test says, and keeps what came of it."""

    def __init__(self) -> None:
        self.serve: Served = echo
        self.sockets: list[WebSocket] = []
        self.ends: asyncio.Queue[object] = asyncio.Queue()
        self.url = ""
        self.door: Door

    async def __call__(self, socket: WebSocket) -> None:
        self.sockets.append(socket)
        try:
            self.ends.put_nowait(await self.serve(socket))
        except (ProtocolViolation, ConnectionError) as exc:
            self.ends.put_nowait(exc)
        finally:
            await socket.close()

    def cut_all(self) -> None:
        """As the gateway does."""
        for socket in self.sockets:
            self.closing = asyncio.ensure_future(socket.close(why="ending"))

    async def end(self) -> object:
        """What the next one that ended has come to."""
        async with asyncio.timeout(FAR_S):
            return await self.ends.get()


async def until(fact: Callable[[], object]) -> None:
    while not fact():  # noqa: ASYNC110 - of the state of a transport nobody tells
        await asyncio.sleep(0.001)


async def echo(socket: WebSocket) -> str:
    while (frame := await socket.receive()) is not None:
        await socket.send(frame)
    return "closed"


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Anteroom]:
    made = Anteroom()
    gateway: Any = type("", (), {"serve": made.__call__, "cut_all": made.cut_all})()
    made.door = Door(gateway, lambda _who: True, clock=SystemClock())
    app = web.Application()
    app.router.add_get("/mesh", made.door.accept)
    async with served(app) as url:
        made.url = url.removeprefix("http://")
        try:
            yield made
        finally:
            await made.door.shut(ANSWER_S)


def in_a_room(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """The test gets a room of its own, once on each kind of event loop."""

    async def run(**given: Any) -> None:
        async with opened() as room:
            await test(room, **given)

    asked = inspect.signature(test)
    functools.update_wrapper(run, test)
    run.__signature__ = asked.replace(parameters=list(asked.parameters.values())[1:])  # type: ignore[attr-defined]  # pytest reads it
    return on_both_loops(run)


def dial(room: Anteroom) -> websockets.connect:
    return websockets.connect(f"ws://{room.url}/mesh", compression=None, max_size=None, proxy=None)


def upgrade(**more: str) -> bytes:
    lines = {
        "Host": "hub",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
        **more,
    }
    return "\r\n".join(["GET /mesh HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items()), "", ""]).encode()


def masked(first: int, body: bytes) -> bytes:
    mask = secrets.token_bytes(4)
    assert len(body) < 126
    return bytes([first, 0x80 | len(body)]) + mask + bytes(b ^ mask[n % 4] for n, b in enumerate(body))


@contextlib.asynccontextmanager
async def raw(room: Anteroom) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = room.url.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(FAR_S):
            yield reader, writer
    finally:
        writer.close()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 16 << 10, (16 << 10) + 1, 65_535, 65_536, MAX_FRAME_BYTES])
@in_a_room
async def test_frames_of_every_length_come_and_go_whole(room: Anteroom, size: int) -> None:
    async with dial(room) as line:
        sent = secrets.token_bytes(size)
        await line.send(sent)
        assert await line.recv() == sent
        assert room.sockets[0].received_bytes > size


@in_a_room
async def test_a_frame_that_is_too_long_ends_the_line_with_its_code(room: Anteroom) -> None:
    async with dial(room) as line:
        with contextlib.suppress(websockets.ConnectionClosed):
            await line.send(bytes(MAX_FRAME_BYTES + 2))
        await line.wait_closed()
        assert line.close_code == websockets.CloseCode.MESSAGE_TOO_BIG
    assert isinstance(await room.end(), ProtocolViolation)


@in_a_room
async def test_text_is_no_frame_of_bytes(room: Anteroom) -> None:
    async with dial(room) as line:
        await line.send("hello")
        assert "a binary frame" in str(await room.end())


@in_a_room
async def test_a_ping_of_the_socket_is_answered(room: Anteroom) -> None:
    async with dial(room) as line, asyncio.timeout(FAR_S):
        await (await line.ping(b"there?"))


@in_a_room
async def test_parts_of_a_frame_are_put_together_and_pings_may_come_between(room: Anteroom) -> None:
    async with raw(room) as (reader, writer):
        writer.write(upgrade())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(masked(0x02, b"one ") + masked(0x89, b"?") + masked(0x80, b"frame"))

        assert await reader.readexactly(3) == b"\x8a\x01?"
        assert await reader.readexactly(11) == b"\x82\x09one frame"


@in_a_room
async def test_what_is_said_with_the_handshake_is_heard(room: Anteroom) -> None:
    async with raw(room) as (reader, writer):
        writer.write(upgrade() + masked(0x82, b"hello") + masked(0x82, b"hub")[:3])
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"sec-websocket-accept: icx+yqv66kxgm0fcwalwlflwtai=" in head.lower()
        assert b"content-type" not in head.lower()
        assert await reader.readexactly(7) == b"\x82\x05hello"


@in_a_room
async def test_who_asks_for_no_socket_is_told_so_and_may_go_on(room: Anteroom) -> None:
    async with aiohttp.ClientSession() as client:
        for _ in range(2):
            async with client.get(f"http://{room.url}/mesh") as answer:
                assert answer.status == HTTPStatus.BAD_REQUEST
                assert "WebSocket" in await answer.text()
        async with client.ws_connect(f"ws://{room.url}/mesh") as line:
            await line.send_bytes(b"still there")
            assert await line.receive_bytes() == b"still there"
    assert await room.end() == "closed"


@in_a_room
async def test_who_closes_is_answered_and_heard_no_more(room: Anteroom) -> None:
    async with raw(room) as (reader, writer):
        writer.write(upgrade())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(masked(0x88, struct.pack("!H", 1000)) + masked(0x82, b"too late"))
        assert await reader.read() == b"\x88\x02\x03\xe8"
    assert await room.end() == "closed"
    assert not room.sockets[0].connected


@in_a_room
async def test_who_goes_without_a_word_is_gone(room: Anteroom) -> None:
    line = await dial(room)
    line.transport.abort()
    assert await room.end() == "closed"
    with pytest.raises(ConnectionError):
        await room.sockets[0].send(b"hello?")
    await room.sockets[0].close()


@pytest.mark.parametrize(
    "asked, code, why", [({}, 1000, ""), ({"why": "x" * 200}, 1001, "x" * 120), ({"refused": True}, 1008, "")]
)
@in_a_room
async def test_closing_says_why_and_ends_whoever_waits_for_a_frame(
    room: Anteroom, asked: dict[str, Any], code: int, why: str
) -> None:
    async with dial(room) as line:
        await line.send(b"in")
        assert await line.recv() == b"in"
        await room.sockets[0].close(**asked)
        await line.wait_closed()
        assert (line.close_code, line.close_reason) == (code, why)
    assert await room.end() == "closed"


@in_a_room
async def test_a_socket_that_is_not_read_is_closed_as_well(room: Anteroom) -> None:
    done = asyncio.Event()

    async def wait(_socket: WebSocket) -> str:
        await done.wait()
        return "closed"

    room.serve = wait
    async with dial(room) as line:
        await line.send(b"nobody reads this")
        await until(lambda: room.sockets)
        await room.sockets[0].close()
        await line.wait_closed()
        assert line.close_code == 1000
    done.set()


@in_a_room
async def test_who_does_not_answer_a_close_is_cut_off(room: Anteroom) -> None:
    async with raw(room) as (reader, writer):
        writer.write(upgrade() + masked(0x82, b"hi"))
        await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"hi")
        await room.sockets[0].close()
        assert await reader.read() == b"\x88\x02\x03\xe8"


@in_a_room
async def test_who_sends_faster_than_is_acted_on_waits(room: Anteroom) -> None:
    go = asyncio.Event()

    async def later(socket: WebSocket) -> int:
        await go.wait()
        count = 0
        while count < 400 and await socket.receive() is not None:
            count += 1
        return count

    room.serve = later
    async with dial(room) as line:
        sending = asyncio.ensure_future(send_all(line, 400, bytes(QUEUE_BYTES // 4)))
        await until(lambda: room.sockets and room.sockets[0]._reading_paused)
        assert room.sockets[0].received_bytes < 100 * QUEUE_BYTES // 4
        go.set()
        assert await room.end() == 400
        await sending


async def send_all(line: websockets.ClientConnection, count: int, frame: bytes) -> None:
    for _ in range(count):
        await line.send(frame)


@in_a_room
async def test_who_takes_nothing_is_waited_for_and_then_cut_off(room: Anteroom) -> None:
    async def flood(socket: WebSocket) -> str:
        try:
            async with asyncio.timeout(0.2):
                while True:
                    await socket.send(bytes(1 << 20))
        except TimeoutError:
            return "stuck"

    room.serve = flood
    async with raw(room) as (_, writer):
        writer.write(upgrade())
        assert await room.end() == "stuck"
        await until(lambda: not room.sockets[0].connected)


@in_a_room
async def test_who_takes_nothing_more_is_cut_off_though_little_is_left(room: Anteroom) -> None:
    async def fill(socket: WebSocket) -> bytes | None:
        stuck_at = 0.0
        loop = asyncio.get_running_loop()
        while socket.is_free or loop.time() < stuck_at:
            if socket.is_free:
                socket.put(bytes(16 << 10))
                stuck_at = loop.time() + 0.1
            await asyncio.sleep(0.001)
        assert not socket.writing_paused
        return await socket.receive()

    room.serve = fill
    async with raw(room) as (_, writer):
        writer.transport.pause_reading()
        writer.write(upgrade() + masked(0x88, struct.pack("!H", 1000)))
        assert await room.end() is None
        await until(lambda: not room.sockets[0].connected)


@in_a_room
async def test_nothing_of_the_request_outlives_it(room: Anteroom) -> None:
    def of_the_server() -> list[object]:
        gc.collect()
        return [each for each in gc.get_objects() if isinstance(each, web.RequestHandler | web.Request)]

    before = of_the_server()  # other tests' servers, if anything in this process still holds on to them
    async with dial(room) as line:
        await line.send(b"in")
        await line.recv()
        assert [each for each in of_the_server() if all(each is not older for older in before)] == []
        assert line.transport is not None


@in_a_room
async def test_a_bug_in_one_link_ends_its_socket_only(room: Anteroom) -> None:
    async def broken(_socket: WebSocket) -> None:
        raise KeyError("a bug")

    async with dial(room) as other:
        await other.send(b"one")
        await other.recv()
        room.serve = broken
        async with dial(room) as line:
            with pytest.raises(websockets.ConnectionClosed):
                await line.recv()
        await other.send(b"two")
        assert await other.recv() == b"two"


@in_a_room
async def test_a_door_that_shuts_ends_sockets_that_nobody_closes(room: Anteroom) -> None:
    async def stubborn(_socket: WebSocket) -> None:
        await asyncio.Event().wait()

    room.serve = stubborn
    async with dial(room) as line:
        await until(lambda: room.sockets)
        await room.door.shut(0.05)
        await line.wait_closed()
    assert not room.door._serving


@in_a_room
async def test_a_door_that_is_shut_lets_nobody_in(room: Anteroom) -> None:
    await room.door.shut(0.05)
    with pytest.raises(websockets.InvalidStatus):
        async with dial(room):
            pass
    assert not room.sockets
