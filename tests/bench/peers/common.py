"""What all peers share: they run in an environment of their own, without anything of this project.

A peer is a script that starts its server and worker, submits no-op tasks, waits until the submitter has every result,
then sends some one by one, and prints one line of JSON. ``tests/bench/__main__.py`` runs it and makes its environment.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

START_S = 30.0
WARM_UP = 200


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=2_000)
    parser.add_argument("--idle", type=int, default=50)
    parser.add_argument("--mode", default="")
    parser.add_argument("--store", default="")
    parser.add_argument("--worker", action="store_true")
    return parser.parse_args()


class Processes:
    """Processes by role, ended at the end; ``folder`` is theirs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, role: str, *command: str, env: dict[str, str] | None = None) -> None:
        with (self.folder / f"{role}.log").open("ab") as log:
            self._started[role] = subprocess.Popen(
                command, stdout=log, stderr=log, env=os.environ | (env or {}), start_new_session=True
            )

    def redis(self, mode: str) -> str:
        """A Redis server; ``aof`` syncs every write before it answers, ``default`` is as Debian ships it."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        flags = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""] if mode == "aof" else []
        self.start("server", "redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", str(self.folder), *flags)
        deadline = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(port)), 0.5).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return f"redis://127.0.0.1:{port}/0"

    def cpu_s(self) -> dict[str, float]:
        used = {role: _tree_cpu_s(process.pid) for role, process in self._started.items()}
        mine = os.times()
        return used | {"submitter": mine.user + mine.system}

    def stop(self) -> None:
        for process in reversed(self._started.values()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._started.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextlib.contextmanager
def processes() -> Iterator[Processes]:
    folder = tempfile.mkdtemp(prefix="agentcom-peer-")
    running = Processes(Path(folder))
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _tree_cpu_s(pid: int) -> float:
    total = 0.0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            used = process.cpu_times()
            total += used.user + used.system
    return total


async def measure(
    running: Processes,
    *,
    tasks: int,
    idle: int,
    submit: Callable[[int], Awaitable[Any]],
    wait: Callable[[Any], Awaitable[None]],
    round_trip: Callable[[], Awaitable[None]],
) -> None:
    """Warm up, measure one run and some single tasks, print the line."""
    await wait(await submit(min(tasks, WARM_UP)))
    used, began = running.cpu_s(), time.perf_counter()
    handle = await submit(tasks)
    submitted = time.perf_counter()
    await wait(handle)
    ended, now_used = time.perf_counter(), running.cpu_s()
    took_ms = []
    for _ in range(idle):
        asked = time.perf_counter()
        await round_trip()
        took_ms.append((time.perf_counter() - asked) * 1000)
    took_ms.sort()
    figures = {
        "tasks": tasks,
        "submitted_per_s": tasks / (submitted - began),
        "ended_per_s": tasks / (ended - began),
        "idle_p50_ms": took_ms[len(took_ms) // 2] if took_ms else None,
        "cpu_us_per_task": {role: (now_used[role] - used[role]) * 1e6 / tasks for role in now_used},
    }
    print(json.dumps(figures), flush=True)


PYTHON = sys.executable
