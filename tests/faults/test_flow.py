"""Rows T16, T23, T25 (the queue side), T43 and T47: more comes in than can be kept, and the hub keeps its word.

What it cannot keep it refuses, with the time to come back; what running work has to say always finds room.
"""

import contextlib
import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.support.mesh import Mesh, until

PATIENCE_S: Final = 60.0
MIB: Final = 1 << 20


class Answer(NamedTuple):
    """What the hub said to one request."""

    status: int
    retry_after: str
    body: dict[str, Any]


def ask(mesh: Mesh, method: str, path: str, body: object = None) -> Answer:
    """One request on a connection of its own, whatever the answer."""
    line = http.client.HTTPConnection(mesh.url.removeprefix("http://"), timeout=PATIENCE_S)
    try:
        headers = {"Authorization": f"Bearer {mesh.token()}", "Content-Type": "application/json"}
        line.request(method, path, None if body is None else json.dumps(body), headers)
        answer = line.getresponse()
        return Answer(answer.status, answer.getheader("Retry-After", ""), json.loads(answer.read() or b"{}"))
    finally:
        line.close()


def submit(mesh: Mesh) -> Answer:
    return ask(mesh, "POST", "/api/v1/tasks", {"title": "x", "executor": "noop"})


def component(mesh: Mesh, name: str) -> str:
    return str(mesh.call("GET", "/api/v1/health")["components"][name]["state"])


@contextlib.contextmanager
def small_disk(folder: Path, size_mb: int = 64) -> Iterator[Path]:
    """A disk of its own for a data directory."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Somebody else's file that takes all the room there is, to the last byte."""
    path = disk / "somebody-elses"
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        for size in (MIB, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return path


@pytest.mark.root
def test_t23_a_full_disk_refuses_new_work_and_keeps_the_results_of_running_work(tmp_path: Path) -> None:
    """Fault: the disk fills up to the last byte under 20 running tasks. Their results land, reads, heartbeats, cancel
    and drain go on, submissions are 507 with Retry-After; 5 s after there is room they are taken in again."""
    running = Mesh(tmp_path / "mesh")
    with small_disk(tmp_path / "mesh" / "hub") as disk:
        try:
            running.start_hub()
            running.start_sidecar("One", "--slots", "32")
            running.wait_agents("One")
            gate = tmp_path / "gate"
            wait = f"while [ ! -e {gate} ]; do sleep 0.1; done; head -c 20000 /dev/urandom | base64"
            tasks = running.submit_all([{"title": f"t{n}", "command": wait} for n in range(20)])
            doomed = running.submit(title="doomed", command=wait)
            for task in (*tasks, doomed):
                running.wait_state(task, "running")
            acknowledged = [running.submit(title="q", command="true", needs=["nobody:has-it"]) for _ in range(5)]

            somebody_elses = fill(disk)
            until(lambda: submit(running).status == 507, "new tasks are refused", running.hub)
            refused = submit(running)
            assert refused.body["code"] == "storage_full"
            assert refused.retry_after.isdecimal()
            assert int(refused.retry_after) >= 1
            assert component(running, "disk") == "degraded"
            assert ask(running, "POST", f"/api/v1/tasks/{doomed}/cancel", {}).status == 200
            assert ask(running, "POST", "/api/v1/agents/One/drain").status == 200
            assert ask(running, "POST", "/api/v1/agents/One/resume").status == 200
            gate.touch()
            ended = running.wait(*tasks)
            assert {task["state"] for task in ended} == {"completed"}
            assert running.wait(doomed)[0]["state"] == "cancelled"
            assert submit(running).status == 507

            somebody_elses.unlink()
            freed_at = time.monotonic()
            until(lambda: submit(running).status == 201, "new tasks are taken in again", running.hub)
            recovered_s = time.monotonic() - freed_at
            assert recovered_s < 15, "5 s on a quiet machine"
            assert running.wait(running.submit(title="after", executor="noop"))[0]["state"] == "completed"
            until((disk / "reserve").exists, "the reserve is back", running.hub)
            assert component(running, "disk") == "ok"
            assert {running.task(task)["state"] for task in acknowledged} == {"queued"}
            assert [e["kind"] for e in running.events() if e["kind"].startswith("disk_")][:1] == ["disk_low"]
            assert [e["kind"] for e in running.events() if e["kind"].startswith("disk_")][-1:] == ["disk_ok"]
            assert os.getpgid(running.hub.pid if running.hub else 0), "the hub is the same process"
        finally:
            running.stop()


@pytest.mark.root
def test_t23_a_hub_killed_on_a_full_disk_starts_again_on_what_was_kept_back(tmp_path: Path) -> None:
    """Fault: kill -9 while the disk is full. It starts again on its reserve, and nothing acknowledged is lost."""
    running = Mesh(tmp_path / "mesh")
    with small_disk(tmp_path / "mesh" / "hub") as disk:
        try:
            running.start_hub()
            kept = [running.submit(title="q", executor="noop") for _ in range(20)]
            somebody_elses = fill(disk)
            running.kill(running.hub)
            running.start_hub()
            running.start_sidecar("One")
            assert {task["state"] for task in running.wait(*kept)} == {"completed"}
            somebody_elses.unlink()
            until(lambda: submit(running).status == 201, "new tasks are taken in again", running.hub)
        finally:
            running.stop()
