"""The promise about the end of an attempt: whatever becomes of it, its task is not forgotten."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import apsw
import pytest

from hub.clock import SystemClock
from hub.core.budgets import HUB, Limits
from hub.core.charging import Charging
from hub.core.fleet import Fleet
from hub.core.window import Window
from hub.gateway.connection import Links
from hub.services.dispatch import Dispatch
from hub.services.intake import Intake
from hub.services.presence import Presence
from hub.services.results import HEARD_S, MAX_TURNS_TOLD, Results, Told
from hub.services.sweeper import Sweeper
from hub.store.budget_changes import BudgetRow, PutBudget
from hub.store.changes import Cancel, Finish, Record
from hub.store.sqlite import SqliteStore
from protocol.checks import GENERATION_4, Check, CheckFileExists, digest_of
from protocol.errors import AgentComError
from protocol.events import Event, EventKind
from protocol.ids import IdMaker
from protocol.limits import MAX_DEATHS
from protocol.loads import MAX_CALLS, MAX_TARGET_CHARS, ToolUse, Turn
from protocol.messages import Accept, Hello, Progress, Reject, Report
from protocol.model import SIDECAR_DIED, AttemptId, AttemptState, FailureClass, TaskResult, TaskSpec, TaskState

SECRET = "ghp_" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3z0Q"


class HandClock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.at_s = 1_000.0

    def now_ms(self) -> int:
        return int(self.at_s * 1000)

    def monotonic(self) -> float:
        return self.at_s


@dataclass
class Mesh:
    """The services of a hub without its doors, and an agent that is welcome."""

    store: SqliteStore
    fleet: Fleet
    clock: HandClock
    intake: Intake
    results: Results
    sweeper: Sweeper
    charging: Charging
    checked: list[Finish] = field(default_factory=list)

    async def settle(self) -> None:
        """Everything that waited is stored."""
        for _ in range(3):
            await self.store.commit(Record(Event(kind=EventKind.HUB_STARTED, at_ms=1)))

    async def submit(self, *checks: Check) -> str:
        spec = TaskSpec(title="x", executor="noop", verification=checks)
        made = await self.intake.submit([spec], key=None, digest=b"", by="x")
        return made.tasks[0].id

    async def state(self, task: str) -> tuple[TaskState, int]:
        row = await self.store.task(task)
        assert row is not None
        return row.state, row.epoch


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    store, fleet, window, clock = SqliteStore(tmp_path / "hub.sqlite"), Fleet(), Window(), HandClock()
    await store.open()
    links = Links(SystemClock())
    checked, charging = list[Finish](), Charging()
    results = Results(store, fleet, window, clock, Random(1), on_checked=lambda _held, change: checked.append(change))
    sweeper = Sweeper(store, fleet, window, links, clock, lose=results.lose, lease_s=30.0)
    store.on_seal = Dispatch(store, fleet, window, links, clock, lease_s=30.0, charging=charging).run
    intake = Intake(store, fleet, window, links, clock, IdMaker(Random(1).getrandbits))
    presence = Presence(store, fleet, clock, lease_s=30.0, lose=results.lose, send=links.send)
    await presence.hello(
        Hello(protocol=(1, 1), sidecar="a", boot=1, host="h", slots=1, version="1", capabilities=("executor:noop",))
    )
    presence.ready("a", 1)
    yield Mesh(store, fleet, clock, intake, results, sweeper, charging, checked)
    await store.close()


async def test_a_lease_begins_when_the_assignment_leaves_not_when_it_was_planned(mesh: Mesh) -> None:
    plan = mesh.store.on_seal

    def plan_and_wait() -> None:
        plan()
        mesh.clock.at_s = 1_100.0  # the disk takes its time

    mesh.store.on_seal = plan_and_wait
    task = await mesh.submit()
    await mesh.settle()

    assert mesh.fleet.held[task].lease_until == 1_130.0


async def test_a_report_that_says_that_the_attempt_was_accepted_tells_of_both(mesh: Mesh) -> None:
    task = await mesh.submit()
    await mesh.settle()
    answers: list[AgentComError | None] = []
    report = Report(
        attempt=AttemptId("a", 1, task, 1),
        state=AttemptState.PASSED,
        result=TaskResult(execution_ok=True, verified=None),
    )
    mesh.results.take("a", report, answers.append, accepts=True)
    mesh.results.take("a", report, answers.append, accepts=True)
    await mesh.settle()

    row = await mesh.store.task(task)
    kinds = [event.kind for event in await mesh.store.events(0, 50, task)]
    (attempt,) = await mesh.store.attempts(task)
    assert row is not None
    assert (row.state, row.started_ms, attempt.accepted) == (TaskState.COMPLETED, attempt.started_ms, True)
    assert row.started_ms is not None
    assert kinds.count(EventKind.TASK_STARTED) == kinds.count(EventKind.TASK_COMPLETED) == 1
    assert kinds.index(EventKind.TASK_STARTED) < kinds.index(EventKind.TASK_COMPLETED)
    assert [error and error.code for error in answers] == ["stale", None], "the second one at once"


@pytest.fixture
async def slots(mesh: Mesh) -> Mesh:
    """The same with more than one slot."""
    mesh.fleet.agents["a"].slots = 9
    mesh.fleet.changed(mesh.fleet.agents["a"])
    return mesh


async def test_reports_of_one_frame_are_stored_and_answered_together_and_each_fares_by_itself(slots: Mesh) -> None:
    tasks = [await slots.submit() for _ in range(6)]
    await slots.settle()
    await slots.store.commit(Cancel(at_ms=1, task=tasks[1], reason="no", by="me"))  # and nobody here has heard of it
    well = TaskResult(execution_ok=True, verified=None)
    ids = [AttemptId("a", 1, task, 1) for task in tasks]
    told = [(Report(attempt=each, state=AttemptState.PASSED, result=well), Accept(attempt=each)) for each in ids]
    failed = Report(
        attempt=ids[3], state=AttemptState.FAILED, result=TaskResult(execution_ok=False, verified=None, error="no")
    )
    told[3] = failed, told[3][1]
    answers = list[tuple[list[str], str | None]]()

    def answer(some: Sequence[Told], error: AgentComError | None) -> None:
        answers.append(([report.attempt.task for report, _ in some], error and error.code))

    slots.results.reports("a", [*told, told[0]], answer)
    slots.results.reports("stranger", told[:1], answer)
    assert answers == [(tasks[:1], "stale"), (tasks[:1], "stale")], "the last of each at once"
    answers.clear()
    await slots.settle()

    after = [(await slots.state(task))[0] for task in tasks]
    done, over, again = TaskState.COMPLETED, TaskState.CANCELLED, TaskState.QUEUED
    assert after == [done, over, done, again, done, done]
    assert answers == [
        (tasks[:1], None),
        (tasks[1:2], "stale"),
        (tasks[2:3], None),
        (tasks[3:4], None),
        (tasks[4:], None),
    ]
    kinds = [event.kind for event in await slots.store.events(0, 100, tasks[4])]
    assert kinds.count(EventKind.TASK_STARTED) == kinds.count(EventKind.TASK_COMPLETED) == 1


async def test_work_that_was_pushed_is_offered_once_for_all_of_a_frame(slots: Mesh) -> None:
    tasks = [await slots.submit() for _ in range(3)]
    await slots.settle()
    pushed = TaskResult(execution_ok=True, verified=None, branch="b", pushed=True)
    offered = list[int]()
    slots.results._on_offered = lambda: offered.append(1)
    told = [
        (Report(attempt=AttemptId("a", 1, task, 1), state=AttemptState.PASSED, result=pushed), None) for task in tasks
    ]
    slots.results.reports("a", told, lambda _told, _error: None)
    await slots.settle()

    assert [(await slots.state(task))[0] for task in tasks] == [TaskState.COMPLETED] * 3
    assert offered == [1]


async def test_an_end_that_cannot_be_stored_leaves_the_attempt_to_its_lease(mesh: Mesh, tmp_path: Path) -> None:
    other = apsw.Connection(str(tmp_path / "hub.sqlite"))
    other.execute(
        "CREATE TRIGGER never BEFORE UPDATE ON tasks WHEN NEW.state = 'completed' "
        "BEGIN SELECT RAISE(ABORT, 'a bug of ours'); END"
    )
    task = await mesh.submit()
    await mesh.settle()
    assert await mesh.state(task) == (TaskState.ASSIGNED, 1)
    answers: list[AgentComError | None] = []
    report = Report(
        attempt=AttemptId("a", 1, task, 1),
        state=AttemptState.PASSED,
        result=TaskResult(execution_ok=True, verified=None),
    )
    mesh.results.take("a", report, answers.append)
    await mesh.settle()
    assert [error and error.code for error in answers] == ["unwritable"]
    assert await mesh.state(task) == (TaskState.ASSIGNED, 1)

    other.execute("DROP TRIGGER never")
    other.close()
    mesh.clock.at_s += 1.0
    await mesh.sweeper.sweep()
    await mesh.settle()
    assert await mesh.state(task) == (TaskState.ASSIGNED, 2)


async def test_what_a_model_does_is_told_as_events_and_never_too_much_of_it(mesh: Mesh) -> None:
    task = await mesh.submit()
    await mesh.settle()
    attempt, answers = AttemptId("a", 1, task, 1), list[AgentComError | None]()
    mesh.results.take("a", Accept(attempt=attempt), answers.append)
    many = (ToolUse(tool="run", target="make", ok=False, ms=1_200),) * (MAX_CALLS + 3)
    loud = (ToolUse(tool="t" * 99, target=f"push https://{SECRET}@example.org {'y' * 300}"),)
    for number in range(1, MAX_TURNS_TOLD + 20):
        calls = {1: (ToolUse(tool="read", target="a.py", ms=3),), 2: many, 3: loud}.get(number, ())
        turn = Turn(number=number, calls=calls, more=7 if number == 4 else 0)
        told = Progress(attempt=attempt, state=AttemptState.RUNNING, iteration=2, turn=turn)
        mesh.results.take("a", told, answers.append)
    await mesh.settle()

    events = await mesh.store.events(0, 1_000, task)
    facts = [event.facts for event in events if event.kind is EventKind.TOOL_CALLED]
    assert set(answers) == {None}
    assert len(facts) == MAX_TURNS_TOLD
    read = {"tool": "read", "target": "a.py", "ok": True, "ms": 3}
    assert facts[0] == {"iteration": 2, "turn": 1, "calls": [read], "more": 0}
    assert (len(facts[1]["calls"]), facts[1]["more"], facts[1]["calls"][0]["ok"]) == (MAX_CALLS, 3, False)
    assert (len(facts[2]["calls"][0]["tool"]), len(facts[2]["calls"][0]["target"]) <= 2 * MAX_TARGET_CHARS) == (
        40,
        True,
    )
    assert SECRET not in facts[2]["calls"][0]["target"]
    assert facts[3]["more"] == 7
    assert EventKind.TASK_ITERATION not in {event.kind for event in events}


# --- who is suspected -------------------------------------------------------------------------------------------------


def lost(task: str, epoch: int, code: str) -> Report:
    return Report(
        attempt=AttemptId("a", 1, task, epoch),
        state=AttemptState.LOST,
        result=TaskResult(execution_ok=False, verified=None, error_code=code, error="x"),
        failure=FailureClass.INFRA,
    )


async def suspects(mesh: Mesh, task: str) -> list[bool]:
    await mesh.settle()
    return [attempt.suspect for attempt in await mesh.store.attempts(task) if attempt.ended_ms is not None]


@pytest.mark.parametrize("code, is_suspect", [(SIDECAR_DIED, True), ("lost", False), ("sidecar_failed", False)])
async def test_a_sidecar_that_says_it_died_with_the_work_accuses_it_and_no_other_report_does(
    mesh: Mesh, code: str, is_suspect: bool
) -> None:
    task = await mesh.submit()
    await mesh.settle()
    mesh.results.take("a", lost(task, 1, code), lambda _error: None)

    assert await suspects(mesh, task) == [is_suspect]


@pytest.mark.parametrize("code, is_suspect", [(SIDECAR_DIED, True), ("lost", False)])
async def test_a_report_that_is_too_late_to_count_still_clears_the_attempt(
    mesh: Mesh, code: str, is_suspect: bool
) -> None:
    task = await mesh.submit()
    await mesh.settle()
    mesh.results.lose(mesh.fleet.held[task], "its lease ended without a sign of life")
    await mesh.settle()
    mesh.results.take("a", lost(task, 1, code), lambda _error: None)

    assert await suspects(mesh, task) == [is_suspect]


async def test_who_refuses_an_attempt_has_not_died_of_it(mesh: Mesh) -> None:
    task = await mesh.submit()
    await mesh.settle()
    refusal = Reject(attempt=AttemptId("a", 1, task, 1), code="no_slot", reason="x")
    mesh.results.take("a", refusal, lambda _error: None)

    assert (await suspects(mesh, task))[0] is False


async def test_a_task_refused_for_a_gpu_that_was_taken_back_waits_until_its_agent_has_said_so(mesh: Mesh) -> None:
    task = await mesh.submit()
    await mesh.settle()
    refusal = Reject(attempt=AttemptId("a", 1, task, 1), code="reclaimed", reason="x")
    mesh.results.take("a", refusal, lambda _error: None)
    await mesh.settle()
    at_once = await mesh.state(task)
    mesh.clock.at_s += HEARD_S
    mesh.sweeper.due(0)
    await mesh.sweeper.sweep()
    await mesh.settle()

    assert at_once == (TaskState.QUEUED, 1)
    assert await mesh.state(task) == (TaskState.ASSIGNED, 2)
    row = await mesh.store.task(task)
    assert row is not None
    assert (row.retries, row.infra_failures) == (0, 0), "nothing was counted"


async def test_the_third_death_ends_it_however_often_the_hub_would_try(mesh: Mesh) -> None:
    task, other = await mesh.submit(), ""
    for _ in range(MAX_DEATHS):
        await mesh.settle()
        mesh.results.lose(mesh.fleet.held[task], "its sidecar died")
        await mesh.settle()
        mesh.clock.at_s += 4.0
        for _ in range(20):
            mesh.clock.at_s += 4.0  # the wait before it may run again, in steps that are no pause of the hub
            mesh.sweeper.due(0)
            await mesh.sweeper.sweep()
            await mesh.settle()
            if task in mesh.fleet.held:
                break
        mesh.sweeper.due(0)
        await mesh.sweeper.sweep()
    await mesh.settle()
    assert (await mesh.state(task))[0] is TaskState.DEAD

    other = await mesh.submit()
    await mesh.settle()
    assert await mesh.state(other) == (TaskState.ASSIGNED, 1)


# --- what is learnt, and what was used --------------------------------------------------------------------------------


@pytest.mark.parametrize("are_its", [True, False], ids=["its own checks", "other checks"])
async def test_only_a_report_about_the_checks_of_the_task_teaches(mesh: Mesh, *, are_its: bool) -> None:
    check = CheckFileExists(path="x")
    task = await mesh.submit(check)
    await mesh.settle()
    mesh.fleet.held[task].model = "m"
    checks = digest_of((check,)) if are_its else "00" * 32
    result = TaskResult(execution_ok=True, verified=True, checks=checks)
    report = Report(attempt=AttemptId("a", 1, task, 1), state=AttemptState.PASSED, result=result)

    mesh.results.take("a", report, lambda _error: None, accepts=True)
    await mesh.settle()

    assert len(mesh.checked) == are_its


@pytest.mark.parametrize("can_name", [True, False])
async def test_who_can_name_its_checks_has_to_and_an_older_sidecar_is_believed(mesh: Mesh, *, can_name: bool) -> None:
    task = await mesh.submit(CheckFileExists(path="x"))
    await mesh.settle()
    if can_name:
        mesh.fleet.agents["a"].capabilities |= {GENERATION_4}
    result = TaskResult(execution_ok=True, verified=True)
    report = Report(attempt=AttemptId("a", 1, task, 1), state=AttemptState.PASSED, result=result)

    mesh.results.take("a", report, lambda _error: None, accepts=True)
    await mesh.settle()

    assert ((await mesh.state(task))[0] is TaskState.COMPLETED) is not can_name


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("code, is_known", [(SIDECAR_DIED, False), ("lost", True)])
async def test_a_sidecar_that_died_with_the_work_does_not_say_what_was_used(
    mesh: Mesh, code: str, *, is_known: bool, is_late: bool
) -> None:
    limits = Limits(ms=10**9)
    event = Event(kind=EventKind.BUDGET_SET, at_ms=1, facts={"budget": "hub"})
    await mesh.store.commit(PutBudget(BudgetRow(scope=HUB, limits=limits, changed_ms=5, changed_by="me"), event))
    mesh.charging.load({HUB: limits}, 0, {}, set())
    task = await mesh.submit()
    await mesh.settle()
    mesh.results.take("a", Accept(attempt=AttemptId("a", 1, task, 1)), lambda _error: None)
    await mesh.settle()
    if is_late:
        mesh.results.lose(mesh.fleet.held[task], "its lease ended without a sign of life")
        await mesh.settle()

    mesh.results.take("a", lost(task, 1, code), lambda _error: None)
    await mesh.settle()

    spent = (await mesh.store.purses(0)).purses[HUB].spent
    assert spent.ms == (0 if is_known else 900_000)
