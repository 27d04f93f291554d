"""Rows T26, T29 and T44: bytes that change, backups that are needed, and memory of what is long past.

T26 changes bytes of the files of a hub that does not run; T29 takes the store away and brings a backup back while
agents go on as if nothing had happened; T44 forgets old work under load.
"""

import asyncio
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from hub.clock import SystemClock
from hub.core.fleet import Fleet
from hub.core.recent import Recent
from hub.services.insight import Insight
from hub.services.retention import Retention, Terms
from hub.store.changes import Record
from hub.store.sqlite import SqliteStore
from hub.store.sqlite_file import PAGE_BYTES
from protocol.errors import StoreDamaged, StoreFailed
from protocol.events import Event, EventKind
from tests.support.mesh import Mesh, Refused
from tests.support.stores import Rows, new_task, task_id

TASKS = 300


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    made = Mesh(tmp_path)
    yield made
    made.stop()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a person runs it."""
    return subprocess.run(
        [sys.executable, "-m", "agentcom", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


# --- T26: bytes that are not those that were written ------------------------------------------------------------------


async def filled(path: Path) -> None:
    """A store in which some of everything has happened."""
    store = SqliteStore(path)
    await store.open()
    rows = Rows(store)
    for first in range(1, TASKS, 50):
        await rows.add(*(new_task(number) for number in range(first, first + 50)), key=f"k{first}")
    await rows.completed(*range(1, TASKS // 3))
    await store.close()


async def answers(path: Path, *, looks_through: bool) -> dict[str, Any]:
    """Everything that a hub would answer from this store.

    Raises:
        StoreFailed: it finds the damage, at the start or at the row.
    """
    store = SqliteStore(path, max_checked_bytes=(1 << 40) if looks_through else 0)
    try:
        await store.open()
        start = await store.start(0)
        found: dict[str, Any] = {"classes": start.classes, "agents": start.agents, "counts": await store.counts()}
        for number in range(1, TASKS + 1):
            task = task_id(number)
            found[task] = (await store.task(task), await store.spec(task), await store.attempts(task))
        found["events"] = await store.events(0, 100_000)
        found["keys"] = await store.walk_keys("", 100_000)
        return found
    finally:
        await store.close()


async def wrong_answers(folder: Path, damages: int, seed: int) -> list[str]:
    """Damage the store in ``damages`` ways; those that a hub would have served without a word."""
    good = folder / "good.sqlite"
    await filled(good)
    raw, chance = good.read_bytes(), random.Random(seed)
    truth = await answers(good, looks_through=True)
    silent = []
    for number in range(damages):
        path = folder / "hub.sqlite"
        for file in folder.glob("hub.sqlite*"):
            file.unlink()
        what = _damage(path, raw, chance)
        try:
            found = await answers(path, looks_through=bool(number % 2))
        except StoreFailed:
            continue
        if found != truth:
            silent.append(what)
    return silent


def _damage(path: Path, raw: bytes, chance: random.Random) -> str:
    """One way in which a disk, or a hand, spoils a file."""
    spoilt, kind = bytearray(raw), chance.randrange(10)
    page = chance.randrange(len(raw) // PAGE_BYTES)
    at = page * PAGE_BYTES + chance.randrange(PAGE_BYTES - 8)
    if kind == 0:
        del spoilt[chance.randrange(len(raw)) :]
    elif kind == 1:
        spoilt[: chance.choice((1, 16, 100, PAGE_BYTES))] = b""
    elif kind == 2:
        spoilt[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = bytes(PAGE_BYTES)
    elif kind == 3:  # a write that went to the wrong place: a page that is right, where another belongs
        other = chance.randrange(len(raw) // PAGE_BYTES) * PAGE_BYTES
        spoilt[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = raw[other : other + PAGE_BYTES]
    else:
        spoilt[at : at + 8] = bytes(b ^ chance.randrange(1, 256) for b in spoilt[at : at + 8])
    path.write_bytes(spoilt)
    return f"kind {kind}, page {page}, byte {at % PAGE_BYTES}"


async def test_t26_a_store_with_damaged_bytes_gives_no_wrong_answer(tmp_path: Path) -> None:
    """Bytes changed, a page zeroed or in the wrong place, the file cut off: found, or no answer depends on it."""
    assert await wrong_answers(tmp_path, 60, seed=26) == []


@pytest.mark.soak
@pytest.mark.timeout(1_800)
async def test_t26_soak_a_store_with_damaged_bytes_gives_no_wrong_answer(tmp_path: Path) -> None:
    """The same, 600 times."""
    assert await wrong_answers(tmp_path, 600, seed=2_600) == []


def damaged_logs(raw: bytes, chance: random.Random, count: int) -> Iterator[bytes | None]:
    """Write-ahead logs that a crash left behind, spoilt: deleted, cut off, changed."""
    yield None
    for number in range(count):
        spoilt = bytearray(raw)
        if number % 3 == 0:
            del spoilt[chance.randrange(len(raw) - 5_000) :]
        else:
            at = chance.randrange(len(raw) - 5_000)
            spoilt[at] ^= chance.randrange(1, 256)
        yield bytes(spoilt)


@pytest.mark.parametrize("count", [30, pytest.param(300, marks=[pytest.mark.soak, pytest.mark.timeout(1_800)])])
async def test_t26_a_log_that_lost_its_end_is_found_out(tmp_path: Path, count: int) -> None:
    """The -wal of a hub that was killed is deleted, cut off or changed: no older state is served as the newest."""
    store = SqliteStore(tmp_path / "live.sqlite")
    await store.open()
    rows = Rows(store)
    await rows.add(*(new_task(number) for number in range(1, 51)))
    for number in range(51, 101):
        await rows.add(new_task(number))
    main, log, mark = ((tmp_path / f"live.sqlite{end}").read_bytes() for end in ("", "-wal", "-mark"))
    await store.close()
    found = 0
    for spoilt in damaged_logs(log, random.Random(count), count):
        for file in tmp_path.glob("hub.sqlite*"):
            file.unlink()
        (tmp_path / "hub.sqlite").write_bytes(main)
        (tmp_path / "hub.sqlite-mark").write_bytes(mark)
        if spoilt is not None:
            (tmp_path / "hub.sqlite-wal").write_bytes(spoilt)
        again = SqliteStore(tmp_path / "hub.sqlite")
        try:
            await again.open()
        except StoreDamaged:
            found += 1
        else:
            assert await again.task(task_id(100)) is not None, "an older state was served"
        finally:
            await again.close()

    assert found >= count * 0.9


# --- T29: backups that are needed -------------------------------------------------------------------------------------


class Submitter:
    """Somebody who submits work all the time and writes down what was acknowledged, and when."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh, self._is_over = mesh, threading.Event()
        self.acknowledged: list[tuple[float, str]] = []
        self._thread = threading.Thread(target=self._submit)
        self._thread.start()

    def _submit(self) -> None:
        while not self._is_over.is_set():
            for task in self._mesh.submit_all({"title": "x", "executor": "noop"} for _ in range(5)):
                self.acknowledged.append((time.time(), task))

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()


