"""Promises of :mod:`hub.growth`: what it adds are tasks like any others, and the store stays whole."""

import random
from pathlib import Path

import pytest

from hub.growth import lengthen
from hub.lock import hold
from hub.store.sqlite_file import check_whole, connect
from hub.store.store import TaskQuery
from protocol.errors import BadInput, NotFound
from protocol.ids import TASK_ID
from protocol.model import TaskState
from tests.support.stores import RESULT, new_task, opened, task_id

BITS = random.Random(1).getrandbits


async def test_copies_are_tasks_with_all_that_belongs_to_them(tmp_path: Path) -> None:
    async with opened("sqlite-file", tmp_path) as rows:
        await rows.add(new_task(1), new_task(2, priority=0))
        await rows.completed(1)
    lengthen(tmp_path, [task_id(1), task_id(2)], 25_001, BITS)

    async with opened("sqlite-file", tmp_path) as rows:
        store = rows.store
        counts = await store.counts()
        assert (counts[TaskState.COMPLETED], counts[TaskState.QUEUED]) == (1 + 12_501, 1 + 12_500)
        newest = await store.tasks(TaskQuery(limit=2))
        assert {row.state for row in newest} == {TaskState.COMPLETED, TaskState.QUEUED}
        done, queued = sorted(newest, key=lambda row: row.state)
        assert all(TASK_ID.fullmatch(row.id) and row.id > task_id(2) for row in newest)
        assert [attempt.result for attempt in await store.attempts(done.id)] == [RESULT]
        assert await store.spec(queued.id) == await store.spec(task_id(2))
        assert [e.kind for e in await store.events(0, 9, done.id)] == ["task_queued", "task_completed"]
        assert await store.last_event() == store.newest_event > 2 * 25_001
        assert await store.ahead(queued) == {queued.class_text: 10_000}
    connection = connect(str(tmp_path / "hub.sqlite"), 1.0)
    check_whole(connection, str(tmp_path), deep=True)
    connection.close()


async def test_a_task_that_is_not_there_and_a_hub_at_work_are_refused(tmp_path: Path) -> None:
    async with opened("sqlite-file", tmp_path) as rows:
        await rows.add(new_task(1))

    with pytest.raises(NotFound):
        lengthen(tmp_path, [task_id(9)], 1, BITS)
    with hold(tmp_path), pytest.raises(BadInput, match="another hub uses"):
        lengthen(tmp_path, [task_id(1)], 1, BITS)
