"""The promises of the loop over time: it survives a crowd at the disk, and is late for nothing it was told of."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from hub.clock import SystemClock
from hub.core.fleet import Fleet
from hub.core.window import Window
from hub.gateway.connection import Links
from hub.services.sweeper import SAFETY_S, Sweeper
from hub.store.changes import Record
from hub.store.sqlite import SqliteStore
from hub.store.waiting import MAX_BATCH
from protocol.events import Event, EventKind
from tests.support.stores import CLASS, Rows, new_task


@dataclass
class Loop:
    """A sweeper and its window over a store."""

    rows: Rows
    window: Window
    clock: SystemClock
    sweeper: Sweeper

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["asyncio.Task[None]"]:
        """The sweeper runs."""
        task = asyncio.create_task(self.sweeper.run())
        await asyncio.sleep(0)
        try:
            yield task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def until_ready(self, task: "asyncio.Task[None]", within_s: float) -> None:
        """Wait until a task stands in the window."""
        async with asyncio.timeout(within_s):
            while not (queue := self.window.classes.get(CLASS)) or not len(queue):
                assert not task.done()
                await asyncio.sleep(0.01)


@pytest.fixture
async def loop() -> AsyncIterator[Loop]:
    store, clock, fleet, window = SqliteStore(":memory:"), SystemClock(), Fleet(), Window()
    await store.open()
    sweeper = Sweeper(store, fleet, window, Links(clock), clock, lose=lambda *_: None, lease_s=30.0)
    yield Loop(Rows(store), window, clock, sweeper)
    await store.close()


async def test_a_crowd_at_the_disk_does_not_end_the_loop(loop: Loop) -> None:
    await loop.rows.add(new_task(1, ready_ms=loop.clock.now_ms()))
    loop.rows.store.waiting.most = 10 * MAX_BATCH
    for _ in range(12 * MAX_BATCH):
        loop.rows.store.post(Record(Event(kind=EventKind.HUB_STARTED, at_ms=1)))
    async with loop.running() as task:
        assert loop.rows.store.waiting.is_full

        await loop.until_ready(task, within_s=30.0)


async def test_what_it_is_told_of_while_it_looks_is_not_forgotten(loop: Loop) -> None:
    promoted = asyncio.Event()
    loop.rows.store.on_commit = lambda _events: promoted.set()
    async with loop.running() as task:
        await promoted.wait()
        # It has promoted what was due, knows of nothing later, and waits for the end of what has expired.
        ready_ms = loop.clock.now_ms() + 300
        adding = asyncio.create_task(loop.rows.add(new_task(1, ready_ms=ready_ms)))
        loop.sweeper.due(ready_ms)
        await adding

        await loop.until_ready(task, within_s=SAFETY_S - 2.0)