def states_of(mesh: Mesh, tasks: list[str]) -> dict[str, dict[str, Any]]:
    """What the hub knows of these tasks; those it does not know are left out."""
    found = {}
    for task in tasks:
        try:
            found[task] = mesh.task(task)
        except Refused as exc:
            if exc.status != 404:
                raise
    return found


def test_t29_a_backup_brings_back_all_that_was_acknowledged_before_it(mesh: Mesh) -> None:
    """Backups under load, then the store is lost and the newest is restored: the prefix is whole, agents go on."""
    drill(mesh, backups=4)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_t29_soak_a_backup_brings_back_all_that_was_acknowledged_before_it(mesh: Mesh) -> None:
    """The same with 25 backups."""
    drill(mesh, backups=25)


def drill(mesh: Mesh, *, backups: int) -> None:
    mesh.start_hub()
    mesh.start_sidecar("one", "--slots", "4")
    mesh.wait_agents("one")
    submitter = Submitter(mesh)
    made: list[tuple[float, dict[str, Any]]] = []
    for _ in range(backups):
        asked_at = time.time()
        made.append((asked_at, mesh.call("POST", "/api/v1/backups")))
    submitter.stop()
    kept = [Path(view["path"]) for _, view in made if Path(view["path"]).exists()]
    assert len(kept) == 3

    mesh.kill(mesh.hub)
    (mesh.data_dir / "hub.sqlite").write_bytes(b"\0" * 100_000)  # the disk has eaten it
    refused = command("hub", "--data-dir", str(mesh.data_dir), "--listen", "127.0.0.1:0")
    assert refused.returncode == 1
    assert f"agentcom restore {kept[-1]} --data-dir {mesh.data_dir}" in refused.stderr

    restored = command("restore", str(kept[-1]), "--data-dir", str(mesh.data_dir), "--yes", "--json")
    assert restored.returncode == 0, restored.stderr
    mesh.start_hub()
    mesh.wait_agents("one")
    before = [task for at, task in submitter.acknowledged if at < made[-1][0]]
    found = states_of(mesh, [task for _, task in submitter.acknowledged])
    assert set(before) <= set(found), "a task that was acknowledged before the backup is gone"
    ended = mesh.wait(*found)
    assert all(task["state"] == "completed" for task in ended)
    assert all(sum(attempt["accepted"] for attempt in task["attempts"]) == 1 for task in ended)
    new = mesh.submit(title="after", executor="noop")
    assert mesh.wait(new)[0]["state"] == "completed"
    print(f"{len(submitter.acknowledged)} acknowledged, {len(before)} before the backup, {len(found)} restored")


