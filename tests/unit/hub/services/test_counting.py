"""The promises of counting: exact whatever was committed by whom, and over a restart."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.core.measures import Measure
from hub.core.tally import Tally
from hub.services.counting import ABOUT, Counting
from hub.store.changes import Record
from hub.store.hub_changes import KeepMeasures
from hub.store.sqlite import SqliteStore
from protocol.clock import Clock
from protocol.events import Event, EventKind


class Still(Clock):
    def now_ms(self) -> int:
        return 1_000

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "hub.sqlite")
    await store.open()
    yield store
    await store.close()


async def tell(store: SqliteStore, times: int = 1) -> None:
    for _ in range(times):
        await store.commit(Record(Event(kind=EventKind.REPORT_STALE, at_ms=1)))


async def of_the_log(store: SqliteStore) -> int:
    tally = Tally()
    tally.add(await store.events(0, 100_000))
    return tally.happened(EventKind.REPORT_STALE)


async def test_what_is_committed_is_counted_at_once(store: SqliteStore) -> None:
    counting = Counting(store, Still())
    store.on_commit = counting.committed
    await tell(store, 3)

    assert not counting.is_behind
    assert counting.tally.happened(EventKind.REPORT_STALE) == 3 == await of_the_log(store)


async def test_what_another_hub_has_committed_is_read_from_the_rows(store: SqliteStore) -> None:
    counting = Counting(store, Still())
    await tell(store, 600)  # nobody has told this one
    store.on_commit = counting.committed
    await tell(store)
    assert counting.is_behind

    await counting.catch_up()
    assert not counting.is_behind
    await tell(store)
    assert counting.tally.happened(EventKind.REPORT_STALE) == 602 == await of_the_log(store)


async def test_a_hub_that_died_between_two_keepings_counts_on_without_a_gap(store: SqliteStore) -> None:
    first = Counting(store, Still())
    store.on_commit = first.committed
    await tell(store, 4)
    first.keep()
    await tell(store, 5)  # and then it dies

    second = Counting(store, Still(), await store.measures())
    assert second.is_behind
    await second.catch_up()
    assert second.tally.happened(EventKind.REPORT_STALE) == 9 == await of_the_log(store)


async def test_counts_that_nobody_can_read_are_counted_again(store: SqliteStore) -> None:
    await tell(store, 2)
    await store.commit(KeepMeasures(at_ms=1, measures=(Measure(ABOUT, "all", b"\xc1"),), most=1))

    counting = Counting(store, Still(), await store.measures())
    await counting.catch_up()
    assert counting.tally.happened(EventKind.REPORT_STALE) == 2
