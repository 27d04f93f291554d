"""The promises of a store about a task that climbs: decided where the attempt ends, and right after any restart."""

from typing import Any, Final

import pytest
from msgspec.structs import replace

from hub.core.ladder import Ladder, Offer
from hub.core.routing import DEFAULT_CHAINS, Placement, encode_placement, requirements_of, route
from hub.store.changes import Claimed, Finished
from protocol import codec
from protocol.checks import CheckGitClean
from protocol.choice import Effort, Escalation, Rung
from protocol.errors import StaleAttempt
from protocol.model import (
    AttemptState,
    FailureClass,
    Finding,
    Iteration,
    Strategy,
    TaskResult,
    TaskSpec,
    TaskState,
    Usage,
)
from tests.support.stores import Rows, new_task, task_id

SMALL, LARGE = (Offer(model=n, strategy=Strategy.LOCAL_LLM, size_bytes=s) for n, s in (("small", 2), ("large", 20)))
LADDER: Final = Ladder(chains=DEFAULT_CHAINS, offers=(SMALL, LARGE))
SPEC: Final = TaskSpec(prompt="do it", executor="agent", verification=(CheckGitClean(),))
FAILED_CHECK: Final = Finding(name="git clean", type="git_clean", passed=False, output="x" * 9_000)
RESULT: Final = TaskResult(
    execution_ok=True,
    verified=False,
    output="the end",
    report=(FAILED_CHECK,),
    iterations=(Iteration(number=1, execution_ok=True, passed=False, summary="tried", findings=(FAILED_CHECK,)),),
    usage=Usage(model="small", cost_usd=0.25),
    branch="b",
    commit="c" * 40,
)


async def begun(rows: Rows, spec: TaskSpec = SPEC) -> None:
    """Task 1, queued."""
    tier, requirements = route(spec)
    task = replace(
        new_task(1), class_text=requirements.text, spec=codec.encode_spec(spec), tier=codec.encode_tier(tier)
    )
    await rows.add(task)


async def claim(rows: Rows, model: str, rung: Rung | None = None) -> Claimed:
    """An attempt of task 1 with this model."""
    placement = Placement(
        strategy=Strategy.LOCAL_LLM, executor="agent", agent="a", reason="", at_ms=1, model=model, rung=rung
    )
    change = replace(rows.claim_change(1), placement=encode_placement(placement), carries=rung is not None)
    claimed: Claimed = await rows.store.commit(change)
    await rows.accept(1, claimed.epoch)
    return claimed


async def fail(rows: Rows, epoch: int, **more: Any) -> Finished:
    """The checks of the attempt still fail."""
    values = {"failure": FailureClass.VERIFY, "result": codec.encode_result(RESULT), "reason": "checks", **more}
    return await rows.finish(1, epoch, TaskState.FAILED, attempt=AttemptState.FAILED, ladder=LADDER, **values)


async def test_a_task_climbs_rung_by_rung_until_there_is_none(rows: Rows) -> None:
    await begun(rows)
    stood: list[Rung | None] = [None]
    for number, model in enumerate(("small", "small", "large", "large"), 1):
        claimed = await claim(rows, model, stood[-1])
        ended = await fail(rows, claimed.epoch)
        if ended.again is None:
            break
        assert ended.next is TaskState.QUEUED
        stood.append(requirements_of(ended.again.class_text).rung)
        assert number < 4

    assert stood[1:] == [
        Rung(number=1, tier="standard", model="small", effort=Effort.HIGH),
        Rung(number=2, tier="standard", model="large"),
        Rung(number=3, tier="standard", model="large", effort=Effort.HIGH),
    ]
    task = await rows.store.task(task_id(1))
    assert task is not None
    assert (task.state, task.reason) == (TaskState.FAILED, "checks; there is no stronger model")
    climbs = [event.facts for event in await rows.store.events(0, 100, task_id(1)) if event.kind == "task_climbed"]
    assert [(facts["model"], facts["effort"]) for facts in climbs] == [
        ("small", "high"),
        ("large", "normal"),
        ("large", "high"),
    ]


async def test_the_report_and_the_commit_of_the_failed_attempt_go_along(rows: Rows) -> None:
    await begun(rows)
    first = await claim(rows, "small")
    rung = (await fail(rows, first.epoch)).step
    assert rung is not None
    second = await claim(rows, "small", rung.rung)

    assert first.carry is None
    assert second.carry is not None
    assert (second.carry.attempt.epoch, second.carry.commit, second.carry.branch) == (1, "c" * 40, "b")
    assert (second.carry.iterations, second.carry.summary, second.carry.output) == (1, "tried", "the end")
    assert second.carry.usage.cost_usd == 0.25
    assert len(second.carry.findings[0].output) == 3_000


async def test_money_is_counted_over_all_attempts(rows: Rows) -> None:
    await begun(rows, replace(SPEC, budget=replace(SPEC.budget, usd=0.5)))
    first = await claim(rows, "small")
    step = (await fail(rows, first.epoch)).step
    assert step is not None
    second = await claim(rows, "small", step.rung)

    assert (await fail(rows, second.epoch)).step is None
    task = await rows.store.task(task_id(1))
    assert task is not None
    assert task.reason == "checks; $0.5000 of $0.5000 are spent"


@pytest.mark.parametrize(
    "spec",
    [replace(SPEC, escalation=Escalation.OFF), TaskSpec(command="false", verification=(CheckGitClean(),))],
    ids=["switched off", "no model"],
)
async def test_what_may_not_climb_fails(rows: Rows, spec: TaskSpec) -> None:
    await begun(rows, spec)
    ended = await fail(rows, (await claim(rows, "small")).epoch)

    assert (ended.again, ended.step) == (None, None)
    assert await rows.state(1) is TaskState.FAILED


async def test_a_late_report_climbs_nothing(rows: Rows) -> None:
    await begun(rows)
    await fail(rows, (await claim(rows, "small")).epoch)

    with pytest.raises(StaleAttempt):
        await fail(rows, 1)
    assert (await rows.kinds(1)).count("task_climbed") == 1
