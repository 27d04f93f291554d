"""Promises of :mod:`sidecar.gpus.owners`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protocol.machine import Owner
from sidecar.gpus.owners import Owners

LISTEN = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
PARENT = "import subprocess; c = subprocess.Popen([sys.executable, '-c', 'input()']); print(c.pid, flush=True)"
STAY = "sys.stdin.read()"


@contextmanager
def running(*command: str) -> Iterator[tuple[int, str]]:
    """A process and the first line that it says."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.pid, process.stdout.readline().strip()
        finally:
            process.kill()


def owners(*servers: str, work: int = 0) -> Owners:
    return Owners(lambda pid: pid == work, lambda: servers)


def test_a_process_of_an_attempt_is_work() -> None:
    assert owners(work=os.getpid()).of([os.getpid()])[os.getpid()].owner is Owner.WORK


def test_anybody_else_is_somebody_else_with_a_name() -> None:
    with running(sys.executable, "-c", "input(print('secret-argument'))") as (pid, _):
        found = owners("http://127.0.0.1:1").of([pid])[pid]

    assert found.owner is Owner.OTHER
    assert found.name.startswith("python")


def test_who_listens_where_a_server_of_ours_is_reported_is_that_server() -> None:
    with running(sys.executable, "-c", f"{LISTEN}; {STAY}") as (pid, port):
        found = [
            owners(url).of([pid])[pid].owner
            for url in (
                f"http://127.0.0.1:{port}",
                f"http://localhost:{port}/v1",
                f"http://10.0.0.1:{port}",
                "http://[::1]",
            )
        ]

    assert found == [Owner.SERVER, Owner.SERVER, Owner.OTHER, Owner.OTHER]


def test_a_child_of_a_server_is_the_server() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", f"{LISTEN}; {PARENT}; {STAY}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port, pid = (int(process.stdout.readline()) for _ in range(2))
        found = [owners(f"http://127.0.0.1:{each}").of([pid])[pid].owner for each in (port, 1)]
        process.kill()

    assert found == [Owner.SERVER, Owner.OTHER]


def test_a_server_whose_sockets_cannot_be_seen_is_known_by_its_name(tmp_path: Path) -> None:
    program = tmp_path / "ollama"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    with subprocess.Popen([str(program), "60"]) as process:
        with_servers = owners("http://127.0.0.1:1").of([process.pid])[process.pid]
        without = owners().of([process.pid])[process.pid]
        process.kill()

    assert (with_servers.owner, with_servers.name) == (Owner.SERVER, "ollama")
    assert without.owner is Owner.OTHER  # we report no server on this machine


def test_a_process_that_is_gone_is_somebody_elses() -> None:
    with running(sys.executable, "-c", "input(print())") as (pid, _):
        pass

    found = owners().of([pid])[pid]
    assert (found.owner, found.name) == (Owner.OTHER, "")
