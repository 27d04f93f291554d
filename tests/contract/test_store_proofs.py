"""The promises of a store about work that another machine has to prove before it counts."""

from typing import Any, Final

import pytest
from msgspec.structs import replace

from hub.core.ladder import Ladder, Offer
from hub.core.proving import MAX_PROOFS, Machine, Rooms, proof_class
from hub.core.routing import DEFAULT_CHAINS, PROOF, Placement, encode_placement, requirements_of, route
from hub.store.changes import Cancel, Claimed, Finished, SkipProof
from hub.store.review_changes import APPROVED, Review
from protocol import codec
from protocol.checks import CheckTestPasses, digest_of
from protocol.choice import CleanRoom
from protocol.errors import StaleAttempt, StaleTask
from protocol.model import (
    AttemptState,
    Context,
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

OFFERS: Final = (
    Offer(model="small", strategy=Strategy.LOCAL_LLM, size_bytes=2),
    Offer(model="large", strategy=Strategy.LOCAL_LLM, size_bytes=20),
)
LADDER: Final = Ladder(chains=DEFAULT_CHAINS, offers=OFFERS)
CHECKS: Final = (CheckTestPasses(command="pytest -q"),)
SPEC: Final = TaskSpec(
    prompt="repair it", executor="agent", verification=CHECKS, context=Context(repo="https://git.example.org/a.git")
)
COMMAND: Final = replace(SPEC, prompt="", executor="shell", command="./repair")
_PROVES: Final = frozenset({f"executor:{PROOF}", "checks:2", "checks:3"})
TWO: Final = Rooms(machines=(Machine("h", _PROVES), Machine("other", _PROVES)))
_PROOF: Final = Placement(strategy=Strategy.TRIVIAL, executor=PROOF, agent="c", reason="", at_ms=1)
ONE: Final = Rooms(machines=(Machine("h", _PROVES),))


def report(*, passed: bool = True, model: str = "small") -> TaskResult:
    """What an attempt tells of its checks."""
    found = Finding(name="tests", type="test_passes", passed=passed, detail="" if passed else "2 failed", output="...")
    return TaskResult(
        execution_ok=True,
        verified=passed,
        report=(found,),
        iterations=(Iteration(number=1, execution_ok=True, passed=passed, findings=(found,)),),
        usage=Usage(model=model, cost_usd=0.25 if model != "none" else 0.0),
        branch="agentcom/a/b",
        commit="c" * 40,
        pushed=True,
        checks=digest_of(CHECKS),
    )


async def done(rows: Rows, spec: TaskSpec = SPEC, rooms: Rooms = TWO, **more: Any) -> Finished:
    """Task 1, whose work has passed its checks on the machine ``h``."""
    tier, requirements = route(spec)
    task = replace(
        new_task(1),
        class_text=requirements.text,
        spec=codec.encode_spec(spec),
        tier=codec.encode_tier(tier),
        checks=digest_of(spec.verification),
    )
    await rows.add(task)
    return await passed(rows, spec, rooms, **more)


async def passed(rows: Rows, spec: TaskSpec = SPEC, rooms: Rooms = TWO, **more: Any) -> Finished:
    """One more attempt at the work of task 1, which passes."""
    model = Strategy.TRIVIAL if spec.command else Strategy.LOCAL_LLM
    placement = Placement(strategy=model, executor=spec.executor, agent="a", reason="", at_ms=1, model="small")
    claimed: Claimed = await rows.store.commit(
        replace(rows.claim_change(1), placement=encode_placement(placement), carries=True)
    )
    await rows.accept(1, claimed.epoch)
    result = codec.encode_result(report())
    values = {"result": result, "verified": True, "checks": digest_of(CHECKS), "rooms": rooms, "offers": True, **more}
    return await rows.finish(1, claimed.epoch, **values)


async def taken(rows: Rows, agent: str = "b") -> Claimed:
    """Somebody on another machine has the proof in hand."""
    placement = Placement(strategy=Strategy.TRIVIAL, executor=PROOF, agent=agent, reason="", at_ms=1)
    change = replace(rows.claim_change(1, agent), host="other", placement=encode_placement(placement))
    claimed: Claimed = await rows.store.commit(change)
    await rows.accept(1, claimed.epoch)
    return claimed


async def proven(rows: Rows, epoch: int, **more: Any) -> Finished:
    """The other machine finds that the checks pass."""
    result = codec.encode_result(report(model="none"))
    return await rows.finish(1, epoch, result=result, verified=True, checks=digest_of(CHECKS), **more)


async def refuted(rows: Rows, epoch: int) -> Finished:
    """The other machine finds that they do not."""
    result = codec.encode_result(report(passed=False, model="none"))
    values = {"result": result, "failure": FailureClass.VERIFY, "verified": False, "checks": digest_of(CHECKS)}
    more = {"reason": "1 of 1 checks still fail", "attempt": AttemptState.FAILED, "ladder": LADDER}
    return await rows.finish(1, epoch, TaskState.FAILED, **values, **more)


async def lost(rows: Rows, epoch: int) -> Finished:
    """The other machine has gone, or cannot tell."""
    values = {"failure": FailureClass.INFRA, "reason": "it is gone", "ready_ms": None, "infra_failures": 1}
    return await rows.finish(1, epoch, TaskState.QUEUED, attempt=AttemptState.LOST, **values)


async def test_work_counts_when_another_machine_has_proven_it_and_not_before(rows: Rows) -> None:
    waiting = await done(rows)
    await rows.add(new_task(2, depends_on=(task_id(1),)))
    row, (work,) = await rows.store.task(task_id(1)), await rows.store.attempts(task_id(1))
    assert row is not None
    assert (waiting.next, row.state, row.agent, row.verified) == (TaskState.QUEUED, TaskState.QUEUED, None, None)
    assert (work.state, work.accepted) == (AttemptState.PASSED, False)
    assert waiting.again is not None
    wanted = requirements_of(waiting.again.class_text)
    assert wanted.proof is not None
    assert (wanted.executor, wanted.proof.host, wanted.proof.must) == (PROOF, "h", False)
    claimed = await taken(rows)
    assert claimed.proof is not None
    assert (claimed.proof.attempt.sidecar, claimed.proof.attempt.epoch) == ("a", 1)
    assert (claimed.proof.branch, claimed.proof.commit) == ("agentcom/a/b", "c" * 40)
    assert await rows.state(2) is TaskState.BLOCKED
    assert await rows.store.pull(task_id(1)) is None  # nothing is offered before it counts
    finished = await proven(rows, claimed.epoch)

    row = await rows.store.task(task_id(1))
    work, proof = await rows.store.attempts(task_id(1))
    assert row is not None
    assert (row.state, row.agent, row.execution_ok, row.verified) == (TaskState.COMPLETED, "a", True, True)
    assert (work.accepted, proof.accepted, proof.state) == (True, False, AttemptState.PASSED)
    assert [ready.place[1] for ready in finished.ready] == [task_id(2)]
    pull = await rows.store.pull(task_id(1))
    assert pull is not None
    assert pull.epoch == work.epoch
    kinds = await rows.kinds(1)
    assert [kind for kind in kinds if kind in {"task_proving", "task_proven", "task_completed"}] == [
        "task_proving",
        "task_proven",
        "task_completed",
    ]
    assert (await rows.store.counts())[TaskState.COMPLETED] == 1


@pytest.mark.parametrize(
    "spec, rooms",
    [
        (SPEC, ONE),
        (SPEC, Rooms()),
        (SPEC, Rooms(machines=(Machine("h", _PROVES), Machine("other", frozenset({f"executor:{PROOF}"}))))),
        (replace(SPEC, clean_room=CleanRoom.NEVER), TWO),
        (SPEC, replace(TWO, default=CleanRoom.NEVER)),
        (replace(SPEC, context=Context(repo="/srv/git/a.git")), TWO),
        (replace(SPEC, context=Context()), TWO),
    ],
    ids=["one machine", "none", "too old", "not wanted", "switched off", "a path of one machine", "no repository"],
)
async def test_work_that_need_not_be_proven_counts_at_once(rows: Rows, spec: TaskSpec, rooms: Rooms) -> None:
    if not spec.context.repo or rooms.machines:
        spec = replace(spec, needs=("checks:2",))
    finished = await done(rows, spec, rooms)

    assert finished.again is None
    assert await rows.state(1) is TaskState.COMPLETED
    (work,) = await rows.store.attempts(task_id(1))
    assert work.accepted


async def test_who_insists_waits_for_another_machine_even_if_there_is_none(rows: Rows) -> None:
    finished = await done(rows, replace(SPEC, clean_room=CleanRoom.ALWAYS, context=Context(repo="/srv/a.git")), Rooms())

    assert finished.again is not None
    proof = requirements_of(finished.again.class_text).proof
    assert proof is not None
    assert proof.must
    with pytest.raises(StaleTask):
        await rows.store.commit(SkipProof(at_ms=rows.tick(), task=task_id(1), reason="nobody is there"))
    assert await rows.state(1) is TaskState.QUEUED


async def test_refuted_work_climbs_with_what_the_other_machine_has_found(rows: Rows) -> None:
    await done(rows)
    finished = await refuted(rows, (await taken(rows)).epoch)
    work, proof = await rows.store.attempts(task_id(1))

    assert finished.step is not None
    assert finished.again is not None
    again = requirements_of(finished.again.class_text)
    assert (again.executor, again.proof, again.model, again.rung) == ("agent", None, "small", finished.step.rung)
    assert (work.state, work.failure, work.accepted) == (AttemptState.FAILED, FailureClass.VERIFY, False)
    assert (proof.failure, proof.accepted) == (FailureClass.VERIFY, False)
    claimed: Claimed = await rows.store.commit(replace(rows.claim_change(1), carries=True))
    assert claimed.proof is None
    assert claimed.carry is not None
    assert (claimed.carry.attempt.sidecar, claimed.carry.attempt.epoch) == ("a", 1)
    assert (claimed.carry.model, claimed.carry.commit) == ("small", "c" * 40)
    (found,) = claimed.carry.findings
    assert (found.passed, found.detail) == (
        False,
        "on another machine, where only what was committed is there: 2 failed",
    )


async def test_a_refuted_command_has_failed_and_says_where(rows: Rows) -> None:
    await done(rows, COMMAND)
    await rows.add(new_task(2, depends_on=(task_id(1),)))
    await refuted(rows, (await taken(rows)).epoch)

    row = await rows.store.task(task_id(1))
    assert row is not None
    assert (row.state, row.agent, row.verified) == (TaskState.FAILED, "a", False)
    assert row.reason.startswith("its checks passed on h, where it was done, and fail on other: 1 of 1 checks")
    assert await rows.state(2) is TaskState.FAILED
    work, proof = await rows.store.attempts(task_id(1))
    assert (work.accepted, proof.accepted) == (False, True)  # what the other machine has found is the result


@pytest.mark.parametrize("must", [False, True])
async def test_a_proof_that_tells_nothing_costs_no_retry_and_ends_some_time(rows: Rows, must: bool) -> None:
    spec = replace(SPEC, clean_room=CleanRoom.ALWAYS) if must else SPEC
    await done(rows, spec)
    for number in range(1, MAX_PROOFS + 1):
        claimed = await taken(rows)
        assert claimed.infra_failures == 0
        finished = await lost(rows, claimed.epoch)
        if number < MAX_PROOFS:
            assert finished.again is not None
            assert requirements_of(finished.again.class_text).avoid == ("agent:b",)

    row, attempts = await rows.store.task(task_id(1)), await rows.store.attempts(task_id(1))
    assert row is not None
    assert row.reason == "no other machine could tell whether its checks pass: it is gone"
    assert [attempt.accepted for attempt in attempts] == [not must, *[False] * MAX_PROOFS]
    if must:
        assert row.state is TaskState.WAITING
        await rows.store.commit(Review(at_ms=rows.tick(), task=task_id(1), verdict=APPROVED, by="me"))
        assert (await rows.store.attempts(task_id(1)))[0].accepted
    assert await rows.state(1) is TaskState.COMPLETED
    pull = await rows.store.pull(task_id(1))
    assert pull is not None
    assert pull.epoch == 1


async def test_work_whose_proof_is_in_doubt_is_offered_when_a_person_approves_it(rows: Rows) -> None:
    await done(rows)
    result = codec.encode_result(report(passed=False, model="none"))
    doubtful = {"result": result, "attempt": AttemptState.PASSED, "failure": None, "verified": False}
    await rows.finish(1, (await taken(rows)).epoch, TaskState.WAITING, checks=digest_of(CHECKS), **doubtful)
    assert not await rows.store.due_pulls(10**15, 10)  # not before it counts
    await rows.store.commit(Review(at_ms=rows.tick(), task=task_id(1), verdict=APPROVED, by="me"))

    (pull,) = await rows.store.due_pulls(10**15, 10)
    assert (pull.task, pull.epoch) == (task_id(1), 1)


@pytest.mark.parametrize("mode", [CleanRoom.AUTO, CleanRoom.ALWAYS])
async def test_a_claim_that_is_older_than_the_class_of_its_task_gives_nothing_away(rows: Rows, mode: CleanRoom) -> None:
    spec = replace(COMMAND, clean_room=CleanRoom.ALWAYS) if mode is CleanRoom.ALWAYS else SPEC
    waiting, as_work = await done(rows, spec), route(spec)[1].text
    assert waiting.again is not None
    claim = replace(rows.claim_change(1, "c"), class_text=as_work)

    assert await rows.store.commit(claim) == waiting.again
    assert await rows.store.commit(replace(claim, own_micro=1)) == waiting.again  # nor does it cost the task anything
    assert len(await rows.store.attempts(task_id(1))) == 1
    as_proof = replace(claim, class_text=waiting.again.class_text, placement=encode_placement(_PROOF))
    claimed = await rows.store.commit(as_proof)
    assert isinstance(claimed, Claimed)
    assert claimed.proof is not None
    if mode is CleanRoom.AUTO:  # and the other way round: work that was refuted is not proven once more
        finished = await refuted(rows, claimed.epoch)
        assert await rows.store.commit(replace(as_proof, at_ms=rows.tick())) == finished.again


@pytest.mark.parametrize("is_lost", [False, True])
async def test_an_attempt_that_did_the_work_once_more_proves_nothing(rows: Rows, is_lost: bool) -> None:
    await done(rows, replace(COMMAND, clean_room=CleanRoom.ALWAYS))
    stray = await rows.claim(1)  # by somebody who does not say what it was taken for
    await rows.accept(1, stray.epoch)
    finished = await (lost if is_lost else proven)(rows, stray.epoch)
    assert finished.again is not None
    assert requirements_of(finished.again.class_text).proof is not None
    claimed = await taken(rows)
    assert claimed.proof is not None
    assert claimed.proof.attempt.epoch == 1
    await proven(rows, claimed.epoch)

    assert await rows.state(1) is TaskState.COMPLETED
    attempts = await rows.store.attempts(task_id(1))
    assert [attempt.accepted for attempt in attempts] == [True, False, False]
    assert attempts[1].state is (AttemptState.LOST if is_lost else AttemptState.FAILED)


async def test_where_no_work_is_kept_it_is_done_once_more(rows: Rows) -> None:
    tier, requirements = route(SPEC)
    text = proof_class(requirements.text, "a", "h", is_must=False)
    task = replace(new_task(1), class_text=text, spec=codec.encode_spec(SPEC), tier=codec.encode_tier(tier))
    await rows.add(task)
    with pytest.raises(StaleTask):
        await rows.store.commit(SkipProof(at_ms=rows.tick(), task=task_id(1), reason="nobody is there"))
    claimed = await taken(rows)
    assert claimed.proof is None
    finished = await lost(rows, claimed.epoch)

    assert finished.again is not None
    assert requirements_of(finished.again.class_text).proof is None
    assert requirements_of(finished.again.class_text).executor == "agent"


async def test_work_that_waits_for_a_machine_in_vain_counts_as_its_own_has_found(rows: Rows) -> None:
    await done(rows)
    await rows.add(new_task(2, depends_on=(task_id(1),)))
    skip = SkipProof(at_ms=rows.tick(), task=task_id(1), reason="no machine but h was there to prove it")
    finished: Finished = await rows.store.commit(skip)

    row, (work,) = await rows.store.task(task_id(1)), await rows.store.attempts(task_id(1))
    assert row is not None
    assert (row.state, row.verified, row.agent, row.reason) == (TaskState.COMPLETED, True, "a", skip.reason)
    assert (work.accepted, work.reason) == (True, skip.reason)
    assert [ready.place[1] for ready in finished.ready] == [task_id(2)]
    assert "task_unproven" in await rows.kinds(1)
    assert await rows.store.pull(task_id(1)) is not None
    with pytest.raises(StaleTask):
        await rows.store.commit(replace(skip, at_ms=rows.tick()))


async def test_a_late_proof_changes_nothing(rows: Rows) -> None:
    await done(rows)
    first = await taken(rows)
    await lost(rows, first.epoch)
    with pytest.raises(StaleAttempt):
        await proven(rows, first.epoch)
    second = await taken(rows)
    await rows.store.commit(Cancel(at_ms=rows.tick(), task=task_id(1), reason="no", by="me"))

    with pytest.raises(StaleAttempt):
        await proven(rows, second.epoch)
    assert await rows.state(1) is TaskState.CANCELLED
    assert not any(attempt.accepted for attempt in await rows.store.attempts(task_id(1)))


async def test_a_proof_with_other_checks_does_not_count(rows: Rows) -> None:
    await done(rows)
    epoch = (await taken(rows)).epoch
    finished = await rows.finish(1, epoch, result=codec.encode_result(report()), verified=True, checks="f" * 64)

    assert finished.refused
    assert await rows.state(1) is TaskState.QUEUED
    assert not any(attempt.accepted for attempt in await rows.store.attempts(task_id(1)))
