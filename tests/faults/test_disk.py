"""Rows T25, T27 and T28: disks that cannot be written, that are slow, and readers that hold the log of the store."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import apsw
import psutil
import pytest

from tests.support.fragile import PATIENCE_S, FragileHub, fragile_hub
from tests.support.mesh import Mesh

START_S: Final = 15.0
"""A refusal takes less than 2 s on a machine with nothing else to do."""


def _hub(folder: Path) -> "subprocess.CompletedProcess[str]":
    return _command("hub", "--data-dir", str(folder), "--listen", "127.0.0.1:0")


def _sidecar(folder: Path) -> "subprocess.CompletedProcess[str]":
    token = folder.parent / "token"
    token.write_text("acm_x\n")
    flags = ["--hub", "http://127.0.0.1:9", "--token-file", str(token), "--state-dir", str(folder)]
    return _command("sidecar", *flags)


def _command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    clean = {key: value for key, value in os.environ.items() if not key.startswith("AGENTCOM_")}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "agentcom", *arguments],
        capture_output=True, text=True, check=False, timeout=START_S, env=clean,
    )  # fmt: skip
    print(f"{arguments[0]}: status {done.returncode} after {time.monotonic() - began:.2f} s: {done.stderr.strip()}")
    return done


def _is_clear(done: "subprocess.CompletedProcess[str]", path: Path) -> None:
    """One line that names the place, and the status of a wrong setting."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ") or "sidecar_ended" in line]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert str(path) in errors[0]
    assert done.returncode == 2


def _in_the_way(name: str) -> Callable[[Path], None]:
    """A folder where a file should be."""
    return lambda folder: (folder / name).mkdir(parents=True)


def _is_a_file(folder: Path) -> None:
    folder.write_text("")


