"""The promises of a store about tasks that people hold up: nothing begins that is held up, and nothing is forgotten."""

import pytest
from msgspec.structs import replace

from hub.core.ladder import Ladder
from hub.core.routing import DEFAULT_CHAINS, route
from hub.store.changes import Finished, Retry
from hub.store.hold_changes import EndHold, HeldUp, LetGo, NoTurns, PutHold
from hub.store.keeping_changes import Restore, Restored
from hub.store.review_changes import APPROVED, REJECTED, Review
from protocol import codec
from protocol.errors import Conflict, IllegalTransition, NotFound, StaleTask
from protocol.events import EventKind
from protocol.model import AttemptState, FailureClass, TaskSpec, TaskState
from protocol.progress import HoldKind
from tests.contract.test_store_climbing import LADDER, RESULT, begun, claim
from tests.support.stores import Rows, new_task, task_id

WAITING, QUEUED = TaskState.WAITING, TaskState.QUEUED


async def hold(rows: Rows, kind: HoldKind = HoldKind.PAUSE, reason: str = "lunch") -> HeldUp:
    held_up: HeldUp = await rows.store.commit(PutHold(at_ms=10, task=task_id(1), kind=kind, by="me", reason=reason))
    return held_up


async def let_go(rows: Rows, note: str = "") -> LetGo:
    done: LetGo = await rows.store.commit(EndHold(at_ms=20, task=task_id(1), by="me", note=note))
    return done


async def state(rows: Rows) -> TaskState:
    row = await rows.store.task(task_id(1))
    assert row is not None
    return row.state


async def test_a_queued_task_waits_at_once_and_goes_back_to_its_place(rows: Rows) -> None:
    await begun(rows)
    first, again = await hold(rows), await hold(rows)

    assert (first.was, again.was, await state(rows)) == (QUEUED, WAITING, WAITING)
    with pytest.raises(StaleTask):
        await claim(rows, "small")
    done = await let_go(rows, note="go on")
    assert (done.was, done.is_news, done.is_ready, await state(rows)) == (WAITING, True, True, QUEUED)
    kept = await rows.store.hold(task_id(1))
    assert kept is not None
    assert (kept.note, kept.ended_ms, kept.kind) == ("go on", 20, HoldKind.PAUSE)
    assert not (await let_go(rows)).is_news
    kinds = [event.kind for event in rows.committed]
    assert kinds[-2:] == [EventKind.TASK_PAUSED, EventKind.TASK_RESUMED]


@pytest.mark.parametrize("failure", [FailureClass.INFRA, FailureClass.CANCELLED])
async def test_a_task_in_hand_waits_as_soon_as_its_attempt_has_ended(rows: Rows, failure: FailureClass) -> None:
    await begun(rows)
    claimed = await claim(rows, "small")
    was = (await hold(rows)).was
    open_then = [row.task for row in await rows.store.open_holds([task_id(1), task_id(2)])]
    ended: Finished = await rows.finish(1, claimed.epoch, QUEUED, attempt=AttemptState.CANCELLED, failure=failure)

    assert (was, open_then) == (TaskState.RUNNING, [task_id(1)])
    assert (ended.again, ended.next, await state(rows)) == (None, WAITING, WAITING)
    assert await rows.store.open_holds([task_id(2)]) == ()
    assert (await let_go(rows)).is_ready
    assert await rows.store.open_holds([task_id(1)]) == ()
    assert (await claim(rows, "small")).epoch == 2


async def test_a_wish_that_was_taken_back_holds_nothing_up(rows: Rows) -> None:
    await begun(rows)
    claimed = await claim(rows, "small")
    await hold(rows)
    done = await let_go(rows)
    ended = await rows.finish(1, claimed.epoch, QUEUED, attempt=AttemptState.CANCELLED)

    assert (done.was, done.is_news, done.is_ready) == (TaskState.RUNNING, True, False)
    assert ended.again is not None
    assert await state(rows) is QUEUED


async def test_work_that_passes_before_it_stops_is_done(rows: Rows) -> None:
    await begun(rows)
    claimed = await claim(rows, "small")
    await hold(rows, HoldKind.TAKE)
    await rows.finish(1, claimed.epoch, TaskState.COMPLETED, attempt=AttemptState.PASSED)

    assert await state(rows) is TaskState.COMPLETED
    with pytest.raises(IllegalTransition):
        await hold(rows)
    with pytest.raises(IllegalTransition):
        await let_go(rows)


