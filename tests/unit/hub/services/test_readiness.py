"""The promises of readiness: a hub that cannot take work says so, and why; nobody can make it write by asking."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hub.services.readiness import SILENT_S, Readiness
from hub.store.queries import migrations
from hub.store.sqlite import SqliteStore
from tests.support.stores import Rows

SCHEMA = len(migrations("sqlite"))


class Hand:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def now_ms(self) -> int:
        return int(self.now * 1000)

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
async def rows(tmp_path: Path) -> AsyncIterator[Rows]:
    store = SqliteStore(tmp_path / "hub.sqlite")
    await store.open()
    yield Rows(store)
    await store.close()


class State:
    """What the other parts say."""

    def __init__(self, rows: Rows, schema: int = SCHEMA) -> None:
        self.trouble, self.silent_s, self.clock = "", 0.0, Hand()
        self.readiness = Readiness(
            rows.store,
            self.clock,
            schema=schema,
            trouble=lambda: self.trouble,
            silent_s=lambda: self.silent_s,
        )


async def down(state: State) -> list[str]:
    return [name for name, part in (await state.readiness.parts()).items() if part.state != "ok"]


async def test_a_hub_that_is_well_is_ready(rows: Rows) -> None:
    state = State(rows)

    assert (await down(state), await state.readiness.why_not()) == ([], "")


async def test_each_part_that_is_down_makes_it_unready_and_says_why(rows: Rows) -> None:
    state = State(rows)
    state.silent_s = SILENT_S + 1
    assert await down(state) == ["sweeper"]
    state.silent_s, state.trouble = 0.0, "its lease is over"
    with capture_logs() as lines:
        assert await state.readiness.why_not() == "serving: the hub may not serve now"
        assert await state.readiness.why_not() == "serving: the hub may not serve now"
    assert [(line["event"], line["serving"]) for line in lines] == [("hub_unready", "its lease is over")]
    state.trouble, state.readiness.is_draining = "", True
    assert await state.readiness.why_not() == "serving: the hub is ending"
    assert await down(State(rows, SCHEMA + 1)) == ["schema"]


async def test_a_store_that_is_closed_is_found_and_is_asked_once_in_a_while(rows: Rows) -> None:
    state = State(rows)
    store = rows.store
    before = store._writer.batches
    for _ in range(5):
        assert await down(state) == []
    assert store._writer.batches == before + 1

    await store._writer.close()
    assert await down(state) == [], "the answer is fresh enough"
    state.clock.now += 10
    with capture_logs() as lines:
        parts = await state.readiness.parts()
    assert [(name, part.detail) for name, part in parts.items() if part.state == "down"] == [
        ("store", "nothing can be written")
    ]
    assert lines[0]["store"] != "nothing can be written", "the log says why"
