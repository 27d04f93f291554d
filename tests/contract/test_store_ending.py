"""The promises of a store about what ends or begins from outside: people and time."""

import pytest

from hub.store.changes import (
    Cancel,
    Ended,
    Expire,
    Expired,
    Prioritise,
    Promote,
    Promoted,
    Ready,
    Retry,
)
from hub.store.store import TaskQuery
from protocol.errors import (
    Conflict,
    IllegalTransition,
    NotFound,
    StaleAttempt,
)
from protocol.model import AttemptState, FailureClass, TaskState
from tests.support.stores import CLASS, Rows, new_task, task_id

Q, A, R = TaskState.QUEUED, TaskState.ASSIGNED, TaskState.RUNNING
DONE, FAILED, CANCELLED, DEAD = TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.DEAD


# --- from outside -----------------------------------------------------------------------------------------------------


async def test_a_live_task_can_be_cancelled_wherever_it_stands(rows: Rows) -> None:
    await rows.add(new_task(1), new_task(2), new_task(3))
    await rows.add(new_task(4, depends_on=(task_id(1),)))
    await rows.claim(2)
    await rows.claim(3)
    await rows.accept(3, 1)
    ended: list[Ended] = [
        await rows.store.commit(Cancel(at_ms=rows.tick(), task=task_id(number), reason="no more", by="me"))
        for number in (4, 1, 2, 3)
    ]

    assert [(e.was, e.epoch, e.agent) for e in ended] == [
        (TaskState.BLOCKED, 0, None),
        (Q, 0, None),
        (A, 1, "a"),
        (R, 1, "a"),
    ]
    assert set(await rows.states([1, 2, 3, 4])) == {CANCELLED}
    assert (await rows.store.attempts(task_id(3)))[0].state is AttemptState.CANCELLED
    assert (await rows.store.events(0, 100, task_id(3)))[-1].facts == {"reason": "no more", "by": "me"}
    with pytest.raises(StaleAttempt):
        await rows.finish(3, 1)


