"""What no claim may do, whoever makes it: feed a killer another agent, or give work to one that takes none."""

from typing import Any

import pytest

from hub.core.routing import class_after
from hub.store.changes import Buried, Claim, Claimed, Exonerate, Finished, Ready, Retry, Unwilling
from hub.store.hub_changes import PutAgent
from protocol.errors import StaleTask
from protocol.limits import ALONE_FROM_DEATHS, MAX_DEATHS
from protocol.model import AttemptState, FailureClass, TaskState
from tests.support.stores import CLASS, PLACEMENT, Rows, new_task, task_id

Q, DEAD = TaskState.QUEUED, TaskState.DEAD
LOST: dict[str, Any] = {"attempt": AttemptState.LOST, "failure": FailureClass.INFRA, "result": None}
ALONE = class_after(CLASS, ALONE_FROM_DEATHS)


async def claim(rows: Rows, number: int, agent: str = "a", boot: int = 1) -> Claimed | Buried | Unwilling:
    change = Claim(at_ms=rows.tick(), task=task_id(number), agent=agent, host="h", boot=boot, placement=PLACEMENT)
    outcome: Claimed | Buried | Unwilling = await rows.store.commit(change)
    return outcome


async def die(rows: Rows, number: int, times: int) -> list[Finished]:
    """So many agents die while they run the task."""
    ends = []
    for boot in range(1, times + 1):
        claimed = await claim(rows, number, boot=boot)
        assert isinstance(claimed, Claimed)
        ends.append(await rows.finish(number, claimed.epoch, Q, orderly=False, **LOST))
    return ends


async def test_a_task_with_which_agents_die_is_a_dead_letter_with_the_evidence(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.add(new_task(2, depends_on=(task_id(1),)))
    await die(rows, 1, MAX_DEATHS)
    buried = await claim(rows, 1, boot=9)

    assert isinstance(buried, Buried)
    assert [(d.epoch, d.agent, d.host, d.boot) for d in buried.deaths] == [(n, "a", "h", n) for n in (1, 2, 3)]
    assert await rows.states([1, 2]) == [DEAD, TaskState.FAILED]
    row = await rows.store.task(task_id(1))
    assert row is not None
    assert row.reason == buried.reason
    assert row.epoch == MAX_DEATHS  # nobody was given a fourth attempt
    assert [a.suspect for a in await rows.store.attempts(task_id(1))] == [True] * MAX_DEATHS
    (dead,) = [e for e in await rows.store.events(0, 100, task_id(1)) if e.kind == "task_dead"]
    assert dead.facts["deaths"][2] == {"epoch": 3, "agent": "a", "host": "h", "boot": 3}
    assert "3 sidecars died while they ran it" in dead.facts["reason"]


async def test_a_claim_is_a_suspicion_before_anything_else_is_known(rows: Rows) -> None:
    # The hub may crash at once: what is not written down with the claim is never counted.
    await rows.add(new_task(1))
    await claim(rows, 1)

    assert [a.suspect for a in await rows.store.attempts(task_id(1))] == [True]


@pytest.mark.parametrize("how", [TaskState.COMPLETED, Q, DEAD])
async def test_an_orderly_end_lifts_the_suspicion_whatever_the_work_was_worth(rows: Rows, how: TaskState) -> None:
    await rows.add(new_task(1))
    await claim(rows, 1)
    await rows.finish(1, 1, how)

    assert [a.suspect for a in await rows.store.attempts(task_id(1))] == [False]


async def test_an_agent_that_outlived_the_attempt_takes_the_suspicion_back_and_nobody_else_does(rows: Rows) -> None:
    await rows.add(new_task(1))
    await die(rows, 1, MAX_DEATHS)
    for agent, boot in (("a", 9), ("b", 1), ("a", 2)):
        await rows.store.commit(Exonerate(at_ms=rows.tick(), task=task_id(1), epoch=2, agent=agent, boot=boot))

    assert [a.suspect for a in await rows.store.attempts(task_id(1))] == [True, False, True]
    assert isinstance(await claim(rows, 1), Claimed)


async def test_a_suspect_waits_in_a_class_of_its_own_until_it_is_cleared(rows: Rows) -> None:
    await rows.add(new_task(1))
    ends = await die(rows, 1, ALONE_FROM_DEATHS)
    assert [end.again and end.again.class_text for end in ends] == [CLASS, ALONE]

    epoch = (await rows.claim(1)).epoch
    again = (await rows.finish(1, epoch, Q, retries=1)).again
    assert again is not None
    assert again.class_text == CLASS


async def test_a_task_remembers_where_it_has_failed_until_a_person_wants_it_again(rows: Rows) -> None:
    await rows.add(new_task(1))
    epoch = (await rows.claim(1)).epoch
    again = (await rows.finish(1, epoch, Q, retries=1, avoid="agent:a")).again
    assert again is not None
    assert again.class_text == class_after(CLASS, 0, "agent:a") != CLASS

    epoch = (await rows.claim(1)).epoch
    await rows.finish(1, epoch, DEAD, avoid="agent:b")
    ready: Ready = await rows.store.commit(Retry(at_ms=rows.tick(), task=task_id(1), by="me"))
    assert ready.class_text == CLASS


async def test_a_person_who_wants_it_again_gives_it_all_its_chances(rows: Rows) -> None:
    await rows.add(new_task(1))
    await die(rows, 1, MAX_DEATHS)
    await claim(rows, 1)
    ready: Ready = await rows.store.commit(Retry(at_ms=rows.tick(), task=task_id(1), by="me"))

    assert ready.class_text == CLASS
    assert len(await die(rows, 1, MAX_DEATHS)) == MAX_DEATHS


@pytest.mark.parametrize("will", [{"draining": True}, {"draining": False, "leaving": True}], ids=["told to", "leaves"])
async def test_no_claim_gives_work_to_an_agent_that_takes_none(rows: Rows, will: dict[str, bool]) -> None:
    await rows.add(new_task(1))
    agent: dict[str, Any] = {"host": "h", "boot": 1, "slots": 1, "version": "1", "capabilities": ()}
    await rows.store.commit(PutAgent(at_ms=rows.tick(), name="a", **agent, **will))
    refused = await claim(rows, 1)

    assert isinstance(refused, Unwilling)
    assert refused.ready == Ready(class_text=CLASS, place=(2, task_id(1)))
    assert (refused.draining, refused.leaving) == (will["draining"], will.get("leaving", False))
    assert await rows.state(1) is Q
    await rows.store.commit(PutAgent(at_ms=rows.tick(), name="a", draining=False, **agent))
    assert isinstance(await claim(rows, 1), Claimed)


async def test_a_task_that_waits_for_its_time_is_no_ones(rows: Rows) -> None:
    await rows.add(new_task(1, ready_ms=rows.now_ms + 1_000))
    with pytest.raises(StaleTask):
        await claim(rows, 1)
