"""The promises of a store to those who read it, and of its batches: nobody suffers for another."""

import asyncio

import pytest
from msgspec.structs import replace

from hub.store.changes import (
    Accept,
    AppendLog,
    Finish,
    ReadClass,
)
from hub.store.many_changes import End, Many
from hub.store.store import TaskQuery
from protocol.model import AttemptState, TaskState
from tests.support.stores import CLASS, RESULT, Rows, new_task, task_id

Q, A, R = TaskState.QUEUED, TaskState.ASSIGNED, TaskState.RUNNING
DONE, FAILED, CANCELLED, DEAD = TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.DEAD


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_the_best_ready_tasks_of_a_class_come_in_order_behind_a_place(rows: Rows) -> None:
    await rows.add(
        new_task(1),
        new_task(2, priority=0),
        new_task(3),
        new_task(4, class_text="{}"),
        new_task(5, ready_ms=9_000),
        new_task(6),
    )
    await rows.claim(6)

    async def read(limit: int, after: tuple[int, str] | None = None) -> list[tuple[int, str]]:
        change = ReadClass(at_ms=rows.tick(), class_text=CLASS, limit=limit, after=after)
        return [tuple(place) for place in await rows.store.commit(change)]

    assert await read(9) == [(0, task_id(2)), (2, task_id(1)), (2, task_id(3))]
    assert await read(1) == [(0, task_id(2))]
    assert await read(9, (0, task_id(2))) == [(2, task_id(1)), (2, task_id(3))]
    row = await rows.store.task(task_id(3))
    assert row is not None
    assert await rows.store.ahead(row) == {CLASS: 2}


async def test_what_goes_before_a_task_is_counted_in_all_classes(rows: Rows) -> None:
    await rows.add(
        new_task(1),
        new_task(2, priority=0, class_text="{}"),
        new_task(3, class_text="{}"),
        new_task(4),
        new_task(5, priority=0, class_text='{"a":1}'),
        new_task(6, class_text='{"b":1}'),
        new_task(7, priority=0, ready_ms=9_000),
    )
    row, first = await rows.store.task(task_id(4)), await rows.store.task(task_id(2))
    assert row is not None
    assert first is not None

    assert await rows.store.ahead(row) == {CLASS: 1, "{}": 2, '{"a":1}': 1}
    assert await rows.store.between("{}", (-1, ""), (row.priority, row.id)) == 2
    assert await rows.store.between("{}", (row.priority, row.id), (9, "")) == 0
    assert await rows.store.ahead(first) == {}


async def test_tasks_are_listed_newest_first_page_by_page(rows: Rows) -> None:
    await rows.add(*(new_task(n, labels={"team": "x" if n % 2 else "y"}) for n in range(1, 8)))
    await rows.claim(3, "b")
    store = rows.store

    async def listed(**query: object) -> list[int]:
        return [int(next(n for n in range(9) if task_id(n) == t.id)) for t in await store.tasks(TaskQuery(**query))]  # type: ignore[arg-type]  # the fields of a query

    assert await listed(limit=3) == [7, 6, 5]
    assert await listed(limit=3, before=task_id(5)) == [4, 3, 2]
    assert await listed(states=frozenset({A})) == [3]
    assert await listed(states=frozenset({A, Q}), limit=2) == [7, 6]
    assert await listed(agent="b") == [3]
    assert await listed(agent="nobody") == []
    assert await listed(label=("team", "x")) == [7, 5, 3, 1]
    assert await listed(label=("team", "z")) == []
    assert [t.id for t in await store.summaries([task_id(2), task_id(9), task_id(1)])] == [task_id(2), task_id(1)]


async def test_what_is_not_there_reads_as_nothing(rows: Rows) -> None:
    store = rows.store

    assert await store.task(task_id(1)) is None
    assert await store.spec(task_id(1)) is None
    assert await store.attempts(task_id(1)) == []
    assert await store.logs(task_id(1), 0, 10) == []
    assert await store.events(0, 10, task_id(1)) == []