async def test_what_has_ended_cannot_be_cancelled_and_what_is_not_there_neither(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.completed(1)

    with pytest.raises(IllegalTransition, match="allowed: none, it is final"):
        await rows.store.commit(Cancel(at_ms=rows.tick(), task=task_id(1), reason="", by="me"))
    with pytest.raises(NotFound):
        await rows.store.commit(Cancel(at_ms=rows.tick(), task=task_id(2), reason="", by="me"))


async def test_a_live_task_goes_earlier_or_later_wherever_it_stands(rows: Rows) -> None:
    await rows.add(new_task(1), new_task(2), new_task(3, depends_on=(task_id(1),)), new_task(4))
    await rows.completed(4)

    async def to(number: int, priority: int) -> Ready | None:
        change = Prioritise(at_ms=rows.tick(), task=task_id(number), priority=priority, by="me")
        return await rows.store.commit(change)  # type: ignore[no-any-return]  # the outcome of this change

    assert await to(2, 0) == Ready(class_text=CLASS, place=(0, task_id(2)))
    assert await to(3, 3) is None  # it waits for another one
    await rows.claim(1)
    assert await to(1, 3) is None  # it runs
    assert (await rows.store.events(0, 100, task_id(2)))[-1].facts == {"priority": "urgent", "by": "me"}
    assert [row.priority for row in await rows.store.tasks(TaskQuery(limit=4))] == [2, 3, 0, 3]
    with pytest.raises(IllegalTransition, match="it has ended"):
        await to(4, 0)
    with pytest.raises(NotFound):
        await to(5, 0)


async def test_a_dead_letter_runs_again_with_all_its_retries_under_a_new_epoch(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.claim(1)
    await rows.finish(1, 1, DEAD, retries=3, infra_failures=2)
    ready: Ready = await rows.store.commit(Retry(at_ms=rows.tick(), task=task_id(1), by="me"))
    claimed = await rows.claim(1)
    assert ready == Ready(class_text=CLASS, place=(2, task_id(1)))
    assert (claimed.epoch, claimed.retries, claimed.infra_failures) == (2, 0, 0)
    await rows.accept(1, 2)
    await rows.finish(1, 2)

    assert [attempt.accepted for attempt in await rows.store.attempts(task_id(1))] == [False, True]
    assert await rows.state(1) is DONE


async def test_a_dead_letter_that_runs_again_does_not_expire_of_the_past(rows: Rows) -> None:
    now = rows.tick()
    await rows.add(new_task(1, expires_ms=now + 50, complete_by_ms=now + 60), new_task(2, complete_by_ms=now + 900))
    for number in (1, 2):
        await rows.claim(number)
        await rows.finish(number, 1, DEAD)
        await rows.store.commit(Retry(at_ms=now + 100, task=task_id(number), by="me"))
    expired: Expired = await rows.store.commit(Expire(at_ms=now + 200))

    assert (expired.ended, expired.next_ms) == ((), now + 900)
    assert await rows.states([1, 2]) == [Q, Q]


@pytest.mark.parametrize("how", [Q, A, DONE, FAILED, CANCELLED])
async def test_nothing_but_a_dead_letter_is_retried(rows: Rows, how: TaskState) -> None:
    await rows.add(new_task(1))
    if how is CANCELLED:
        await rows.store.commit(Cancel(at_ms=rows.tick(), task=task_id(1), reason="", by="me"))
    elif how is not Q:
        await rows.claim(1)
        if how is not A:
            await rows.finish(1, 1, how)

    with pytest.raises(Conflict):
        await rows.store.commit(Retry(at_ms=rows.tick(), task=task_id(1), by="me"))
    assert await rows.state(1) is how


async def test_what_is_not_there_cannot_be_retried(rows: Rows) -> None:
    with pytest.raises(NotFound):
        await rows.store.commit(Retry(at_ms=rows.tick(), task=task_id(1), by="me"))


# --- time -------------------------------------------------------------------------------------------------------------


async def test_delayed_tasks_become_ready_when_their_time_has_come(rows: Rows) -> None:
    await rows.add(new_task(1, ready_ms=5_000), new_task(2, ready_ms=6_000), new_task(3))
    promoted: Promoted = await rows.store.commit(Promote(at_ms=5_000))
    again: Promoted = await rows.store.commit(Promote(at_ms=5_000))

    assert [ready.place for ready in promoted.ready] == [(2, task_id(1))]
    assert promoted.next_ms == again.next_ms == 6_000
    assert again.ready == ()
    assert (await rows.claim(1)).epoch == 1


async def test_due_tasks_come_in_portions(rows: Rows) -> None:
    await rows.add(*(new_task(number, ready_ms=4_000 + number) for number in range(5)))
    promoted: Promoted = await rows.store.commit(Promote(at_ms=9_000, limit=2))

    assert [ready.place[1] for ready in promoted.ready] == [task_id(0), task_id(1)]
    assert promoted.next_ms == 4_002


async def test_a_clock_that_is_set_back_delays_no_retry_beyond_the_longest_delay(rows: Rows) -> None:
    await rows.add(new_task(1), new_task(2, ready_ms=9_000_000))
    await rows.claim(1)
    await rows.finish(1, 1, Q, retries=1, ready_ms=9_000_000)
    early: Promoted = await rows.store.commit(Promote(at_ms=9_000_000 - 300_000))
    late: Promoted = await rows.store.commit(Promote(at_ms=9_000_000 - 300_001))

    assert early.ready == ()
    assert [ready.place[1] for ready in late.ready] == [task_id(1)]  # what people want later stays later


async def test_deadlines_end_tasks_and_a_ttl_only_those_that_wait(rows: Rows) -> None:
    await rows.add(
        new_task(1, expires_ms=5_000),
        new_task(2, expires_ms=5_000),
        new_task(3, complete_by_ms=5_000),
        new_task(4, expires_ms=5_000, complete_by_ms=5_000),
        new_task(5, expires_ms=5_001, complete_by_ms=6_000),
        new_task(6),
    )
    for number in (2, 3):
        await rows.claim(number)
        await rows.accept(number, 1)
    expired: Expired = await rows.store.commit(Expire(at_ms=5_000))

    assert sorted((e.task, e.was, e.agent) for e in expired.ended) == [
        (task_id(1), Q, None),
        (task_id(3), R, "a"),
        (task_id(4), Q, None),
    ]
    assert expired.next_ms == 5_001
    assert await rows.states([1, 2, 3, 4, 5, 6]) == [FAILED, R, FAILED, FAILED, Q, Q]
    (attempt,) = await rows.store.attempts(task_id(3))
    assert (attempt.state, attempt.failure, attempt.reason) == (
        AttemptState.CANCELLED,
        FailureClass.DEADLINE,
        "complete_by has passed",
    )
    assert (await rows.kinds(4)).count("task_failed") == 1


async def test_without_deadlines_there_is_no_next_one(rows: Rows) -> None:
    await rows.add(new_task(1))
    expired: Expired = await rows.store.commit(Expire(at_ms=9_000))
    promoted: Promoted = await rows.store.commit(Promote(at_ms=9_000))

    assert (expired.ended, expired.next_ms, promoted.ready, promoted.next_ms) == ((), None, (), None)
