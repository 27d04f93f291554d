"""The promises of a store about work that waits for a person."""

import pytest
from msgspec.structs import replace

from hub.core.routing import requirements_of
from hub.store.changes import Finished
from hub.store.review_changes import AGAIN, APPROVED, REJECTED, Review
from protocol.errors import Conflict, IllegalTransition, NotFound
from protocol.events import EventKind
from protocol.limits import MAX_INFRA_FAILURES
from protocol.model import AttemptState, FailureClass, TaskState
from tests.support.stores import RESULT, Rows, new_task, task_id

WAITING = TaskState.WAITING


def review(rows: Rows, number: int, verdict: str, reason: str = "", epoch: int | None = None) -> Review:
    return Review(at_ms=rows.tick(), task=task_id(number), verdict=verdict, by="me", reason=reason, epoch=epoch)


async def held(rows: Rows, number: int) -> None:
    """A task with work that waits for a person."""
    epoch = (await rows.claim(number)).epoch
    await rows.accept(number, epoch)
    waits = {"attempt": AttemptState.PASSED, "verified": False, "execution_ok": True, "result": RESULT, "failure": None}
    await rows.finish(number, epoch, WAITING, reason="tests were changed", **waits)


async def test_what_waits_neither_ends_nor_counts_until_a_person_has_approved_of_it(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.add(new_task(2, depends_on=(task_id(1),)))
    await held(rows, 1)
    row, (waiting,) = await rows.store.task(task_id(1)), await rows.store.attempts(task_id(1))
    assert row is not None
    assert (row.state, row.ended_ms, row.reason) == (WAITING, None, "tests were changed")
    assert (waiting.accepted, await rows.state(2)) == (False, TaskState.BLOCKED)
    done: Finished = await rows.store.commit(review(rows, 1, APPROVED, "they were wrong", epoch=1))

    row, (attempt,) = await rows.store.task(task_id(1)), await rows.store.attempts(task_id(1))
    assert row is not None
    assert (row.state, row.verified, row.ended_ms is not None) == (TaskState.COMPLETED, False, True)
    assert (attempt.state, attempt.accepted, attempt.failure) == (AttemptState.PASSED, True, None)
    assert [place for _, place in [ready.place for ready in done.ready]] == [task_id(2)]
    (kept,) = await rows.store.reviews(task_id(1))
    assert (kept.epoch, kept.verdict, kept.by, kept.reason) == (1, APPROVED, "me", "they were wrong")
    kinds = [event.kind for event in await rows.store.events(0, 100, task_id(1))]
    assert kinds[-3:] == [EventKind.TASK_WAITING, EventKind.TASK_APPROVED, EventKind.TASK_COMPLETED]
    assert (await rows.store.counts())[WAITING] == 0


async def test_what_is_rejected_has_failed_with_the_reason(rows: Rows) -> None:
    await rows.add(new_task(1))
    await held(rows, 1)
    await rows.store.commit(review(rows, 1, REJECTED, "no"))

    row, (attempt,) = await rows.store.task(task_id(1)), await rows.store.attempts(task_id(1))
    assert row is not None
    assert (row.state, row.reason) == (TaskState.FAILED, "no")
    assert (attempt.state, attempt.accepted, attempt.failure) == (AttemptState.FAILED, False, FailureClass.VERIFY)


async def test_what_is_sent_back_goes_on_with_the_reason_from_what_was_left(rows: Rows) -> None:
    await rows.add(new_task(1))
    await held(rows, 1)
    done: Finished = await rows.store.commit(review(rows, 1, AGAIN, "put the test back"))
    row = await rows.store.task(task_id(1))
    assert row is not None
    assert done.again is not None
    assert done.again.class_text == row.class_text
    assert requirements_of(row.class_text).returned
    assert (row.state, row.agent, row.verified) == (TaskState.QUEUED, None, None)
    claimed = await rows.store.commit(replace(rows.claim_change(1), carries=True))

    assert claimed.epoch == 2
    assert claimed.carry.attempt.epoch == 1
    assert [(found.type, found.detail) for found in claimed.carry.findings] == [("review", "put the test back")]


async def test_a_report_about_other_checks_than_the_frozen_ones_does_not_count(rows: Rows) -> None:
    await rows.add(new_task(1, checks="aa11"), new_task(2, checks="aa11"), new_task(3, checks="aa11"), new_task(4))
    for number, checks in ((1, "bb22"), (2, "aa11"), (3, ""), (4, "bb22")):
        epoch = (await rows.claim(number)).epoch
        finished = await rows.finish(number, epoch, verified=True, checks=checks)
        assert finished.next in {None, await rows.state(number)}

    assert await rows.states([1, 2, 3, 4]) == [TaskState.QUEUED, *[TaskState.COMPLETED] * 3]
    row, (attempt,) = await rows.store.task(task_id(1)), await rows.store.attempts(task_id(1))
    assert row is not None
    assert (row.verified, row.infra_failures) == (None, 1)
    assert (attempt.accepted, attempt.failure) == (False, FailureClass.INFRA)
    assert attempt.reason == "its agent ran other checks (bb22) than those of the task (aa11)"
    assert requirements_of(row.class_text).avoid == ("agent:a",)
    assert await rows.store.frozen_checks(task_id(1)) == "aa11"


async def test_an_agent_that_can_name_the_checks_it_ran_is_not_believed_without(rows: Rows) -> None:
    await rows.add(new_task(1, checks="aa11"), new_task(2, checks="aa11"), new_task(3), new_task(4, checks="aa11"))
    for number, checks, verified in ((1, "", True), (2, "aa11", True), (3, "", True), (4, "", None)):
        epoch = (await rows.claim(number)).epoch
        await rows.finish(number, epoch, verified=verified, checks=checks, names_checks=True)

    assert await rows.states([1, 2, 3, 4]) == [TaskState.QUEUED, *[TaskState.COMPLETED] * 3]
    (attempt,) = await rows.store.attempts(task_id(1))
    assert (attempt.accepted, attempt.failure) == (False, FailureClass.INFRA)
    assert attempt.reason == "its agent does not say whether the checks that it ran are those of the task (aa11)"


async def test_a_result_about_other_checks_is_no_ones_result_also_if_the_task_ends_with_it(rows: Rows) -> None:
    await rows.add(new_task(1, checks="aa11"))
    first = (await rows.claim(1)).epoch
    await rows.finish(1, first, TaskState.QUEUED, failure=FailureClass.INFRA, infra_failures=MAX_INFRA_FAILURES - 1)
    second = (await rows.claim(1)).epoch
    finished = await rows.finish(1, second, verified=True, checks="bb22")

    attempt = (await rows.store.attempts(task_id(1)))[-1]
    assert (finished.refused, finished.next, await rows.state(1)) == (True, TaskState.DEAD, TaskState.DEAD)
    assert (attempt.accepted, attempt.result is not None) == (False, True)


async def test_only_what_waits_can_be_reviewed_and_only_the_attempt_that_was_looked_at(rows: Rows) -> None:
    await rows.add(new_task(1), new_task(2))
    await held(rows, 2)

    with pytest.raises(IllegalTransition):
        await rows.store.commit(review(rows, 1, APPROVED))
    with pytest.raises(NotFound):
        await rows.store.commit(review(rows, 9, APPROVED))
    with pytest.raises(Conflict, match="attempt 7 of task"):
        await rows.store.commit(review(rows, 2, APPROVED, epoch=7))
    assert await rows.state(2) is WAITING
    assert await rows.store.reviews(task_id(2)) == []
