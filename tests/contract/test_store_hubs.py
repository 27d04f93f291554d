"""The promises of a store to several hubs: an attempt in hand has one hub that answers for it, whoever comes and goes.

A lease of no length is over as soon as it is given: so nothing here waits for time.
"""

import asyncio
from typing import Any

import pytest

from hub.store.changes import Advance, AppendLog, Cancel, Expire, Promote, Promoted, Ready, Unwilling
from hub.store.hub_changes import (
    EnterHub,
    LeaveAgent,
    LeaveHub,
    MarkAgent,
    ReadHeld,
    RenewHub,
    Standing,
    WaitingTask,
)
from hub.store.refusals import Evicted, LostAttempt, NameTaken, NodeInUse, NotLeader, Overtaken
from protocol.errors import NotFound, StaleAttempt, StaleTask
from protocol.events import Event, EventKind
from protocol.model import AttemptState, FailureClass, TaskState
from tests.support.stores import CLASS, Rows, new_task, task_id

Q, A, R = TaskState.QUEUED, TaskState.ASSIGNED, TaskState.RUNNING
DONE, CANCELLED = TaskState.COMPLETED, TaskState.CANCELLED
HOUR_MS = 3_600_000
LOST: dict[str, Any] = {"attempt": AttemptState.LOST, "failure": FailureClass.INFRA}


async def enter(rows: Rows, boot: int, node: str = "", lease_ms: int = HOUR_MS) -> Standing:
    change = EnterHub(at_ms=rows.tick(), boot=boot, node=node or f"n{boot}", version="1", lease_ms=lease_ms)
    standing: Standing = await rows.store.commit(change)
    return standing


async def renew(rows: Rows, boot: int, lease_ms: int = HOUR_MS, *, may_bury: bool = True) -> Standing:
    change = RenewHub(at_ms=rows.tick(), boot=boot, url=f"http://h{boot}", lease_ms=lease_ms, may_bury=may_bury)
    standing: Standing = await rows.store.commit(change)
    return standing


async def hubs_of(rows: Rows, *numbers: int) -> list[int | None]:
    found = [await rows.store.task(task_id(number)) for number in numbers]
    return [row.hub for row in found if row is not None]


async def running(rows: Rows, number: int = 1, hub: int = 1) -> None:
    """A task that runs at agent ``a``, which is at ``hub``."""
    await rows.add(new_task(number))
    await rows.claim(number, hub=hub)
    await rows.accept(number, 1, hub=hub)


# --- whose an attempt is ----------------------------------------------------------------------------------------------


