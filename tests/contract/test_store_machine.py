"""The store against a small model of it: whatever happens in whatever order, however often it is closed and opened."""

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from hub.core.routing import class_after
from hub.store.changes import (
    Buried,
    Cancel,
    Expire,
    Expired,
    Promote,
    Promoted,
    ReadClass,
    Retry,
    Unwilling,
)
from hub.store.hub_changes import MarkAgent
from hub.store.store import TaskQuery
from protocol.errors import AgentComError
from protocol.events import Event, EventKind
from protocol.limits import ALONE_FROM_DEATHS, MAX_DEATHS
from protocol.model import FINAL_STATES, AttemptState, FailureClass, TaskState
from tests.support.stores import BACKENDS, CLASS, Rows, make_store, new_task, task_id

Q, A, R, BLOCKED = TaskState.QUEUED, TaskState.ASSIGNED, TaskState.RUNNING, TaskState.BLOCKED
DONE, FAILED, CANCELLED, DEAD = TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.DEAD

HUBS = st.sampled_from([1, 1, 2])


@dataclass
class Known:
    """What the model knows of a task."""

    state: TaskState
    epoch: int = 0
    needs: tuple[int, ...] = ()
    ready_ms: int | None = None
    expires_ms: int | None = None
    accepted: int = 0
    priority: int = 2
    deaths: set[int] = field(default_factory=set)
    is_alone: bool = False
    hub: int = 0
    ends: list[TaskState] = field(default_factory=list)


