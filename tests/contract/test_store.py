"""The promises of a store, held by every backend: each verb whole or not at all, one agent a task, one result."""

import asyncio

import pytest

from hub.store.changes import (
    Accept,
    Advance,
    AppendLog,
    Cancel,
    Expire,
    Promote,
    Promoted,
    Ready,
)
from hub.store.store import TaskQuery
from protocol.errors import (
    BadInput,
    IdempotencyConflict,
    StaleAttempt,
    StaleTask,
)
from protocol.model import AttemptState, FailureClass, TaskState
from tests.support.stores import CLASS, RESULT, Rows, new_task, task_id

Q, A, R = TaskState.QUEUED, TaskState.ASSIGNED, TaskState.RUNNING
DONE, FAILED, CANCELLED, DEAD = TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.DEAD


# --- submission -------------------------------------------------------------------------------------------------------


async def test_what_is_added_is_there_with_its_event(rows: Rows) -> None:
    added = await rows.add(new_task(1), new_task(2, labels={"team": "x"}, priority=0))

    assert added.ids == (task_id(1), task_id(2))
    assert added.states == (Q, Q)
    assert not added.replayed
    assert await rows.kinds() == ["task_queued", "task_queued"]
    row = await rows.store.task(task_id(2))
    assert row is not None
    assert (row.labels, row.priority, row.place, row.epoch, row.submitted_ms) == (
        {"team": "x"},
        0,
        (0, task_id(2)),
        0,
        1_001,
    )
    assert await rows.store.spec(task_id(2)) == (new_task(2).spec, new_task(2).tier)


async def test_the_same_key_and_body_give_the_same_tasks_and_store_nothing(rows: Rows) -> None:
    first = await rows.add(new_task(1), new_task(2), key="k", digest=b"d")
    again = await rows.add(new_task(3), new_task(4), key="k", digest=b"d")

    assert again.replayed
    assert again.ids == first.ids
    assert await rows.store.task(task_id(3)) is None
    assert len(await rows.kinds()) == 2


async def test_a_key_with_another_body_is_a_conflict(rows: Rows) -> None:
    await rows.add(new_task(1), key="k", digest=b"d")

    with pytest.raises(IdempotencyConflict):
        await rows.add(new_task(2), key="k", digest=b"e")
    assert await rows.store.task(task_id(2)) is None


async def test_two_requests_with_one_key_in_one_batch_make_one_set_of_tasks(rows: Rows) -> None:
    one, other = await asyncio.gather(
        rows.add(new_task(1), key="k", digest=b"d"), rows.add(new_task(2), key="k", digest=b"d")
    )

    assert (one.replayed, other.replayed) == (False, True)
    assert one.ids == other.ids == (task_id(1),)


async def test_the_keys_of_one_token_are_not_those_of_another(rows: Rows) -> None:
    mine = await rows.add(new_task(1), key="k", digest=b"d")
    others = await rows.add(new_task(2), key="k", digest=b"e", by="them")
    again = await rows.add(new_task(3), key="k", digest=b"e", by="them")

    assert (mine.replayed, others.replayed, again.replayed) == (False, False, True)
    assert (mine.ids, again.ids) == ((task_id(1),), (task_id(2),))


async def test_a_refused_request_leaves_no_key_behind(rows: Rows) -> None:
    with pytest.raises(BadInput):
        await rows.add(new_task(1, depends_on=(task_id(9),)), key="k", digest=b"d")

    assert not (await rows.add(new_task(2), key="k", digest=b"e")).replayed


