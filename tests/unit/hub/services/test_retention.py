"""The promises of forgetting: only what is old and over, a little at a time, and nothing stands in its way."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub.services.retention import DAY_MS, Retention, Terms
from hub.store.changes import AppendLog, PutAgent
from hub.store.sqlite import SqliteStore
from protocol.errors import Conflict
from protocol.model import TaskState
from tests.support.stores import Rows, new_task, task_id


class Hand:
    """A clock that is a day ahead of all rows."""

    def __init__(self) -> None:
        self.now = 10 * DAY_MS

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1000


@pytest.fixture
async def rows(tmp_path: Path) -> AsyncIterator[Rows]:
    store = SqliteStore(tmp_path / "hub.sqlite")
    await store.open()
    yield Rows(store)
    await store.close()


async def swept(rows: Rows, **terms: Any) -> dict[str, int]:
    async def forget(name: str) -> None:
        raise Conflict(f"{name} is connected")

    retention = Retention(rows.store, Hand(), Terms(**terms), forget_agent=forget, page=4, pause_s=0)
    return await retention.sweep()


async def test_nothing_is_forgotten_without_a_term(rows: Rows) -> None:
    await rows.add(new_task(1), key="k", digest=b"")
    await rows.completed(1)

    assert await swept(rows) == {}
    assert await rows.state(1) is TaskState.COMPLETED


async def test_what_must_stay_never_stands_before_what_may_go(rows: Rows) -> None:
    await rows.add(*(new_task(number) for number in range(1, 31)))
    await rows.completed(21, 29)
    await rows.finish(30, (await rows.claim(30)).epoch, TaskState.DEAD)

    assert await swept(rows, tasks_days=1) == {"tasks": 2}
    assert await rows.store.task(task_id(21)) is None
    assert await rows.states([1, 20, 28, 30]) == [TaskState.QUEUED] * 3 + [TaskState.DEAD]
    assert await swept(rows, dead_days=1) == {"tasks": 1}
    assert {state: n for state, n in (await rows.store.counts()).items() if n} == {TaskState.QUEUED: 27}


async def test_what_is_younger_than_its_term_stays(rows: Rows) -> None:
    rows.now_ms = 9 * DAY_MS + 1_000
    await rows.add(new_task(1), key="k", digest=b"")
    await rows.completed(1)

    assert await swept(rows, tasks_days=1, keys_days=1, events_days=1, logs_days=1, agents_days=1) == {}


async def test_keys_output_and_events_go_by_themselves(rows: Rows) -> None:
    for number in range(1, 8):
        await rows.add(new_task(number), key=f"k{number}", digest=b"")
    epoch = (await rows.claim(1)).epoch
    await rows.accept(1, epoch)
    for offset in range(6):
        await rows.store.commit(
            AppendLog(at_ms=rows.tick(), task=task_id(1), epoch=epoch, offset=offset, stream="stdout", text="x")
        )
    await rows.finish(1, epoch)
    newest = rows.store.newest_event

    assert await swept(rows, keys_days=1, logs_days=1, events_days=1) == {"logs": 6, "keys": 7, "events": newest}
    assert await rows.state(1) is TaskState.COMPLETED
    assert [event.kind.value for event in await rows.store.events(0, 10)] == ["store_cleaned"]
    assert (await rows.store.cursor(0)).floor == newest


async def test_only_so_many_events_stay(rows: Rows) -> None:
    await rows.add(*(new_task(number) for number in range(1, 31)))

    assert await swept(rows, events_most=10) == {"events": 20}
    assert (await rows.store.events(0, 100))[0].seq == 21


async def test_an_agent_that_is_back_stays(rows: Rows) -> None:
    await rows.store.commit(
        PutAgent(at_ms=5, name="a", host="h", boot=1, slots=1, version="1", capabilities=(), draining=False, event=None)
    )

    assert await swept(rows, agents_days=1) == {}