class Machine(RuleBasedStateMachine):
    """One store, many tasks."""

    backend = BACKENDS[0]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.known: dict[int, Known] = {}
        self.events = 0
        self.home: int | None = None  # the hub of the one agent
        self.now_ms = 1_000
        self.is_draining = False
        self.open()

    def open(self) -> None:
        async def opened() -> Rows:
            store = await make_store(self.backend, Path(self.folder.name))
            await store.open()
            return Rows(store)

        self.rows = self.runner.run(opened())
        self.rows.now_ms = self.now_ms

    def teardown(self) -> None:
        self.runner.run(self.rows.store.close())
        self.runner.close()
        self.folder.cleanup()

    def do(self, step: object) -> object:
        """The outcome of a step; a refusal is one."""
        try:
            return self.runner.run(step)  # type: ignore[arg-type]  # a coroutine
        except AgentComError as refusal:
            return refusal
        finally:
            self.now_ms = self.rows.now_ms

    def some(self, data: st.DataObject) -> tuple[int, Known]:
        number = data.draw(st.sampled_from(sorted(self.known)), label="task")
        return number, self.known[number]

    def ended(self, number: int, state: TaskState) -> None:
        """The model of what the end of a task sets in motion."""
        self.known[number].state, self.known[number].ready_ms = state, None
        self.known[number].ends.append(state)
        for other, known in self.known.items():
            if number in known.needs and known.state is BLOCKED:
                if state is not DONE:
                    self.ended(other, FAILED)
                elif all(self.known[need].state is DONE for need in known.needs):
                    known.state = Q

    # --- verbs --------------------------------------------------------------------------------------------------------

    @rule(
        data=st.data(),
        priority=st.integers(0, 3),
        delay=st.sampled_from([None, 3, 50]),
        ttl=st.sampled_from([None, 5, 60]),
    )
    def submit(self, data: st.DataObject, priority: int, delay: int | None, ttl: int | None) -> None:
        number = len(self.known) + 1
        alive = [n for n, k in self.known.items() if k.state not in {FAILED, CANCELLED, DEAD}]
        needs = tuple(data.draw(st.lists(st.sampled_from(alive), max_size=2, unique=True))) if alive else ()
        ready_ms = None if delay is None else self.now_ms + delay
        expires_ms = None if ttl is None else self.now_ms + ttl
        task = new_task(
            number,
            priority=priority,
            ready_ms=ready_ms,
            expires_ms=expires_ms,
            depends_on=tuple(task_id(n) for n in needs),
        )
        self.do(self.rows.add(task))
        state = BLOCKED if any(self.known[n].state is not DONE for n in needs) else Q
        self.known[number] = Known(state, 0, needs, ready_ms, expires_ms, priority=priority)

    @rule(data=st.data(), hub=HUBS)
    @precondition(lambda self: self.known)
    def claim(self, data: st.DataObject, hub: int) -> None:
        number, known = self.some(data)
        outcome = self.do(self.rows.claim(number, hub=hub))
        is_ready = known.state is Q and known.ready_ms is None
        if is_ready and len(known.deaths) >= MAX_DEATHS:
            assert isinstance(outcome, Buried)
            assert {death.epoch for death in outcome.deaths} == known.deaths
            self.ended(number, DEAD)
        elif is_ready and (self.is_draining or self.home not in {None, hub}):
            assert isinstance(outcome, Unwilling)
            assert (outcome.draining, outcome.elsewhere) == (self.is_draining, self.home != hub)
        elif is_ready:
            known.deaths.add(known.epoch + 1)
            known.state, known.epoch, known.hub = A, known.epoch + 1, hub
            assert outcome.epoch == known.epoch  # type: ignore[attr-defined]  # it is a Claimed
        else:
            assert isinstance(outcome, AgentComError)
            assert outcome.code == "stale_task"

    @rule(hub=HUBS)
    def the_agent_moves(self, hub: int) -> None:
        outcome = self.do(self.rows.join(hub=hub))
        moved = [k for k in self.known.values() if k.state in {A, R} and k.hub != hub]
        assert len(outcome.held) == len(moved)  # type: ignore[attr-defined]  # it is a Joined
        self.home = hub
        for known in moved:
            known.hub = hub

    def refused(self, known: Known, late: int, hub: int) -> str:
        """The code of the refusal of what an attempt says at a hub; empty if it counts there."""
        if late or known.state not in {A, R}:
            return "stale"
        return "" if known.hub == hub else "moved"

    @rule(data=st.data(), late=st.integers(0, 2), hub=HUBS)
    @precondition(lambda self: self.known)
    def accept(self, data: st.DataObject, late: int, hub: int) -> None:
        number, known = self.some(data)
        outcome = self.do(self.rows.accept(number, known.epoch - late, hub=hub))
        if code := self.refused(known, late, hub):
            assert isinstance(outcome, AgentComError)
            assert outcome.code == code
        else:
            assert outcome is None
            known.state = R

    @rule(
        data=st.data(),
        late=st.integers(0, 2),
        how=st.sampled_from([DONE, DONE, FAILED, Q, Q, DEAD]),
        died=st.booleans(),
        hub=HUBS,
    )
    @precondition(lambda self: self.known)
    def finish(self, data: st.DataObject, late: int, how: TaskState, died: bool, hub: int) -> None:
        number, known = self.some(data)
        lost: dict[str, object] = {}
        if how is Q:
            lost = {"attempt": AttemptState.LOST, "failure": FailureClass.INFRA, "orderly": not died}
        outcome = self.do(self.rows.finish(number, known.epoch - late, how, hub=hub, **lost))
        if code := self.refused(known, late, hub):
            assert isinstance(outcome, AgentComError)
            assert outcome.code == code
        elif how is Q:
            known.state = Q
            if not died:
                known.deaths.discard(known.epoch)
            known.is_alone = died and len(known.deaths) >= ALONE_FROM_DEATHS
        else:
            known.deaths.discard(known.epoch)
            known.accepted = known.epoch
            self.ended(number, how)

    @rule(data=st.data())
    @precondition(lambda self: self.known)
    def cancel(self, data: st.DataObject) -> None:
        number, known = self.some(data)
        outcome = self.do(
            self.rows.store.commit(Cancel(at_ms=self.rows.tick(), task=task_id(number), reason="", by="me"))
        )
        assert isinstance(outcome, AgentComError) == (known.state in FINAL_STATES)
        if known.state not in FINAL_STATES:
            self.ended(number, CANCELLED)

    @rule(data=st.data())
    @precondition(lambda self: self.known)
    def retry(self, data: st.DataObject) -> None:
        number, known = self.some(data)
        outcome = self.do(self.rows.store.commit(Retry(at_ms=self.rows.tick(), task=task_id(number), by="me")))
        assert isinstance(outcome, AgentComError) == (known.state is not DEAD)
        if known.state is DEAD:
            known.state, known.accepted, known.ready_ms, known.is_alone = Q, 0, None, False
            known.expires_ms = None
            known.deaths.clear()

    @rule(on=st.booleans())
    @precondition(lambda self: self.home is not None)
    def drain(self, on: bool) -> None:
        event = Event(kind=EventKind.AGENT_DRAINING, at_ms=self.rows.tick(), agent="a")
        self.do(self.rows.store.commit(MarkAgent("a", event, draining=on)))
        self.is_draining = on

    @rule(later=st.sampled_from([0, 2, 10, 70]))
    def time_passes(self, later: int) -> None:
        self.rows.now_ms += later
        now_ms = self.rows.tick()
        promoted = self.do(self.rows.store.commit(Promote(at_ms=now_ms)))
        assert isinstance(promoted, Promoted)
        due = {n for n, k in self.known.items() if k.state is Q and k.ready_ms is not None and k.ready_ms <= now_ms}
        assert {ready.place for ready in promoted.ready} == {(self.known[n].priority, task_id(n)) for n in due}
        for number in due:
            self.known[number].ready_ms = None

        expired = self.do(self.rows.store.commit(Expire(at_ms=now_ms)))
        assert isinstance(expired, Expired)
        for number, known in self.known.items():
            if known.expires_ms is not None and known.expires_ms <= now_ms and known.state in {Q, BLOCKED}:
                self.ended(number, FAILED)

    @rule()
    @precondition(lambda self: self.backend != "sqlite-memory")
    def close_and_open(self) -> None:
        self.runner.run(self.rows.store.close())
        self.open()

    # --- what is always true ------------------------------------------------------------------------------------------

    @invariant()
    def the_rows_are_those_of_the_model(self) -> None:
        async def look() -> None:
            store = self.rows.store
            found = {row.id: row for row in await store.tasks(TaskQuery(limit=1_000))}
            assert {task: (row.state, row.epoch, row.ready_ms, row.hub) for task, row in found.items()} == {
                task_id(n): (k.state, k.epoch, k.ready_ms, k.hub if k.state in {A, R} else None)
                for n, k in self.known.items()
            }
            counts = {state: n for state, n in (await store.counts()).items() if n}
            states = [k.state for k in self.known.values()]
            assert counts == {state: states.count(state) for state in set(states)}
            for text, alone in ((CLASS, False), (class_after(CLASS, ALONE_FROM_DEATHS), True)):
                ready = await store.commit(ReadClass(at_ms=self.now_ms, class_text=text, limit=1_000))
                waiting = {
                    (k.priority, task_id(n))
                    for n, k in self.known.items()
                    if k.state is Q and k.ready_ms is None and k.is_alone is alone
                }
                assert ready == sorted(waiting)
            for number, known in self.known.items():
                suspects = {a.epoch for a in await store.attempts(task_id(number)) if a.suspect}
                assert suspects == known.deaths

        self.runner.run(look())

    @invariant()
    def facts_are_numbered_without_gaps_and_none_is_ever_taken_back(self) -> None:
        events = self.runner.run(self.rows.store.events(0, 10_000))
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert len(events) >= self.events
        self.events = len(events)

    @invariant()
    def at_most_one_result_of_a_task_counts(self) -> None:
        async def look() -> None:
            for number, known in self.known.items():
                attempts = await self.rows.store.attempts(task_id(number))
                assert [a.epoch for a in attempts if a.accepted] == ([known.accepted] if known.accepted else [])
                assert len(attempts) == known.epoch

        self.runner.run(look())

    @invariant()
    def what_has_ended_stays_as_it_ended(self) -> None:
        for known in self.known.values():
            final = [state for state in known.ends if state is not DEAD]
            assert len(final) <= 1


@pytest.mark.timeout(330)  # on PostgreSQL every statement is a round trip
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_store_does_what_the_model_does(backend: str) -> None:
    machine = type("Machine", (Machine,), {"backend": backend})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=15 if backend == "postgres" else 40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
