"""The promises of the figures that are kept: one a minute, one a quarter of an hour, and none that nobody can tell."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from hub.core.fleet import Fleet
from hub.core.tally import Tally
from hub.core.window import Window
from hub.services.recording import Recording
from hub.store.sqlite import SqliteStore
from hub.store.token_changes import TouchTokens
from protocol.clock import Clock
from protocol.events import Event, EventKind
from protocol.ids import IdMaker
from tests.support.machines import add, model

START_S = 1_700_000_100 // 900 * 900


class Hand(Clock):
    def __init__(self) -> None:
        self.ms = START_S * 1000

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


class Desk:
    """A recording by hand: tasks that end, and minutes that pass."""

    def __init__(self, store: SqliteStore) -> None:
        self.store, self.clock, self.fleet, self.tally = store, Hand(), Fleet(), Tally()
        add(self.fleet, "a", model("m", 4.0))
        self.recording = Recording(store, self.fleet, Window(), self.clock, self.tally)
        self._ids, self._seq = IdMaker(lambda _bits: 0), 0

    def ends(self, kind: EventKind, after_s: int = 2) -> None:
        task = self._ids.make(self.clock.ms - after_s * 1000)
        self._seq += 1
        self.tally.add([Event(kind=kind, at_ms=self.clock.ms, seq=self._seq, task=task)])

    async def minute(self) -> None:
        self.clock.ms += 60_000
        await self.recording.look()
        await self.store.commit(TouchTokens({}))  # what was posted before it is written by now

    async def kept(self, step_s: int) -> list[dict[str, float]]:
        rows = await self.store.samples(step_s, 0, 1 << 40)
        return [{"at": at_s, **msgspec.msgpack.decode(body)} for at_s, body in rows]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    store = SqliteStore(tmp_path / "hub.sqlite")
    await store.open()
    yield Desk(store)
    await store.close()


async def test_each_minute_tells_what_happened_in_it(desk: Desk) -> None:
    await desk.recording.look()
    desk.ends(EventKind.TASK_COMPLETED)
    desk.ends(EventKind.TASK_DEAD)
    await desk.minute()
    await desk.minute()
    await desk.recording.look()  # the timer was early: nothing is told twice

    told = await desk.recording.history()
    points = {series.name: [value for _, value in series.points] for series in told.series}
    assert points["tasks_completed"] == [1, 0]
    assert points["success_rate"] == [0.5, None]
    assert points["agents_online"] == [1, 1]
    assert (told.step_s, [at for at, _ in told.series[0].points]) == (60, [START_S + 60, START_S + 120])


async def test_a_quarter_of_an_hour_tells_of_all_of_it(desk: Desk) -> None:
    await desk.recording.look()
    for minute in range(16):
        desk.ends(EventKind.TASK_COMPLETED, after_s=minute + 1)
        await desk.minute()

    [quarter] = await desk.kept(900)
    assert (quarter["at"], quarter["tasks_completed"], quarter["success_rate"]) == (START_S + 900, 15, 1.0)
    assert abs(quarter["total_s_p50"] - 8) < 1
    assert len(await desk.kept(60)) == 16


async def test_lately_is_the_last_quarter_of_an_hour(desk: Desk) -> None:
    desk.ends(EventKind.TASK_FAILED)
    for _ in range(17):
        await desk.minute()
    desk.ends(EventKind.TASK_COMPLETED, after_s=4)

    lately = desk.recording.lately()
    assert (lately.ended, lately.success_rate, lately.mean_latency_s) == (1, 1.0, 4.0)


async def test_only_one_of_several_hubs_keeps_figures_and_none_while_it_still_counts(desk: Desk) -> None:
    desk.recording.leads = lambda: False
    await desk.recording.look()
    await desk.minute()
    desk.recording.leads = lambda: True
    desk.recording.is_behind = lambda: True
    await desk.minute()

    assert await desk.kept(60) == []
