"""A TCP proxy that does on demand what networks do to a connection: slow it, cut it, swallow it, say it twice.

In a test's own event loop it is :class:`FaultyProxy`; beside real processes it is a process of its own
(``python -m tests.support.faulty_proxy``, see ``tests/support/weather.py``) that takes one JSON object a line on a
control socket and answers each with its counters. All chance comes from one seed.
"""

import argparse
import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
from typing import Final

import msgspec

CHUNK: Final = 16 << 10
ROUTER_BYTES: Final = 128 << 10
"""What may be on its way at once, in each direction of a connection; beyond it the sender is slowed down."""
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time to linger: close() sends RST


class Way(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What happens to bytes in one direction.

    Attributes:
        delay_s, jitter_s: each piece comes later by the first plus up to the second; order is kept.
        bytes_per_s: 0: as fast as it goes.
        swallows: bytes are taken and never passed on, and so is the end of the connection.
        cut_after: every new connection is cut after so many bytes of this direction, a number between the two.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = 0.0
    swallows: bool = False
    cut_after: tuple[int, int] | None = None


class Faults(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What happens to connections. A change counts at once, for those that stand too (but for ``cut_after``).

    Attributes:
        up, down: from client to server, and back.
        refuses: new connections are reset at once.
        resets: a cut is a RST; otherwise the proxy closes politely in the middle of a sentence.
        says_twice: a connection is one HTTP request, which the server gets twice at once; one answer comes back.
    """

    up: Way = msgspec.field(default_factory=Way)
    down: Way = msgspec.field(default_factory=Way)
    refuses: bool = False
    resets: bool = True
    says_twice: bool = False


class Counts(msgspec.Struct, kw_only=True):
    """What has happened so far."""

    accepted: int = 0
    refused: int = 0
    open: int = 0
    cuts: int = 0
    doubled: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    bytes_lost: int = 0


class _Cut(Exception):
    """Enough bytes have passed."""


class FaultyProxy:
    """One port in front of one server."""

    def __init__(self, target: tuple[str, int], seed: int = 0) -> None:
        self.target = target
        self.faults = Faults()
        self.counts = Counts()
        self.port = 0
        self._random = random.Random(seed)
        self._sockets: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._server: asyncio.Server | None = None

    async def start(self, listen: str = "127.0.0.1") -> None:
        """Listen on a free port of this address."""
        self._server = await asyncio.start_server(self._accept, listen, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more; all connections are cut."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._sockets)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def cut(self) -> None:
        """Cut every connection that stands."""
        for sockets in self._sockets.values():
            self.counts.cuts += 1
            for one in sockets:
                self._end(one)

    # --- one connection ---------------------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a handler runs in a task"
        if self.faults.refuses:
            self.counts.refused += 1
            _reset(writer)
            return
        self._sockets[task] = [writer]
        self.counts.accepted += 1
        self.counts.open += 1
        try:
            serve = self._say_twice if self.faults.says_twice else self._pass_on
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # one of the two ends is gone, which is what this proxy is for
        finally:
            self.counts.open -= 1
            for one in self._sockets.pop(task):
                one.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await self._dial()
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, back, "up"))
                both.create_task(self._pump(there, writer, "down"))
        except* _Cut:
            self.counts.cuts += 1
            self._end(writer)
            self._end(back)
        except* OSError:
            self._end(writer)
            self._end(back)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        there, back = await asyncio.open_connection(*self.target)
        task = asyncio.current_task()
        assert task is not None, "a handler runs in a task"
        self._sockets[task].append(back)
        return there, back

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, name: str) -> None:
        """Move bytes one way until the source ends, with everything that happens on the way."""
        cut_after = self._way(name).cut_after
        left = self._random.randint(*cut_after) if cut_after else sys.maxsize
        road = _Road()
        async with asyncio.TaskGroup() as both:
            both.create_task(self._arrive(road, sink, name))
            while piece := await self._read(source, name):
                way = self._way(name)
                await road.put(piece[:left], way.delay_s + way.jitter_s * self._random.random())
                left -= len(piece)
                if left <= 0:
                    await road.pieces.join()
                    raise _Cut
            await road.put(b"", 0.0)

    async def _read(self, source: asyncio.StreamReader, name: str) -> bytes:
        try:
            return await source.read(CHUNK)
        except ConnectionError:
            if self._way(name).swallows:
                return b""  # nobody on the other side hears of it
            raise

    async def _arrive(self, road: "_Road", sink: asyncio.StreamWriter, name: str) -> None:
        piece = b"-"
        while piece:
            piece = await road.take()
            way = self._way(name)
            if way.bytes_per_s:
                await asyncio.sleep(len(piece) / way.bytes_per_s)
            if way.swallows:
                self.counts.bytes_lost += len(piece)
            elif piece:
                counted = f"bytes_{name}"
                setattr(self.counts, counted, getattr(self.counts, counted) + len(piece))
                sink.write(piece)
                await sink.drain()
            elif sink.can_write_eof():
                sink.write_eof()
            road.done(piece)

    def _way(self, name: str) -> Way:
        way: Way = getattr(self.faults, name)
        return way

    def _end(self, writer: asyncio.StreamWriter) -> None:
        if self.faults.resets:
            _reset(writer)
        else:
            writer.close()

    # --- one request, twice -----------------------------------------------------------------------------------------

    async def _say_twice(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = [line for line in head[:-4].split(b"\r\n") if not line.lower().startswith(b"connection:")]
        length = next((int(line[15:]) for line in lines if line.lower().startswith(b"content-length:")), 0)
        request = b"\r\n".join([*lines, b"Connection: close", b"", b""]) + await reader.readexactly(length)
        links = [await self._dial(), await self._dial()]
        self.counts.doubled += 1
        for _, back in links:
            back.write(request)
        answers = await asyncio.gather(*(there.read(-1) for there, _ in links))
        writer.write(self._random.choice(answers))
        await writer.drain()
        writer.close()
        await writer.wait_closed()


class _Road:
    """Pieces on their way: each arrives at its time, never before the one ahead of it."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._used = 0
        self._has_room = asyncio.Event()
        self._last = 0.0

    async def put(self, piece: bytes, wait_s: float) -> None:
        """Send it off; waits while the road is full."""
        while self._used >= ROUTER_BYTES:
            self._has_room.clear()
            await self._has_room.wait()
        self._used += len(piece)
        self._last = max(self._last, asyncio.get_running_loop().time() + wait_s)
        self.pieces.put_nowait((self._last, piece))

    async def take(self) -> bytes:
        """The next piece, when it is due."""
        due, piece = await self.pieces.get()
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        return piece

    def done(self, piece: bytes) -> None:
        """It has arrived, or is lost."""
        self._used -= len(piece)
        self._has_room.set()
        self.pieces.task_done()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


# --- as a process -----------------------------------------------------------------------------------------------------


async def _control(proxy: FaultyProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take orders: ``{"faults": {...}}`` replaces all faults, ``{"cut": true}`` cuts, ``{}`` only counts."""
    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
        while line := await reader.readline():
            order = json.loads(line)
            answer: object = proxy.counts
            try:
                if "faults" in order:
                    proxy.faults = msgspec.convert(order["faults"], Faults)
            except msgspec.ValidationError as exc:
                answer = {"error": str(exc)}
            if order.get("cut"):
                proxy.cut()
            writer.write(msgspec.json.encode(answer) + b"\n")
            await writer.drain()
    writer.close()


async def _main(target: tuple[str, int], seed: int, listen: str) -> None:
    proxy = FaultyProxy(target, seed)
    await proxy.start(listen=listen)
    control = await asyncio.start_server(lambda r, w: _control(proxy, r, w), "127.0.0.1", 0)
    print(json.dumps({"port": proxy.port, "control": control.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True, help="host:port of the server")
    parser.add_argument("--listen", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    host, _, number = options.target.rpartition(":")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main((host, int(number)), options.seed, options.listen))