@pytest.mark.parametrize("verdict, then", [(APPROVED, TaskState.COMPLETED), (REJECTED, TaskState.FAILED)])
async def test_work_that_waits_for_a_decision_is_held_up_no_more(rows: Rows, verdict: str, then: TaskState) -> None:
    await begun(rows)
    claimed = await claim(rows, "small")
    await hold(rows)
    values = {"attempt": AttemptState.PASSED, "verified": False, "failure": None}
    await rows.finish(1, claimed.epoch, WAITING, result=codec.encode_result(RESULT), **values)

    with pytest.raises(Conflict, match="waits for a person to decide"):
        await let_go(rows)
    assert await state(rows) is WAITING
    await rows.store.commit(Review(at_ms=30, task=task_id(1), verdict=verdict, by="me"))
    assert await state(rows) is then


async def test_a_dead_task_that_is_put_back_is_held_up_only_by_a_new_wish(rows: Rows) -> None:
    await begun(rows)
    claimed = await claim(rows, "small")
    await hold(rows)
    await rows.finish(1, claimed.epoch, TaskState.DEAD, failure=FailureClass.INFRA)
    await rows.store.commit(Retry(at_ms=30, task=task_id(1), by="me"))

    assert await rows.store.open_holds([task_id(1)]) == ()
    assert ((await hold(rows)).was, await state(rows)) == (QUEUED, WAITING)
    assert (await let_go(rows)).is_ready
    again = await claim(rows, "small")
    ended = await rows.finish(1, again.epoch, QUEUED, attempt=AttemptState.LOST, failure=FailureClass.INFRA)
    assert ended.again is not None


async def test_a_task_that_was_to_stop_waits_after_a_restore(bare: Rows) -> None:
    await begun(bare)
    await claim(bare, "small")
    await hold(bare)
    await bare.add(new_task(2))
    await bare.claim(2)
    done: Restored = await bare.store.commit(Restore(at_ms=bare.tick(), copied_ms=7))

    assert (done.requeued, await bare.states([1, 2])) == (1, [WAITING, QUEUED])
    row = await bare.store.task(task_id(1))
    assert row is not None
    assert row.reason == "paused by me: lunch"
    assert {state: n for state, n in (await bare.store.counts()).items() if n} == {WAITING: 1, QUEUED: 1}
    assert (await let_go(bare)).is_ready


async def test_a_task_that_climbs_while_it_is_held_up_waits_on_its_new_rung(rows: Rows) -> None:
    await begun(rows)
    claimed = await claim(rows, "small")
    await hold(rows)
    ladder: Ladder = LADDER
    values = {"failure": FailureClass.VERIFY, "result": codec.encode_result(RESULT), "reason": "checks"}
    ended = await rows.finish(1, claimed.epoch, TaskState.FAILED, attempt=AttemptState.FAILED, ladder=ladder, **values)
    done = await let_go(rows)

    assert ladder.chains == DEFAULT_CHAINS
    assert ended.step is not None
    assert ended.next is WAITING
    assert '"effort":"high"' in done.class_text


async def test_a_command_in_hand_cannot_be_held_up(rows: Rows) -> None:
    tier, requirements = route(TaskSpec(command="true"))
    await rows.add(replace(new_task(1), class_text=requirements.text, tier=codec.encode_tier(tier)))
    await rows.claim(1)

    with pytest.raises(NoTurns, match="cannot stop and go on later"):
        await hold(rows)
    assert await rows.store.hold(task_id(1)) is None


async def test_a_task_that_is_not_there_is_an_error_and_a_taken_one_may_be_paused(rows: Rows) -> None:
    with pytest.raises(NotFound):
        await hold(rows)
    with pytest.raises(NotFound):
        await let_go(rows)
    await begun(rows)
    await hold(rows, HoldKind.TAKE, reason="")
    await hold(rows, HoldKind.PAUSE)
    kept = await rows.store.hold(task_id(1))
    assert kept is not None
    assert (kept.kind, kept.reason) == (HoldKind.PAUSE, "lunch")
    assert issubclass(NoTurns, Conflict)