async def test_only_the_hub_that_answers_for_an_attempt_moves_it_on(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.claim(1, hub=1)
    at_ms, task = rows.tick(), task_id(1)
    with pytest.raises(LostAttempt, match="is in the hands of hub 1 now"):
        await rows.accept(1, 1, hub=2)
    await rows.accept(1, 1, hub=1)
    before = await rows.kinds(), await rows.store.task(task)
    for change in (
        Advance(at_ms=at_ms, task=task, epoch=1, state=AttemptState.VERIFYING, iteration=1, hub=2),
        AppendLog(at_ms=at_ms, task=task, epoch=1, offset=0, stream="stdout", text="x", hub=2),
        rows.finish_change(1, 1, hub=2),
        rows.finish_change(1, 1, Q, hub=2, **LOST),
    ):
        with pytest.raises(LostAttempt):
            await rows.store.commit(change)

    assert (await rows.kinds(), await rows.store.task(task)) == before
    assert await rows.store.logs(task, 0, 9) == []
    await rows.finish(1, 1, hub=1)
    assert await hubs_of(rows, 1) == [None]


async def test_an_attempt_that_does_not_count_is_stale_at_every_hub(rows: Rows) -> None:
    await running(rows)
    await rows.finish(1, 1, Q, hub=1, **LOST)
    await rows.claim(1, "b", hub=2)

    for hub in (1, 2):
        with pytest.raises(StaleAttempt) as caught:
            await rows.finish(1, 1, hub=hub)
        assert not isinstance(caught.value, LostAttempt)


async def test_an_agent_takes_what_it_has_in_hand_along_to_the_hub_that_welcomes_it(rows: Rows) -> None:
    await rows.add(*(new_task(number) for number in range(1, 5)))
    await rows.join(hub=1)
    for number in (1, 2, 3):
        await rows.claim(number, hub=1)
    await rows.accept(2, 1, hub=1)
    await rows.claim(4, "b", hub=1)
    await rows.finish(3, 1, hub=1)
    joined = await rows.join(hub=2)

    assert [(held.task.id, held.task.hub, held.attempt.state.value) for held in joined.held] == [
        (task_id(1), 1, "assigned"),
        (task_id(2), 1, "accepted"),
    ]
    assert await hubs_of(rows, 1, 2, 3, 4) == [2, 2, None, 1]
    assert (await rows.join(hub=2)).held == ()


async def test_what_the_old_hub_ends_after_the_agent_has_moved_does_not_count(
    rows: Rows,
) -> None:
    await running(rows)
    await rows.join(hub=2)
    for late in (rows.finish_change(1, 1, hub=1), rows.finish_change(1, 1, Q, hub=1, **LOST)):
        with pytest.raises(LostAttempt):
            await rows.store.commit(late)
    await rows.finish(1, 1, hub=2)

    (attempt,) = await rows.store.attempts(task_id(1))
    assert (attempt.accepted, await rows.state(1)) == (True, DONE)


@pytest.mark.parametrize("first", ["finish", "join"])
async def test_a_report_and_a_move_in_one_batch_count_in_their_order(rows: Rows, first: str) -> None:
    await running(rows)
    finish, join = rows.finish_change(1, 1, hub=1), rows.join_change(hub=2)
    steps = [finish, join] if first == "finish" else [join, finish]
    outcomes = await asyncio.gather(*(rows.store.commit(step) for step in steps), return_exceptions=True)

    ended, joined = outcomes if first == "finish" else reversed(outcomes)
    assert (type(ended).__name__, len(joined.held)) == (("Finished", 0) if first == "finish" else ("LostAttempt", 1))
    assert await rows.state(1) is (DONE if first == "finish" else R)


@pytest.mark.parametrize("first", ["lease", "join"])
async def test_a_lease_that_ends_at_the_old_hub_and_a_move_settle_it_once(rows: Rows, first: str) -> None:
    await running(rows)
    over, join = rows.finish_change(1, 1, Q, hub=1, **LOST), rows.join_change(hub=2)
    steps = [over, join] if first == "lease" else [join, over]
    await asyncio.gather(*(rows.store.commit(step) for step in steps), return_exceptions=True)
    if first == "lease":
        assert (await rows.claim(1, hub=2)).epoch == 2
        with pytest.raises(StaleAttempt):
            await rows.finish(1, 1, hub=2)
    else:
        await rows.finish(1, 1, hub=2)

    assert sum(attempt.ended_ms is None for attempt in await rows.store.attempts(task_id(1))) == (first == "lease")


async def test_nothing_is_given_to_an_agent_by_a_hub_that_it_has_left(rows: Rows) -> None:
    await rows.add(new_task(1), new_task(2))
    await rows.join(boot=1, hub=1)
    await rows.join(boot=1, hub=2)
    refused = Unwilling(
        ready=Ready(class_text=CLASS, place=(2, task_id(1))), draining=False, leaving=False, elsewhere=True
    )
    assert await rows.claim(1, boot=1, hub=1) == refused
    await rows.join(boot=2, hub=2)
    assert await rows.claim(1, boot=1, hub=2) == refused
    with pytest.raises(StaleTask):
        await rows.claim(9, boot=1, hub=1)

    assert await rows.states([1, 2]) == [Q, Q]
    assert (await rows.claim(1, boot=2, hub=2)).epoch == 1


async def test_an_agent_that_goes_to_and_fro_is_where_it_was_welcomed_last(rows: Rows) -> None:
    await running(rows)
    seats = []
    for hub in (1, 2, 1, 2, 2):
        seats.append((await rows.join(hub=hub)).seat)
        assert await hubs_of(rows, 1) == [hub]

    assert seats == [1, 2, 3, 4, 5]
    facts = [event.facts["seat"] for event in await rows.store.events(0, 99) if event.kind is EventKind.AGENT_JOINED]
    assert facts == seats


async def test_a_hello_that_was_overtaken_changes_nothing(rows: Rows) -> None:
    await running(rows)
    assert (await rows.join(hub=1, dial=3)).seat == 1
    assert (await rows.join(hub=2, dial=5)).seat == 2
    for dial in (3, 4, 5):
        with pytest.raises(Overtaken, match=f"connection {dial} of sidecar 'a' was overtaken by connection 5"):
            await rows.join(hub=1, dial=dial)
    assert await hubs_of(rows, 1) == [2]

    with pytest.raises(Evicted, match=r"boot 1 is older than boot 2"):
        await asyncio.gather(rows.join(boot=2, hub=1, dial=1), rows.join(boot=1, hub=2, dial=9))
    assert await hubs_of(rows, 1) == [1]


async def test_another_state_directory_does_not_take_the_name_of_a_sidecar_at_another_hub(
    rows: Rows,
) -> None:
    await enter(rows, 1)
    await enter(rows, 2)
    await rows.join(boot=5, hub=1, instance="one")
    with pytest.raises(NameTaken, match="another sidecar named 'a' is at work on h; use another --name"):
        await rows.join(boot=1, hub=2, instance="two")
    assert (await rows.join(boot=5, hub=2)).seat == 2
    await rows.store.commit(LeaveHub(at_ms=rows.tick(), boot=2))

    assert (await rows.join(boot=1, hub=1, instance="two")).seat == 3


async def test_two_hubs_that_want_one_task_get_it_once(rows: Rows) -> None:
    await rows.add(new_task(1))
    await asyncio.gather(rows.join("a", hub=1), rows.join("b", hub=2))
    one, other = await asyncio.gather(rows.claim(1, "a", hub=1), rows.claim(1, "b", hub=2), return_exceptions=True)

    assert (type(one).__name__, type(other).__name__) == ("Claimed", "StaleTask")


async def test_any_hub_may_cancel_or_expire_what_another_one_holds(rows: Rows) -> None:
    await rows.add(new_task(1), new_task(2, complete_by_ms=9_000))
    for number in (1, 2):
        await rows.claim(number, hub=1)
    ended = await rows.store.commit(Cancel(at_ms=rows.tick(), task=task_id(1), reason="", by="me"))
    await rows.store.commit(Expire(at_ms=9_001))

    assert (ended.epoch, ended.agent) == (1, "a")
    assert await hubs_of(rows, 1, 2) == [None, None]
    with pytest.raises(StaleAttempt) as caught:
        await rows.finish(1, 1, hub=1)
    assert not isinstance(caught.value, LostAttempt)
    assert (await rows.join(hub=2)).held == ()


# --- hubs that come and go --------------------------------------------------------------------------------------------


async def test_the_first_hub_leads_and_the_others_know_one_another(rows: Rows) -> None:
    first, second = await enter(rows, 1), await enter(rows, 2)
    again = await renew(rows, 1)

    assert (first.leader, second.leader, again.leader) == (1, None, 1)
    assert [(hub.boot, hub.url) for hub in again.hubs] == [(1, "http://h1"), (2, "")]
    assert (again.is_known, again.buried, again.held) == (True, (), ())


async def test_a_leader_gives_up_hubs_whose_leases_are_over_and_takes_what_they_held(rows: Rows) -> None:
    await enter(rows, 1)
    await enter(rows, 2, lease_ms=0)
    await running(rows, 1, hub=2)
    await running(rows, 2, hub=1)
    assert (await renew(rows, 1, may_bury=False)).buried == ()
    standing = await renew(rows, 1)

    assert (standing.buried, standing.taken, [hub.boot for hub in standing.hubs]) == ((2,), {task_id(1)}, [1])
    assert [(held.task.id, held.task.hub) for held in standing.held] == [(task_id(1), 1), (task_id(2), 1)]
    (told,) = [event for event in await rows.store.events(0, 99) if event.kind is EventKind.HUB_LOST]
    assert told.facts == {"hub": 2, "by": 1}
    with pytest.raises(LostAttempt):
        await rows.finish(1, 1, hub=2)
    await rows.finish(1, 1, hub=1)


async def test_a_hub_that_was_given_up_hears_it_and_may_begin_again_under_the_same_boot(rows: Rows) -> None:
    await enter(rows, 1)
    await enter(rows, 2, lease_ms=0)
    await running(rows, 1, hub=2)
    await renew(rows, 1)
    assert await renew(rows, 2) == Standing(is_known=False)
    back = await enter(rows, 2)

    assert (back.is_known, back.leader, [hub.boot for hub in back.hubs]) == (True, None, [1, 2])
    assert [(held.task.id, held.task.hub) for held in back.held] == [(task_id(1), 1)]
    await rows.join(hub=2)
    await rows.finish(1, 1, hub=2)


async def test_what_a_given_up_hub_still_claims_is_taken_by_the_leader_and_never_lost(rows: Rows) -> None:
    await enter(rows, 1)
    await enter(rows, 2, lease_ms=0)
    await renew(rows, 1)
    await running(rows, 1, hub=2)
    standing = await renew(rows, 1)

    assert [(held.task.id, held.task.hub) for held in standing.held] == [(task_id(1), 1)]


async def test_a_lease_that_is_over_while_nobody_looked_goes_on(rows: Rows) -> None:
    await enter(rows, 1, lease_ms=0)
    await running(rows, 1, hub=1)
    standing = await renew(rows, 1)

    assert (standing.is_known, standing.leader) == (True, 1)
    await rows.finish(1, 1, hub=1)


async def test_another_hub_leads_when_the_leader_is_silent_and_the_old_one_cannot_act(rows: Rows) -> None:
    await enter(rows, 1, lease_ms=0)
    await enter(rows, 2)
    assert (await renew(rows, 2)).leader == 2
    await enter(rows, 1)
    await rows.add(new_task(1, ready_ms=5_000), new_task(2, expires_ms=5_000))
    for change in (Promote(at_ms=9_000, leader=1), Expire(at_ms=9_000, leader=1)):
        with pytest.raises(NotLeader, match="leader epoch 1 is over, the current one is 2"):
            await rows.store.commit(change)
    assert await rows.states([1, 2]) == [Q, Q]
    promoted: Promoted = await rows.store.commit(Promote(at_ms=9_000, leader=2))
    await rows.store.commit(Expire(at_ms=9_000, leader=2))

    assert [ready.place[1] for ready in promoted.ready] == [task_id(1)]
    assert await rows.kinds(1) == ["task_queued", "task_ready"]
    assert await rows.state(2) is TaskState.FAILED


async def test_a_change_of_leader_and_a_promotion_in_one_batch_count_in_their_order(rows: Rows) -> None:
    await enter(rows, 1, lease_ms=0)
    await enter(rows, 2)
    await rows.add(new_task(1, ready_ms=5_000))
    lead = RenewHub(at_ms=rows.tick(), boot=2, url="", lease_ms=HOUR_MS)
    promote = Promote(at_ms=9_000, leader=1)
    # The second hub took the lead when it entered: the first one's epoch was over before this batch began.
    outcomes = await asyncio.gather(rows.store.commit(lead), rows.store.commit(promote), return_exceptions=True)

    assert [type(outcome).__name__ for outcome in outcomes] == ["Standing", "NotLeader"]


async def test_a_node_that_starts_again_has_at_once_what_it_held(rows: Rows) -> None:
    await enter(rows, 1, "n")
    await enter(rows, 2, "m")
    await running(rows, 1, hub=1)
    await running(rows, 2, hub=2)
    again = await enter(rows, 3, "n")

    assert (again.leader, again.buried, [hub.boot for hub in again.hubs]) == (2, (1,), [2, 3])
    assert {held.task.id: held.task.hub for held in again.held} == {task_id(1): 3, task_id(2): 2}
    assert not (await renew(rows, 1)).is_known


async def test_entering_twice_is_entering_once(rows: Rows) -> None:
    await enter(rows, 1, "n")
    await running(rows, 1, hub=1)
    again = await enter(rows, 1, "n")

    assert (again.leader, again.buried, len(again.hubs)) == (1, (), 1)
    assert [(held.task.id, held.task.hub) for held in again.held] == [(task_id(1), 1)]
    await rows.finish(1, 1, hub=1)


async def test_a_copy_of_a_data_directory_is_found_out(rows: Rows) -> None:
    await enter(rows, 1, "n")
    await enter(rows, 2, "n")
    assert not (await renew(rows, 1)).is_known

    with pytest.raises(NodeInUse, match="hub 2 runs with a copy of this hub's data directory"):
        await enter(rows, 1, "n")


async def test_a_hub_that_leaves_gives_up_the_lead_and_what_it_held(rows: Rows) -> None:
    await enter(rows, 1)
    await enter(rows, 2)
    await running(rows, 1, hub=1)
    await rows.store.commit(LeaveHub(at_ms=rows.tick(), boot=1))
    standing = await renew(rows, 2)

    assert (standing.leader, standing.buried) == (2, (1,))
    assert [(held.task.id, held.task.hub) for held in standing.held] == [(task_id(1), 2)]
    assert "hub_stopped" in await rows.kinds()
    assert "hub_lost" not in await rows.kinds()


async def test_what_belongs_to_no_known_hub_goes_to_the_one_that_enters(rows: Rows) -> None:
    await running(rows, 1, hub=77)
    entered = await enter(rows, 1)

    assert [(held.task.id, held.task.hub, held.attempt.epoch) for held in entered.held] == [(task_id(1), 1, 1)]
    assert await rows.store.commit(ReadHeld(at_ms=rows.tick())) == entered.held


# --- agents and the queue, as other hubs see them ---------------------------------------------------------------------


async def test_a_person_may_drain_an_agent_at_any_hub_and_it_stays_drained(rows: Rows) -> None:
    def drain(agent: str, *, draining: bool) -> MarkAgent:
        event = Event(kind=EventKind.AGENT_DRAINING, at_ms=rows.tick(), agent=agent)
        return MarkAgent(agent, event, draining=draining)

    assert not (await rows.join(hub=1)).draining
    await rows.store.commit(drain("a", draining=True))
    assert (await rows.join(hub=2)).draining
    assert (await rows.join(boot=2, hub=1)).draining
    await rows.store.commit(drain("a", draining=False))

    assert not (await rows.join(boot=2, hub=2)).draining
    with pytest.raises(NotFound):
        await rows.store.commit(drain("nobody", draining=True))


async def test_that_an_agent_has_gone_is_told_only_by_the_hub_it_was_at(rows: Rows) -> None:
    def leave(hub: int, seat: int) -> LeaveAgent:
        event = Event(kind=EventKind.AGENT_LOST, at_ms=rows.tick(), agent="a")
        return LeaveAgent(at_ms=event.at_ms, name="a", seat=seat, hub=hub, event=event)

    await rows.join(hub=1)
    await rows.join(hub=2)
    told = [await rows.store.commit(leave(hub, seat)) for hub, seat in ((1, 1), (2, 1), (2, 2), (2, 2))]

    assert told == [False, False, True, False]
    assert (await rows.kinds()).count("agent_lost") == 1
    assert (await rows.join(hub=2)).seat == 3


async def test_of_these_tasks_those_that_wait_are_known(rows: Rows) -> None:
    await rows.add(new_task(1), new_task(2, ready_ms=7_000, expires_ms=8_000), new_task(3, complete_by_ms=6_000))
    await rows.add(new_task(4, depends_on=(task_id(1),)), new_task(5), new_task(6))
    await rows.claim(5)
    asked = [task_id(number) for number in (1, 2, 3, 4, 5, 9)]

    assert await rows.store.waiting_tasks(asked) == [
        WaitingTask(task=task_id(1), class_text=CLASS, priority=2, is_ready=True, wake_ms=None),
        WaitingTask(task=task_id(2), class_text=CLASS, priority=2, is_ready=False, wake_ms=7_000),
        WaitingTask(task=task_id(3), class_text=CLASS, priority=2, is_ready=True, wake_ms=6_000),
        WaitingTask(task=task_id(4), class_text=CLASS, priority=2, is_ready=False, wake_ms=None),
    ]
