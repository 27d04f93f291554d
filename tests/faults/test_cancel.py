"""Row T36: a cancel is a last word. Whatever is said later, by whomever, over whichever line, does not undo it."""

import asyncio
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from hub.assembly import Parts, assemble
from hub.settings import Settings
from hub.store.changes import Record
from hub.store.sqlite import SqliteStore
from protocol import codec
from protocol.errors import AgentComError, IllegalTransition
from protocol.events import Event, EventKind
from protocol.messages import (
    Accept,
    Ack,
    Assign,
    Cancel,
    Heartbeat,
    HeldAttempt,
    Hello,
    Log,
    Ordered,
    Progress,
    Reject,
    Report,
)
from protocol.model import (
    FINAL_STATES,
    SIDECAR_DIED,
    AttemptId,
    AttemptState,
    FailureClass,
    TaskResult,
    TaskSpec,
    TaskState,
)
from protocol.session import Session

MOVES = frozenset({"task_queued", "task_assigned", "task_started", "task_requeued", "task_dead", "task_completed"})
SLOTS = 3
STEP_S = 4.0


class Hand:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.at_s = 1_000.0

    def now_ms(self) -> int:
        return int(self.at_s * 1000)

    def monotonic(self) -> float:
        return self.at_s


async def no_probe(*_: object) -> Any:  # noqa: ANN401 - never called: there are no endpoints
    raise AssertionError("nobody adds an endpoint here")