def test_t29_what_an_agent_finished_after_the_backup_counts_once_when_it_comes_back(mesh: Mesh) -> None:
    """An agent works on through a restore: attempts of the lost history are turned away, each task has one result."""
    mesh.start_hub()
    mesh.start_sidecar("one", "--slots", "3")
    mesh.wait_agents("one")
    go = mesh.folder / "go"
    slow = f"while [ ! -e {go} ]; do sleep 0.05; done; echo done"
    running = mesh.submit(title="runs at the backup", command=slow, executor="shell")
    mesh.wait_state(running, "running")
    later = mesh.submit(title="queued at the backup", executor="shell", command="echo later", needs=["later"])
    copy = mesh.call("POST", "/api/v1/backups")
    lost = mesh.submit(title="after the backup", command=slow, executor="shell")
    mesh.wait_state(lost, "running")
    mesh.kill(mesh.hub)
    go.touch()  # the agent finishes both while there is no hub; its reports wait on its disk

    restored = command("restore", copy["path"], "--data-dir", str(mesh.data_dir), "--yes", "--json")
    assert restored.returncode == 0, restored.stderr
    said = json.loads(restored.stdout)
    assert said["requeued"] == 1
    mesh.start_hub()
    mesh.wait_agents("one")
    (task,) = mesh.wait(running)

    assert task["state"] == "completed"
    assert [attempt["accepted"] for attempt in task["attempts"]] == [False, True]
    assert task["attempts"][0]["state"] == "lost"
    assert task["attempts"][1]["epoch"] > 1_000
    assert states_of(mesh, [lost]) == {}
    assert mesh.task(later)["state"] == "queued"
    again = mesh.submit(title="new", command="echo new", executor="shell")
    assert mesh.wait(again)[0]["state"] == "completed"
    events = mesh.events()
    assert [event["kind"] for event in events].count("hub_restored") == 1
    assert sum(event["kind"] == "task_completed" and event["task"] == running for event in events) == 1


def test_t29_a_restore_needs_a_hub_that_is_stopped_and_a_file_that_is_whole(mesh: Mesh) -> None:
    """Nothing is replaced while a hub works, nor by a file that is damaged; a refusal changes nothing."""
    mesh.start_hub()
    task = mesh.submit(title="x", executor="noop")
    copy = Path(mesh.call("POST", "/api/v1/backups")["path"])
    busy = command("restore", str(copy), "--data-dir", str(mesh.data_dir), "--yes")
    assert (busy.returncode, "another hub uses" in busy.stderr) == (2, True)
    spoilt = bytearray(copy.read_bytes())
    spoilt[PAGE_BYTES + 1_000] ^= 1
    (mesh.folder / "spoilt").write_bytes(spoilt)
    mesh.kill(mesh.hub)
    for file in (mesh.folder / "spoilt", mesh.folder / "none"):
        assert command("restore", str(file), "--data-dir", str(mesh.data_dir), "--yes").returncode in {1, 2}
    assert command("restore", str(copy), "--data-dir", str(mesh.data_dir)).returncode == 2  # nobody said yes

    mesh.start_hub()
    assert mesh.task(task)["state"] == "queued"
    assert not list(mesh.data_dir.glob("replaced-*"))