@pytest.mark.parametrize(
    "spoil",
    [_is_a_file, *map(_in_the_way, ("hub.lock", "hub.sqlite", "hub.json"))],
    ids=["the folder is a file", "hub.lock", "hub.sqlite", "hub.json"],
)
def test_t27_a_data_directory_with_something_in_the_way_is_refused_in_one_line(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """Something else lies where the hub keeps its files."""
    spoil(tmp_path / "data")

    _is_clear(_hub(tmp_path / "data"), tmp_path / "data")


@pytest.mark.parametrize(
    "spoil",
    [_is_a_file, *map(_in_the_way, ("lock", "journal.db", "name"))],
    ids=["the folder is a file", "lock", "journal.db", "name"],
)
def test_t27_a_state_directory_with_something_in_the_way_is_refused_in_one_line(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """The same for a sidecar."""
    spoil(tmp_path / "state")

    _is_clear(_sidecar(tmp_path / "state"), tmp_path / "state")


@contextlib.contextmanager
def _mounted(place: Path, *options: str) -> Iterator[None]:
    subprocess.run(["mount", *options, str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextlib.contextmanager
def _read_only(place: Path) -> Iterator[None]:
    with _mounted(place, "--bind", str(place)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
        yield


@contextlib.contextmanager
def _full(place: Path) -> Iterator[None]:
    with _mounted(place, "-t", "tmpfs", "-o", "size=256k", "none"):
        with contextlib.suppress(OSError), (place / "other").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        yield


@pytest.mark.root
@pytest.mark.parametrize("trouble", [_read_only, _full])
@pytest.mark.parametrize("start", [_hub, _sidecar])
def test_t27_a_disk_that_cannot_be_written_is_refused_in_one_line(
    tmp_path: Path,
    start: Callable[[Path], "subprocess.CompletedProcess[str]"],
    trouble: Callable[[Path], "contextlib.AbstractContextManager[None]"],
) -> None:
    """A file system that is mounted read-only, and one that is full."""
    place = tmp_path / "place"
    place.mkdir()
    with trouble(place):
        _is_clear(start(place), place)


@pytest.mark.root
def test_t27_a_hub_whose_store_cannot_be_written_any_more_is_refused_in_one_line(tmp_path: Path) -> None:
    """It has run before: with its folder read-only, and with its disk full, it says what is wrong."""
    hub = Mesh(tmp_path)
    try:
        hub.start_hub()
        task = hub.submit(title="x", executor="noop")
        hub.stop()
        with _read_only(hub.data_dir):
            _is_clear(_hub(hub.data_dir), hub.data_dir)
        hub.start_hub()

        assert hub.task(task)["state"] == "queued"
    finally:
        hub.stop()


# --- slow -------------------------------------------------------------------------------------------------------------


PROBE: Final = """
import http.client, json, sys, time
host, seconds = sys.argv[1], float(sys.argv[2])
line, waits, due = http.client.HTTPConnection(host, timeout=60), [], time.monotonic()
until = due + seconds
while due < until:
    line.request("GET", "/healthz")
    line.getresponse().read()
    waits.append(time.monotonic() - due)
    due += 0.02  # late or not: who waits behind a slow answer waits too
    time.sleep(max(0.0, due - time.monotonic()))
print(json.dumps(sorted(waits)))
"""


class Flood:
    """Callers who submit as fast as they can, and one in another process who only asks whether the hub is alive."""

    def __init__(self, hub: FragileHub, seconds: float, *, callers: int, tasks: int) -> None:
        self.answers: Counter[int] = Counter()
        self.acknowledged: list[str] = []
        self.most_bytes = 0
        self._host, self._until = hub.url.removeprefix("http://"), time.monotonic() + seconds
        self._head = {"Authorization": f"Bearer {hub.token()}", "Content-Type": "application/json"}
        spec = {"title": "x", "executor": "noop", "needs": ["nobody-has-this"], "prompt": "p" * 300}
        self._body = json.dumps({"tasks": [spec] * tasks})
        assert hub.hub is not None
        process = psutil.Process(hub.hub.pid)
        probe = subprocess.Popen(
            [sys.executable, "-c", PROBE, self._host, str(seconds)], stdout=subprocess.PIPE, text=True
        )
        threads = [threading.Thread(target=self._submit) for _ in range(callers)]
        for thread in threads:
            thread.start()
        while probe.poll() is None:
            self.most_bytes = max(self.most_bytes, process.memory_info().rss)
            time.sleep(0.05)
        for thread in threads:
            thread.join()
        self.waits_s: list[float] = json.loads(probe.communicate()[0])

    def _submit(self) -> None:
        line = http.client.HTTPConnection(self._host, timeout=PATIENCE_S)
        while time.monotonic() < self._until:
            line.request("POST", "/api/v1/tasks", self._body, self._head)
            answer = line.getresponse()
            found = json.loads(answer.read())
            self.answers[answer.status] += 1
            if answer.status == 201:
                self.acknowledged += [task["id"] for task in found["tasks"]]
            else:
                assert answer.getheader("Retry-After"), found
                time.sleep(0.1)
        line.close()

    def p99_s(self) -> float:
        """How long all but one of a hundred questions waited."""
        return self.waits_s[len(self.waits_s) * 99 // 100]

    def told(self) -> str:
        """The figures."""
        median_ms, p99_ms = self.waits_s[len(self.waits_s) // 2] * 1000, self.p99_s() * 1000
        return (
            f"answers {dict(self.answers)}, {len(self.acknowledged)} tasks kept, a question waits {median_ms:.0f} ms,"
            f" p99 {p99_ms:.0f} ms, RSS at most {self.most_bytes >> 20} MiB"
        )


def _on_a_slow_disk(folder: Path, seconds: float, delay_ms: int) -> tuple[Flood, Flood]:
    """A load that a disk keeps up with in batches, and one that is too much for it."""
    with fragile_hub(folder) as hub:
        hub.disk.arm("delay", calls=("sync",), times=0, delay_ms=delay_ms)
        load = Flood(hub, seconds, callers=8, tasks=1)
        flood = Flood(hub, seconds, callers=24, tasks=500)
        hub.disk.mend()
        hub.stop()
    print(f"T25: sync {delay_ms} ms, 8 callers of one task: {load.told()}")
    print(f"T25: sync {delay_ms} ms, 24 callers of 500 tasks: {flood.told()}")
    connection = apsw.Connection(str(folder / "hub" / "hub.sqlite"), vfs="unix")
    stored = {row[0] for row in connection.execute("SELECT id FROM tasks")}
    connection.close()

    assert {*load.acknowledged, *flood.acknowledged} <= stored
    return load, flood


def test_t25_a_disk_that_takes_200_ms_for_a_sync_makes_the_hub_refuse_not_grow(tmp_path: Path) -> None:
    """A load that it can keep is taken in; beyond that submissions are refused, never answered by anything else."""
    load, flood = _on_a_slow_disk(tmp_path, 2.5, 200)

    assert set(load.answers) == {201}
    assert set(flood.answers) <= {201, 429, 503}
    assert flood.most_bytes < 600 << 20


@pytest.mark.soak
def test_t25_soak_a_minute_on_a_slow_disk(tmp_path: Path) -> None:
    """The same for half a minute each, on a disk that is well, one that is slow, and one that is very slow."""
    for delay_ms in (0, 200, 1_000):
        _, flood = _on_a_slow_disk(tmp_path / str(delay_ms), 30.0, delay_ms)

        assert flood.most_bytes < 1 << 30


# --- readers that hold the log ----------------------------------------------------------------------------------------


def _write(hub: Mesh, mib: int) -> int:
    """Submit about so much, in small commits; the longest that the store's log was meanwhile, in bytes."""
    log, most_bytes = hub.data_dir / "hub.sqlite-wal", 0
    for _ in range(mib * 5):
        hub.submit_all([{"executor": "noop", "needs": ["nobody-has-this"], "prompt": "p" * 20_000}] * 10)
        most_bytes = max(most_bytes, log.stat().st_size)
    return most_bytes


@contextlib.contextmanager
def _pinned(hub: Mesh) -> Iterator[None]:
    """Another program that has begun to read and does not end."""
    reader = apsw.Connection(str(hub.data_dir / "hub.sqlite"), vfs="unix", flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM tasks").fetchall()
    try:
        yield
    finally:
        reader.close()


def test_t28_the_log_grows_while_a_program_reads_and_is_used_again_afterwards(tmp_path: Path) -> None:
    """A reader keeps what it began with: the log cannot begin anew before it ends."""
    hub = Mesh(tmp_path)
    try:
        hub.start_hub()
        free_bytes = _write(hub, 18)
        with _pinned(hub):
            pinned_bytes = _write(hub, 16)
        after_bytes = _write(hub, 18)
    finally:
        hub.stop()
    print(f"T28: log {free_bytes >> 20} MiB, with a reader {pinned_bytes >> 20}, after it {after_bytes >> 20}")

    assert free_bytes < 15 << 20
    assert pinned_bytes > 17 << 20
    assert after_bytes < pinned_bytes + (6 << 20)
    assert not (hub.data_dir / "hub.sqlite-wal").exists(), "all of it is in the store"


def test_t28_who_reads_through_the_hub_never_holds_the_log(tmp_path: Path) -> None:
    """Pages of tasks, events and health, asked for again and again while it writes."""
    hub = Mesh(tmp_path)
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            for path in ("/tasks?limit=100", "/events?after=0&limit=500", "/health"):
                hub.call("GET", f"/api/v1{path}", Accept="application/json")

    readers = [threading.Thread(target=read) for _ in range(4)]
    try:
        hub.start_hub()
        for reader in readers:
            reader.start()
        most_bytes = _write(hub, 24)
    finally:
        ended.set()
        for reader in readers:
            reader.join()
        hub.stop()
    print(f"T28: log at most {most_bytes >> 20} MiB with four readers of the hub's pages")

    assert most_bytes < 18 << 20


@pytest.mark.soak
def test_t28_soak_a_reader_holds_the_log_at_500_writes_a_second(tmp_path: Path) -> None:
    """Two minutes: the log grows as it is written, the hub says so, and cuts it off when the reader has ended."""
    hub = Mesh(tmp_path)
    log = hub.data_dir / "hub.sqlite-wal"
    spec = {"executor": "noop", "needs": ["nobody-has-this"], "prompt": "p" * 2_000}
    try:
        hub.start_hub()
        with _pinned(hub):
            began, written = time.monotonic(), 0
            while (passed_s := time.monotonic() - began) < 120:
                hub.submit_all([spec] * 50)
                written += 50
                time.sleep(max(0.0, written / 500 - passed_s))
            pinned_bytes = log.stat().st_size
            disk = hub.call("GET", "/api/v1/health")["components"]["disk"]
        hub.submit_all([spec] * 1_000)
        hub.submit_all([spec] * 1_000)
        after_bytes = log.stat().st_size
    finally:
        hub.stop()
    pace = written / passed_s
    print(f"T28: {written} tasks, {pace:.0f}/s: log {pinned_bytes >> 20} MiB, then {after_bytes >> 20}; health: {disk}")

    assert (disk["state"] == "degraded") == (pinned_bytes > 256 << 20)
    assert after_bytes <= 64 << 20