async def test_facts_are_read_behind_a_number(rows: Rows) -> None:
    await rows.add(*(new_task(number) for number in range(5)))

    assert [event.seq for event in await rows.store.events(2, 2)] == [3, 4]
    assert [event.seq for event in await rows.store.events(0, 10, task_id(3))] == [4]
    assert await rows.store.events(5, 10) == []


# --- the batch --------------------------------------------------------------------------------------------------------


async def test_a_refused_verb_does_not_take_its_batch_along(rows: Rows) -> None:
    outcomes = await asyncio.gather(
        rows.add(new_task(1)),
        rows.claim(9),
        rows.claim(1),
        rows.finish(1, 7),
        rows.accept(1, 1),
        return_exceptions=True,
    )

    assert [type(outcome).__name__ for outcome in outcomes] == [
        "Added",
        "StaleTask",
        "Claimed",
        "StaleAttempt",
        "NoneType",
    ]
    assert await rows.state(1) is R


@pytest.mark.parametrize(
    "bad",
    [
        Accept(at_ms=2**63, task=task_id(1), epoch=1),
        Finish(
            at_ms=1, task=task_id(1), epoch=1, attempt=AttemptState.PASSED, next=DONE, retries=2**70, infra_failures=0
        ),
        AppendLog(at_ms=1, task=task_id(1), epoch=1, offset=0, stream="stdout", text="\ud800"),
        AppendLog(at_ms=1, task=task_id(1), epoch=1, offset=0, stream="stdout", text=None),  # type: ignore[arg-type]  # a bug
    ],
    ids=[
        "a number the rows cannot hold",
        "such a number behind good ones",
        "a text that is none",
        "a row that is refused",
    ],
)
async def test_a_verb_that_the_rows_cannot_hold_is_refused_alone(rows: Rows, bad: Accept | Finish | AppendLog) -> None:
    await rows.add(new_task(1))
    await rows.claim(1)
    batches = rows.store.batches
    outcomes = await asyncio.gather(
        rows.add(new_task(2)), rows.store.commit(bad), rows.add(new_task(3)), return_exceptions=True
    )

    assert [type(outcome).__name__ for outcome in outcomes] == ["Added", "Unwritable", "Added"]
    assert rows.store.batches > batches
    assert await rows.states([1, 2, 3]) == [A, Q, Q]
    await rows.finish(1, 1)


async def test_one_of_many_that_the_rows_cannot_hold_is_refused_alone(rows: Rows) -> None:
    await rows.add(new_task(1), new_task(2), new_task(3))
    claimed = await rows.store.commit(Many([rows.claim_change(1), rows.claim_change(9), rows.claim_change(2)]))
    assert [type(outcome).__name__ for outcome in claimed] == ["Claimed", "StaleTask", "Claimed"]
    good = [
        End(rows.tick(), task_id(number), epoch, 0, 0, 0, RESULT, {"model": "none"}, accepts=True)
        for number, epoch in ((1, 1), (3, 1), (2, 1))
    ]
    bad = replace(good[0], retries=2**70)
    first, ended = await asyncio.gather(rows.store.commit(Many([bad, *good])), rows.add(new_task(4)))

    assert [type(outcome).__name__ for outcome in first] == ["Unwritable", "Finished", "StaleAttempt", "Finished"]
    assert type(ended).__name__ == "Added"
    assert await rows.states([1, 2, 3, 4]) == [DONE, DONE, Q, Q]


async def test_adding_a_task_twice_is_refused_alone_and_whole(rows: Rows) -> None:
    await rows.add(new_task(1))
    outcomes = await asyncio.gather(rows.add(new_task(2), new_task(1)), rows.add(new_task(3)), return_exceptions=True)

    assert [type(outcome).__name__ for outcome in outcomes] == ["Unwritable", "Added"]
    assert await rows.store.task(task_id(2)) is None