def test_t29_a_damaged_store_is_shown_on_demand_and_takes_nothing_in(mesh: Mesh) -> None:
    """A hub started with --read-only answers what can be read, refuses writes and agents, and says the way out."""
    mesh.start_hub()
    tasks = mesh.submit_all({"title": f"task {n}", "prompt": "x" * 2_000} for n in range(50))
    mesh.stop()
    raw = bytearray((mesh.data_dir / "hub.sqlite").read_bytes())
    raw[raw.index(b"x" * 500) + 100] ^= 1
    (mesh.data_dir / "hub.sqlite").write_bytes(raw)
    mesh.start_hub("--read-only", is_ready=False)

    assert len(mesh.call("GET", "/api/v1/tasks?limit=200")["tasks"]) == 50
    assert mesh.call("GET", "/api/v1/health")["components"]["store"]["state"] == "down"
    for method, path in (("POST", "/api/v1/tasks"), ("POST", f"/api/v1/tasks/{tasks[0]}/cancel"), ("GET", "/mesh")):
        with pytest.raises(Refused) as refused:
            mesh.call(method, path, {"title": "x"} if method == "POST" else None)
        assert (refused.value.status, refused.value.problem["code"]) == (503, "read_only")
        assert "agentcom restore" in refused.value.problem["detail"]
    unread = []
    for task in tasks:
        try:
            assert mesh.task(task)["spec"]["prompt"] == "x" * 2_000
        except Refused as exc:
            if exc.problem["code"] != "store_damaged":
                raise
            unread.append(task)
    assert 1 <= len(unread) < 50
    assert (mesh.data_dir / "hub.sqlite").read_bytes() == bytes(raw)


# --- T44: what is long past -------------------------------------------------------------------------------------------


async def no_agent(name: str) -> None:
    raise AssertionError(name)


LONG: Final = [pytest.mark.soak, pytest.mark.timeout(3_600)]


@pytest.mark.parametrize("events", [10_000, pytest.param(1_000_000, marks=LONG)])
async def test_t44_old_events_go_while_work_goes_on_and_readers_are_told(tmp_path: Path, events: int) -> None:
    """A log that is kept short does not grow, does not hold up submissions, and no reader misses a thing in silence."""
    store, kept = SqliteStore(tmp_path / "hub.sqlite"), 1_000
    await store.open()
    rows, clock = Rows(store), SystemClock()
    retention = Retention(store, clock, Terms(events_most=kept), forget_agent=no_agent, log_port=store, pause_s=0)
    insight = Insight(store, Fleet(), clock, version="1", started_at=datetime.now(UTC), recent=Recent())
    sizes, waits, task = [], [], 0
    try:
        for _ in range(10):
            for _ in range(max(1, events // 10 // 500)):
                for _ in range(499):
                    store.post(Record(Event(kind=EventKind.DISK_OK, at_ms=clock.now_ms(), facts={"x": "y" * 50})))
                await store.commit(Record(Event(kind=EventKind.DISK_OK, at_ms=clock.now_ms())))
            cursor = store.newest_event - kept // 2
            sweeping = asyncio.create_task(retention.sweep())
            while not sweeping.done():
                task, began = task + 1, time.perf_counter()
                await rows.add(new_task(task))
                waits.append(time.perf_counter() - began)
            await sweeping
            assert not (await insight.events(after=cursor)).reset
            lost = await insight.events(after=1, limit=1)
            assert lost.reset == (lost.floor > 1)
            assert not lost.reset or lost.events[0].seq == lost.floor + 1
            await store.shorten_log()
            sizes.append((tmp_path / "hub.sqlite").stat().st_size)
        assert store.newest_event - (await store.cursor(0)).floor <= kept + task + 20
    finally:
        await store.close()

    waits.sort()
    p99_ms = waits[int(len(waits) * 0.99)] * 1000
    print(f"{events} events, {task} tasks beside; submission p99 {p99_ms:.1f} ms; sizes {sizes}")
    assert sizes[-1] <= sizes[1] * 1.5 + task * 2_000  # freed pages are used again