async def test_of_a_request_with_an_unknown_dependency_nothing_is_stored_and_all_are_named(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.store.commit(Cancel(at_ms=rows.tick(), task=task_id(1), reason="", by="me"))

    with pytest.raises(BadInput) as caught:
        await rows.add(
            new_task(2), new_task(3, depends_on=(task_id(8), task_id(1))), new_task(4, depends_on=(task_id(9),))
        )
    assert [(p.path, p.problem) for p in caught.value.problems] == [
        ("tasks[1].depends_on[0]", f"no task {task_id(8)}"),
        ("tasks[1].depends_on[1]", f"task {task_id(1)} is cancelled: it will never complete"),
        ("tasks[2].depends_on[0]", f"no task {task_id(9)}"),
    ]
    assert [t.id for t in await rows.store.tasks(TaskQuery())] == [task_id(1)]


# --- attempts ---------------------------------------------------------------------------------------------------------


async def test_a_task_goes_its_whole_way(rows: Rows) -> None:
    await rows.add(new_task(1))
    claimed = await rows.claim(1)
    assert (claimed.epoch, claimed.max_retries, claimed.spec) == (1, 3, new_task(1).spec)
    assert await rows.state(1) is A
    await rows.accept(1, 1)
    assert await rows.state(1) is R
    finished = await rows.finish(1, 1, verified=True)

    assert (finished.again, finished.ready) == (None, ())
    row = await rows.store.task(task_id(1))
    assert row is not None
    assert (row.state, row.agent, row.execution_ok, row.verified) == (DONE, "a", True, True)
    assert row.started_ms is not None and row.ended_ms is not None  # noqa: PT018 - one fact: it ran and it ended
    (attempt,) = await rows.store.attempts(task_id(1))
    assert (attempt.state, attempt.accepted, attempt.result, attempt.host) == (AttemptState.PASSED, True, RESULT, "h")
    assert await rows.kinds(1) == ["task_queued", "task_assigned", "task_started", "task_completed"]


async def test_nobody_gets_a_task_that_another_has(rows: Rows) -> None:
    await rows.add(new_task(1))
    one, other = await asyncio.gather(rows.claim(1, "a"), rows.claim(1, "b"), return_exceptions=True)

    assert not isinstance(one, BaseException)
    assert isinstance(other, StaleTask)
    assert str(other) == f"task {task_id(1)}: expected queued, found assigned"
    assert [attempt.agent for attempt in await rows.store.attempts(task_id(1))] == ["a"]


async def test_a_task_that_is_not_there_cannot_be_claimed(rows: Rows) -> None:
    with pytest.raises(StaleTask, match="it is gone"):
        await rows.claim(1)


async def test_a_delayed_task_cannot_be_claimed_before_its_time(rows: Rows) -> None:
    await rows.add(new_task(1, ready_ms=9_000))

    with pytest.raises(StaleTask):
        await rows.claim(1)


async def test_accepting_twice_is_accepting_once(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.claim(1)
    await rows.accept(1, 1)
    await rows.accept(1, 1)

    assert (await rows.kinds(1)).count("task_started") == 1


@pytest.mark.parametrize("number, epoch", [(1, 1), (1, 3), (7, 1)])
async def test_what_an_older_a_newer_or_an_unknown_attempt_says_changes_nothing(
    rows: Rows, number: int, epoch: int
) -> None:
    await rows.add(new_task(1))
    await rows.claim(1)
    await rows.finish(1, 1, Q, attempt=AttemptState.LOST, failure=FailureClass.INFRA)
    await rows.claim(1)
    before = await rows.kinds(), await rows.store.task(task_id(1)), await rows.store.attempts(task_id(1))

    task, at_ms = task_id(number), rows.tick()
    for change in (
        Accept(at_ms=at_ms, task=task, epoch=epoch),
        Advance(at_ms=at_ms, task=task, epoch=epoch, state=AttemptState.VERIFYING, iteration=1),
        rows.finish_change(number, epoch),
        AppendLog(at_ms=at_ms, task=task, epoch=epoch, offset=0, stream="stdout", text="x"),
    ):
        with pytest.raises(StaleAttempt):
            await rows.store.commit(change)
    after = await rows.kinds(), await rows.store.task(task_id(1)), await rows.store.attempts(task_id(1))
    assert after == before
    assert await rows.store.logs(task_id(1), 0, 10) == []


async def test_a_second_report_of_a_finished_attempt_is_stale(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.completed(1)

    with pytest.raises(StaleAttempt, match="the task is completed at attempt 1"):
        await rows.finish(1, 1, FAILED)
    assert await rows.state(1) is DONE


async def test_an_attempt_moves_on_only_after_it_was_accepted(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.claim(1)
    step = Advance(at_ms=rows.tick(), task=task_id(1), epoch=1, state=AttemptState.VERIFYING, iteration=2, detail="d")
    with pytest.raises(StaleAttempt):
        await rows.store.commit(step)
    await rows.accept(1, 1)
    await rows.store.commit(step)

    assert (await rows.store.attempts(task_id(1)))[0].state is AttemptState.VERIFYING
    told = (await rows.store.events(0, 100, task_id(1)))[-1]
    assert (told.kind, told.agent, told.epoch, told.facts) == (
        "task_verifying",
        "a",
        1,
        {"iteration": 2, "detail": "d"},
    )


async def test_a_requeued_task_can_be_claimed_again_under_a_new_epoch(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.claim(1)
    finished = await rows.finish(
        1, 1, Q, attempt=AttemptState.LOST, failure=FailureClass.INFRA, infra_failures=1, reason="lost"
    )
    claimed = await rows.claim(1, "b")

    assert finished.again == Ready(class_text=CLASS, place=(2, task_id(1)))
    assert (claimed.epoch, claimed.infra_failures) == (2, 1)
    assert await rows.kinds(1) == ["task_queued", "task_assigned", "attempt_lost", "task_requeued", "task_assigned"]
    first, second = await rows.store.attempts(task_id(1))
    assert (first.state, first.accepted, first.failure, first.reason) == (
        AttemptState.LOST,
        False,
        FailureClass.INFRA,
        "lost",
    )
    assert (second.state, second.agent) == (AttemptState.ASSIGNED, "b")


async def test_output_is_kept_in_order_and_only_of_an_attempt_that_lives(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.claim(1)
    for offset, text in ((0, "one"), (3, "two")):
        await rows.store.commit(
            AppendLog(at_ms=rows.tick(), task=task_id(1), epoch=1, offset=offset, stream="stdout", text=text)
        )
    await rows.finish(1, 1)
    with pytest.raises(StaleAttempt):
        await rows.store.commit(
            AppendLog(at_ms=rows.tick(), task=task_id(1), epoch=1, offset=6, stream="stdout", text="late")
        )

    found = await rows.store.logs(task_id(1), 0, 10)
    assert [(piece.text, piece.stream, piece.epoch) for piece in found] == [("one", "stdout", 1), ("two", "stdout", 1)]
    assert [piece.text for piece in await rows.store.logs(task_id(1), found[0].seq, 10)] == ["two"]
    assert len(await rows.store.logs(task_id(1), 0, 1)) == 1


async def test_output_that_is_sent_again_is_kept_once(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.claim(1)
    pieces = [(0, "stdout", "one"), (9, "stdout", "[6 were dropped]"), (9, "stdout", "two"), (12, "stderr", "three")]
    for offset, stream, text in [*pieces, *pieces[1:], (17, "stdout", "four")]:
        await rows.store.commit(
            AppendLog(at_ms=rows.tick(), task=task_id(1), epoch=1, offset=offset, stream=stream, text=text)
        )
    await rows.finish(1, 1, Q, attempt=AttemptState.LOST, failure=FailureClass.INFRA)
    await rows.claim(1)
    await rows.store.commit(
        AppendLog(at_ms=rows.tick(), task=task_id(1), epoch=2, offset=0, stream="stdout", text="one")
    )

    found = [(piece.epoch, piece.text) for piece in await rows.store.logs(task_id(1), 0, 10)]
    assert found == [*((1, text) for _, _, text in pieces), (1, "four"), (2, "one")]


# --- dependencies -----------------------------------------------------------------------------------------------------


async def test_a_task_waits_for_all_it_depends_on(rows: Rows) -> None:
    await rows.add(new_task(1), new_task(2))
    added = await rows.add(new_task(3, depends_on=(task_id(1), task_id(2), task_id(1))))
    assert added.states == (TaskState.BLOCKED,)
    assert sorted(await rows.store.blockers(task_id(3))) == [(task_id(1), Q), (task_id(2), Q)]
    await rows.completed(1)
    assert await rows.state(3) is TaskState.BLOCKED
    await rows.claim(2)
    finished = await rows.finish(2, 1)

    assert finished.ready == (Ready(class_text=CLASS, place=(2, task_id(3))),)
    assert await rows.state(3) is Q
    assert await rows.store.blockers(task_id(3)) == []
    assert await rows.kinds(3) == ["task_blocked", "task_queued"]


async def test_who_waits_for_one_task_alone_can_be_asked(rows: Rows) -> None:
    await rows.add(new_task(1), new_task(2))
    await rows.add(new_task(3, depends_on=(task_id(1), task_id(2))))
    await rows.add(new_task(4, depends_on=(task_id(1),)))
    before = await rows.store.soon(task_id(1), 10)
    await rows.completed(2)

    assert before == [(task_id(4), CLASS)]
    assert sorted(await rows.store.soon(task_id(1), 10)) == [(task_id(3), CLASS), (task_id(4), CLASS)]
    assert len(await rows.store.soon(task_id(1), 1)) == 1
    await rows.completed(1)
    assert await rows.store.soon(task_id(1), 10) == []


async def test_a_task_whose_dependencies_have_completed_starts_at_once(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.completed(1)

    assert (await rows.add(new_task(2, depends_on=(task_id(1),)))).states == (Q,)


async def test_a_task_may_depend_on_one_of_the_same_request(rows: Rows) -> None:
    added = await rows.add(new_task(1), new_task(2, depends_on=(task_id(1),)))

    assert added.states == (Q, TaskState.BLOCKED)


async def test_an_unblocked_task_still_waits_for_its_time(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.add(new_task(2, depends_on=(task_id(1),), ready_ms=9_000))
    await rows.claim(1)
    finished = await rows.finish(1, 1)

    assert finished.ready == ()
    promoted: Promoted = await rows.store.commit(Promote(at_ms=9_000))
    assert promoted.ready == (Ready(class_text=CLASS, place=(2, task_id(2))),)


@pytest.mark.parametrize("how", [FAILED, DEAD])
async def test_a_failure_reaches_everything_that_waits_for_it(rows: Rows, how: TaskState) -> None:
    await rows.add(new_task(1), new_task(5))
    await rows.add(new_task(2, depends_on=(task_id(1), task_id(5))))
    await rows.add(new_task(3, depends_on=(task_id(2),)))
    await rows.add(new_task(4, depends_on=(task_id(5),)))
    await rows.claim(1)
    await rows.finish(1, 1, how)

    assert await rows.states([2, 3, 4, 5]) == [FAILED, FAILED, TaskState.BLOCKED, Q]
    row = await rows.store.task(task_id(3))
    assert row is not None
    assert row.reason == f"task {task_id(2)} is failed"
    assert (await rows.store.events(0, 100, task_id(3)))[-1].facts["failure"] == "dependency"


async def test_a_cancelled_or_expired_task_takes_its_dependents_along(rows: Rows) -> None:
    await rows.add(new_task(1), new_task(2, expires_ms=5_000))
    await rows.add(new_task(3, depends_on=(task_id(1),)), new_task(4, depends_on=(task_id(2),)))
    await rows.store.commit(Cancel(at_ms=rows.tick(), task=task_id(1), reason="", by="me"))
    await rows.store.commit(Expire(at_ms=5_000))

    assert await rows.states([1, 2, 3, 4]) == [CANCELLED, FAILED, FAILED, FAILED]


async def test_a_retry_in_the_queue_keeps_its_dependents_waiting(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.add(new_task(2, depends_on=(task_id(1),)))
    await rows.claim(1)
    await rows.finish(1, 1, Q, retries=1)

    assert await rows.state(2) is TaskState.BLOCKED
