"""The floor: the least that a durable queue of this kind can do. One hub, one worker, one submitter, nothing else.

aiohttp and SQLite in the same roles as in the project, with the same durability: a submission is acknowledged after its
fsync, a result is delivered after its own, and a batch is whatever came while the last one was written. No states, no
leases, no types, no HTTP, no rights, no restart: what is missing here is what the project adds. The ratio to it is what
can be compared between machines.
"""

import argparse
import asyncio
import json
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import psutil
import uvloop
from aiohttp import web

PAYLOAD: Final = "x" * 700
WINDOW: Final = 256
IN_FLIGHT: Final = 2_048
BATCH: Final = 100
SERIAL: Final = 5
"""So many tasks one after another for each that comes rarely, as ``agentcom bench tasks`` sends them."""
RARE_S: Final = 0.05
"""As rare as the tasks that ``agentcom bench tasks`` sends to an idle hub."""
SCHEMA: Final = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE task (id INTEGER PRIMARY KEY, state INTEGER, payload BLOB, result BLOB);
CREATE INDEX ready ON task (id) WHERE state = 0;
CREATE TABLE event (seq INTEGER PRIMARY KEY, task INTEGER, kind INTEGER);
"""
encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode
Row = tuple[Any, ...]


class Store:
    """A thread that writes everything that waits in one transaction, then calls ``done`` with it on the loop."""

    def __init__(self, path: str, done: Callable[[list[Row], list[Row]], None]) -> None:
        self._path, self._done = path, done
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[str, Row]] = []
        self._lock, self._work = threading.Lock(), threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def write(self, verb: str, row: Row) -> None:
        with self._lock:
            self._waiting.append((verb, row))
        self._work.set()

    def _run(self) -> None:
        rows = sqlite3.connect(self._path, isolation_level=None)
        rows.executescript(SCHEMA)
        while True:
            self._work.wait()
            self._work.clear()
            with self._lock:
                batch, self._waiting = self._waiting, []
            new, given, ended = ([row for verb, row in batch if verb == kind] for kind in ("new", "given", "ended"))
            rows.execute("BEGIN IMMEDIATE")
            rows.executemany("INSERT INTO task VALUES (?, 0, ?, NULL)", new)
            rows.executemany("UPDATE task SET state = 1 WHERE id = ?", given)
            rows.executemany("UPDATE task SET state = 2, result = ?2 WHERE id = ?1", ended)
            rows.executemany("INSERT INTO event (task, kind) VALUES (?, 2)", [(row[0],) for row in ended])
            rows.execute("COMMIT")
            self._loop.call_soon_threadsafe(self._done, new, ended)


class Hub:
    """Takes tasks from the submitter, gives them to the worker, brings results back."""

    def __init__(self, path: str) -> None:
        self._store = Store(path, self._committed)
        self._last, self._credit = 0, WINDOW
        self._ready: list[tuple[int, str]] = []
        self._payloads: dict[int, str] = {}
        self._worker: web.WebSocketResponse | None = None
        self._submitter: web.WebSocketResponse | None = None
        self._out: dict[web.WebSocketResponse, list[Row]] = {}

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        wire = web.WebSocketResponse(compress=False, max_msg_size=1 << 26)
        await wire.prepare(request)
        if request.path == "/worker":
            self._worker = wire
            self._give()
        else:
            self._submitter = wire
        async for frame in wire:
            for message in decode(frame.data):
                self._act(message)
        return wire

    def _act(self, message: Row) -> None:
        if message[0] == "submit":
            self._last += 1
            self._payloads[self._last] = message[1]
            self._store.write("new", (self._last, message[1]))
        else:
            self._credit += 1
            self._store.write("ended", (message[1], message[2]))
            self._give()

    def _committed(self, new: list[Row], ended: list[Row]) -> None:
        self._ready += new
        for row in new:
            self._send(self._submitter, ("stored", row[0]))
        for row in ended:
            del self._payloads[row[0]]
            self._send(self._submitter, ("result", row[0], row[1]))
            self._send(self._worker, ("confirmed", row[0]))
        self._give()

    def _give(self) -> None:
        count = min(self._credit, len(self._ready)) if self._worker else 0
        given, self._ready = self._ready[:count], self._ready[count:]
        self._credit -= count
        for task, payload in given:
            self._store.write("given", (task,))
            self._send(self._worker, ("do", task, payload))

    def _send(self, wire: web.WebSocketResponse | None, message: Row) -> None:
        assert wire is not None, "both have connected"
        out = self._out.setdefault(wire, [])
        out.append(message)
        if len(out) == 1:
            asyncio.ensure_future(self._flush(wire))  # noqa: RUF006 - it ends within the tick

    async def _flush(self, wire: web.WebSocketResponse) -> None:
        out, self._out[wire] = self._out[wire], []
        await wire.send_bytes(encode(out))


async def hub(port: int, path: str) -> None:
    served = Hub(path)
    app = web.Application()
    app.router.add_get("/{who}", served.serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


async def worker(port: int) -> None:
    async with aiohttp.ClientSession() as client, client.ws_connect(f"ws://127.0.0.1:{port}/worker") as wire:
        async for frame in wire:
            results = [("ended", message[1], "ok") for message in decode(frame.data) if message[0] == "do"]
            if results:
                await wire.send_bytes(encode(results))


class Submitter:
    """Counts what comes back."""

    def __init__(self, wire: aiohttp.ClientWebSocketResponse) -> None:
        self._wire = wire
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._stored, self._results = 0, 0
        self._news = asyncio.Condition()

    async def hear(self) -> None:
        async for frame in self._wire:
            for message in decode(frame.data):
                if message[0] == "stored":
                    self._stored += 1
                    self._room.release()
                else:
                    self._results += 1
            async with self._news:
                self._news.notify_all()

    async def run(self, count: int) -> tuple[float, float]:
        """Seconds until all were stored, and until all results were here."""
        stored, results, began = self._stored + count, self._results + count, time.perf_counter()
        for first in range(0, count, BATCH):
            size = min(BATCH, count - first)
            for _ in range(size):
                await self._room.acquire()
            await self._wire.send_bytes(encode([("submit", PAYLOAD)] * size))
        async with self._news:
            await self._news.wait_for(lambda: self._stored >= stored)
            stored_s = time.perf_counter() - began
            await self._news.wait_for(lambda: self._results >= results)
        return stored_s, time.perf_counter() - began


async def submit(port: int, tasks: int, idle: int, pids: dict[str, int]) -> dict[str, Any]:
    async with aiohttp.ClientSession() as client, client.ws_connect(f"ws://127.0.0.1:{port}/submitter") as wire:
        submitter = Submitter(wire)
        hearing = asyncio.create_task(submitter.hear())
        await asyncio.sleep(0.5)  # the worker connects, too
        await submitter.run(min(tasks, 1_000))
        used = {who: sum(psutil.Process(pid).cpu_times()[:2]) for who, pid in pids.items()}
        stored_s, ended_s = await submitter.run(tasks)
        now_used = {who: sum(psutil.Process(pid).cpu_times()[:2]) for who, pid in pids.items()}
        rare_ms = sorted([await _rarely(submitter) for _ in range(idle)])
        took_ms = sorted([(await submitter.run(1))[1] * 1000 for _ in range(SERIAL * idle)])
        hearing.cancel()
    return {
        "tasks": tasks,
        "submitted_per_s": tasks / stored_s,
        "ended_per_s": tasks / ended_s,
        "idle_p50_ms": took_ms[len(took_ms) // 2] if took_ms else None,
        "idle_p99_ms": took_ms[len(took_ms) * 99 // 100] if took_ms else None,
        "rare_p50_ms": rare_ms[len(rare_ms) // 2] if rare_ms else None,
        "cpu_us_per_task": {who: (now_used[who] - used[who]) * 1e6 / tasks for who in pids},
    }


async def _rarely(submitter: Submitter) -> float:
    """Milliseconds of one task, :data:`RARE_S` after the end of the one before."""
    await asyncio.sleep(RARE_S)
    return (await submitter.run(1))[1] * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--idle", type=int, default=100)
    parser.add_argument("--role", nargs="+", default=[])
    asked = parser.parse_args()
    if asked.role[:1] == ["hub"]:
        uvloop.run(hub(int(asked.role[1]), asked.role[2]))
    if asked.role[:1] == ["worker"]:
        uvloop.run(worker(int(asked.role[1])))
    if asked.role:
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="agentcom-floor-") as folder:
        me = [sys.executable, __file__, "--role"]
        path = str(Path(folder) / "floor.sqlite")
        with subprocess.Popen([*me, "hub", str(port), path]) as server:
            try:
                _until_open(port)
                with subprocess.Popen([*me, "worker", str(port)]) as working:
                    try:
                        pids = {"hub": server.pid, "worker": working.pid}
                        print(json.dumps(uvloop.run(submit(port, asked.tasks, asked.idle, pids))), flush=True)
                    finally:
                        working.terminate()
            finally:
                server.terminate()


def _until_open(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


if __name__ == "__main__":
    main()
