"""Promises of :mod:`hub.services.watch`: a change of the machine is told once, and stands in the hub's health."""

import asyncio
import contextlib
from pathlib import Path

from hub.clock import SystemClock
from hub.memory import Memory
from hub.services.watch import MAX_LOG_BYTES, Watch
from hub.store.changes import Record
from hub.store.space import Space
from hub.store.sqlite import SqliteStore
from protocol.events import Event, EventKind

MIB = 1 << 20


class Machine:
    """What the watch sees, as the test says."""

    def __init__(self, store: SqliteStore, folder: Path) -> None:
        self.free_mb, self.used_mb, self.log_bytes = 1_000, 100, 0
        space = Space(folder, 256, ask=lambda _folder: (self.free_mb * MIB, 100_000 * MIB))
        memory = Memory(200, ask=lambda: self.used_mb * MIB)
        self.watch = Watch(store, SystemClock(), memory, space, log_bytes=lambda: self.log_bytes)

    def states(self) -> dict[str, str]:
        return {name: part.state for name, part in self.watch.components().items()}


async def test_a_change_is_one_event_and_stays_in_the_health(store: SqliteStore, tmp_path: Path) -> None:
    machine = Machine(store, tmp_path)
    machine.watch.look()
    assert machine.states() == {"disk": "ok", "memory": "ok"}
    machine.free_mb, machine.used_mb = 100, 300
    machine.watch.look()
    machine.watch.look()
    assert machine.states() == {"disk": "degraded", "memory": "degraded"}
    machine.free_mb, machine.used_mb = 1_000, 100
    machine.watch.look()
    assert machine.states() == {"disk": "ok", "memory": "ok"}

    await store.commit(Record(Event(kind=EventKind.HUB_STARTED, at_ms=1)))
    told = [event.kind for event in await store.events(0, 100)]
    assert told[:-1] == [EventKind.DISK_LOW, EventKind.MEMORY_HIGH, EventKind.DISK_OK, EventKind.MEMORY_OK]


async def test_a_long_log_of_the_database_is_an_alarm(store: SqliteStore, tmp_path: Path) -> None:
    machine = Machine(store, tmp_path)
    machine.log_bytes = MAX_LOG_BYTES + 1
    machine.watch.look()

    assert machine.states()["disk"] == "degraded"
    assert "the store's log is 256 MiB long" in machine.watch.components()["disk"].detail


async def test_without_a_disk_of_ours_only_memory_is_watched(store: SqliteStore) -> None:
    watch = Watch(store, SystemClock(), Memory(0))
    watch.look()

    assert set(watch.components()) == {"memory"}


async def test_it_measures_its_own_pace_while_it_runs(store: SqliteStore) -> None:
    looked = asyncio.Event()

    def ask() -> int:
        looked.set()
        return 0

    watch = Watch(store, SystemClock(), Memory(0), log_bytes=ask)
    task = asyncio.create_task(watch.run())
    async with asyncio.timeout(30):
        await looked.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert 0 <= watch.lag_s < 30