class Machine(RuleBasedStateMachine):
    """A hub with all its services on a store in memory, and a sidecar that does and says whatever it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = Hand()
        self.store = SqliteStore(":memory:")
        self.do(self.store.open())
        self.tasks: list[str] = []
        self.cancelled: dict[str, int] = {}  # by task: the newest event when the cancel was answered
        self.boot = 1
        self.is_up = False
        self.held: dict[AttemptId, AttemptState] = {}
        self.given: list[AttemptId] = []
        self.unsent: list[Ordered] = []
        self.start_hub()
        self.connect()

    def do(self, step: Any) -> Any:  # noqa: ANN401 - whatever the step gives
        return self.runner.run(step)

    def settle(self) -> None:
        """Everything that waits in the hub is done, and what it says has arrived if there is a line."""

        async def commits() -> None:
            for _ in range(3):
                await self.store.commit(Record(Event(kind=EventKind.HUB_STARTED, at_ms=1)))

        self.do(commits())
        if self.is_up:
            self.hear()

    def start_hub(self) -> None:
        start = self.do(self.store.start(self.clock.now_ms()))
        self.hub: Parts = assemble(
            self.store,
            start,
            Settings(lease_s=30.0),
            clock=self.clock,
            chance=Random(1),
            probe=no_probe,
            version="1",
            on_failure=lambda exc: pytest.fail(repr(exc)),
        )

    def teardown(self) -> None:
        self.do(self.store.close())
        self.runner.close()

    # --- the sidecar --------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        inventory = tuple(HeldAttempt(attempt=attempt, state=state) for attempt, state in self.held.items())
        hello = Hello(
            protocol=(1, 1),
            sidecar="a",
            boot=self.boot,
            host="h",
            slots=SLOTS,
            version="1",
            capabilities=("executor:shell",),
            inventory=inventory,
        )
        verdicts, _ = self.do(self.hub.presence.hello(hello))
        for verdict in verdicts:
            if verdict.verdict != "keep":
                self.held.pop(verdict.attempt, None)
        link = self.hub.links.open("a", self.boot, Session)
        link.session.peer_restarted()
        link.session.revise(self.hub.gateway._still_true)
        link.session.connected(0, self.clock.monotonic())
        self.is_up = True
        self.hub.presence.ready("a", self.boot)
        for message in self.unsent:
            self.say(message)
        self.unsent.clear()

    def hear(self) -> None:
        """Take what the hub has sent: work to begin, work to stop."""
        session = self.hub.links.open("a", self.boot, Session).session
        frames = session.data_to_send()
        messages = [message for frame in frames for message in codec.decode(frame)]
        for message in messages:
            if isinstance(message, Assign):
                self.held[message.attempt] = AttemptState.ACCEPTED
                self.given.append(message.attempt)
            elif isinstance(message, Cancel) and message.attempt in self.held:
                del self.held[message.attempt]
                self.say(report(message.attempt, AttemptState.CANCELLED, FailureClass.CANCELLED, "cancelled"))
        if any(isinstance(message, Ordered) for message in messages):
            last = max(message.n for message in messages if isinstance(message, Ordered))
            session.receive(codec.encode(Ack(n=last)), self.clock.monotonic())

    def say(self, message: Ordered) -> None:
        """Tell the hub, now or when there is a line again."""
        if self.is_up:
            self.hub.gateway._results.take("a", message, lambda _error: None)
        else:
            self.unsent.append(message)

    # --- what happens -------------------------------------------------------------------------------------------------

    @rule(needs=st.booleans(), later=st.sampled_from([0.0, 0.0, 20.0]), data=st.data())
    def submit(self, needs: bool, later: float, data: st.DataObject) -> None:
        from datetime import UTC, datetime, timedelta

        depends: tuple[str, ...] = ()
        if needs and self.tasks:
            depends = (data.draw(st.sampled_from(self.tasks)),)
        at = datetime.fromtimestamp(self.clock.at_s, UTC) + timedelta(seconds=later)
        spec = TaskSpec(command="x", depends_on=depends, run_after=at if later else None, max_retries=1)
        try:
            made = self.do(self.hub.intake.submit([spec], key=None, digest=b"", by="me"))
        except AgentComError:
            return  # what it needs will never complete
        self.tasks.append(made.tasks[0].id)
        self.settle()

    @rule(data=st.data())
    @precondition(lambda self: self.tasks)
    def cancel(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.tasks))
        state = self.state(task)
        try:
            self.do(self.hub.intake.cancel(task, "", "me"))
        except IllegalTransition:
            assert state in FINAL_STATES
            return
        assert state not in FINAL_STATES
        self.cancelled[task] = self.store.newest_event
        self.settle()

    @rule(data=st.data())
    @precondition(lambda self: self.tasks)
    def retry(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.tasks))
        is_dead = self.state(task) is TaskState.DEAD
        try:
            self.do(self.hub.intake.retry(task, "me"))
        except AgentComError:
            assert not is_dead
        self.settle()

    @rule(data=st.data(), what=st.sampled_from(["accept", "running", "verifying", "log", "reject", "heartbeat"]))
    @precondition(lambda self: self.given)
    def speak(self, data: st.DataObject, what: str) -> None:
        """About any attempt it ever had, whether it still has it or not."""
        attempt = data.draw(st.sampled_from(self.given))
        match what:
            case "accept":
                self.say(Accept(attempt=attempt))
            case "log":
                self.say(Log(attempt=attempt, offset=0, stream="stdout", text="x"))
            case "reject":
                self.held.pop(attempt, None)
                self.say(Reject(attempt=attempt, code="no_slot", reason="x"))
            case "heartbeat":
                named = HeldAttempt(attempt=attempt, state=AttemptState.RUNNING)
                if self.is_up:
                    self.hub.presence.heartbeat("a", Heartbeat(sidecar="a", boot=self.boot, attempts=(named,)))
            case _:
                self.say(Progress(attempt=attempt, state=AttemptState(what)))
        self.settle()

    @rule(
        data=st.data(),
        state=st.sampled_from(
            [AttemptState.PASSED, AttemptState.PASSED, AttemptState.FAILED, AttemptState.LOST, AttemptState.CANCELLED]
        ),
        failure=st.sampled_from([None, *FailureClass]),
        code=st.sampled_from(["", SIDECAR_DIED]),
    )
    @precondition(lambda self: self.given)
    def end(self, data: st.DataObject, state: AttemptState, failure: FailureClass | None, code: str) -> None:
        attempt = data.draw(st.sampled_from(self.given))
        self.held.pop(attempt, None)
        self.say(report(attempt, state, failure, code))
        self.settle()

    @rule()
    def cut(self) -> None:
        if self.is_up:
            self.is_up = False
            self.hub.links.open("a", self.boot, Session).session.disconnected()
            self.hub.presence.gone("a", self.boot)
            self.settle()

    @rule()
    def heal(self) -> None:
        if not self.is_up:
            self.connect()
            self.settle()

    @rule(keeps=st.booleans())
    def sidecar_dies(self, keeps: bool) -> None:
        self.cut()
        lost, self.held = list(self.held), {}
        self.boot += 1
        if keeps:
            self.unsent += [report(attempt, AttemptState.LOST, FailureClass.INFRA, SIDECAR_DIED) for attempt in lost]
        self.connect()
        self.settle()

    @rule()
    def hub_restarts(self) -> None:
        self.settle()
        self.is_up = False
        self.start_hub()
        self.connect()
        self.settle()

    @rule(steps=st.sampled_from([1, 9]))
    def time_passes(self, steps: int) -> None:
        for _ in range(steps):
            self.clock.at_s += STEP_S
            self.hub.sweeper.due(0)
            self.do(self.hub.sweeper.sweep())
            self.settle()

    # --- what is always true ------------------------------------------------------------------------------------------

    def state(self, task: str) -> TaskState:
        row = self.do(self.store.task(task))
        assert row is not None
        return TaskState(row.state)

    @invariant()
    def what_was_cancelled_stays_cancelled(self) -> None:
        for task, when in self.cancelled.items():
            assert self.state(task) is TaskState.CANCELLED
            later = [event.kind.value for event in self.do(self.store.events(when, 10_000, task))]
            assert not MOVES & set(later), f"after the cancel of {task}: {later}"
            attempts = self.do(self.store.attempts(task))
            assert not any(attempt.accepted for attempt in attempts)
            assert all(attempt.ended_ms is not None for attempt in attempts)

    @invariant()
    def whoever_works_at_it_hears_so_at_the_next_heartbeat_at_the_latest(self) -> None:
        if not self.is_up:
            return
        # Left over are those that were given up before (a lease that ended): nothing was sent for them.
        named = [HeldAttempt(attempt=a, state=AttemptState.RUNNING) for a in self.held if a.task in self.cancelled]
        told = self.hub.presence.heartbeat("a", Heartbeat(sidecar="a", boot=self.boot, attempts=tuple(named)))
        assert told == [item.attempt for item in named]
        for attempt in told:
            del self.held[attempt]

    @invariant()
    def the_hub_holds_none_of_it(self) -> None:
        assert not self.hub.fleet.held.keys() & self.cancelled.keys()


def report(attempt: AttemptId, state: AttemptState, failure: FailureClass | None, code: str) -> Report:
    result = TaskResult(execution_ok=state is AttemptState.PASSED, verified=None, error_code=code)
    return Report(attempt=attempt, state=state, result=result, failure=failure)


def cancel_is_a_last_word(examples: int) -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
    print(f"\nT36: {examples} examples of 30 steps")


def test_t36_a_cancelled_task_stays_cancelled_whatever_comes_later() -> None:
    """Cancel in every state, line up or down, deaths, restarts, late and doubled words: cancelled for good."""
    cancel_is_a_last_word(30)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_t36_soak_two_thousand_examples() -> None:
    """As above, 2,000 examples."""
    cancel_is_a_last_word(2_000)
