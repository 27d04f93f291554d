"""Take in what people want done: submit, cancel, retry. Answers after the commit.

A task is put into the window as soon as its submission is posted, before the commit, so the scheduler can give it to an
idle agent in the same transaction. If the submission turns out to be a replay, the claim finds no such row and the slot
is free again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import structlog

from hub.core.ending import AgentPort, stop
from hub.core.fleet import Fleet
from hub.core.prefixes import blocks_of
from hub.core.proving import room_problems
from hub.core.routing import DEFAULT_CHAINS, Requirements, route
from hub.core.task import QUEUED
from hub.core.window import Window
from hub.store.changes import Added, AddTasks, Cancel, Ended, Finished, NewTask, Prioritise, Ready, Retry
from hub.store.review_changes import Review
from hub.store.rows import new_summary, summary, task_title
from hub.store.store import Store
from protocol import codec
from protocol.api import Submitted
from protocol.checks import digest_of
from protocol.choice import CleanRoom
from protocol.clock import Clock
from protocol.errors import AgentComError, BadInput, Problem
from protocol.ids import IdMaker
from protocol.model import PRIORITY_ORDER, Priority, Strategy, TaskSpec, TaskState, Tier, TierDecision

log = structlog.get_logger(__name__)
T = TypeVar("T")
M = TypeVar("M")


class Intake:
    """The use cases of a submitter."""

    def __init__(  # noqa: PLR0913 - the parts it is made of
        self,
        store: Store,
        fleet: Fleet,
        window: Window,
        agents: AgentPort,
        clock: Clock,
        ids: IdMaker,
        *,
        chains: Mapping[Tier, Sequence[Strategy]] = DEFAULT_CHAINS,
        patience: Mapping[Tier, float] = {},
        admit: Callable[[int, Iterable[str], str], None] = lambda _tasks, _classes, _by: None,
        on_delayed: Callable[[int], None] = lambda _ready_ms: None,
        on_explicit: Callable[[TierDecision], None] = lambda _tier: None,
    ) -> None:
        self._store, self._fleet, self._window, self._agents = store, fleet, window, agents
        self._clock, self._ids, self._chains, self._patience = clock, ids, chains, patience
        self._admit, self._on_delayed, self._on_explicit = admit, on_delayed, on_explicit

    def check(self, tasks: int, by: str) -> None:
        """Pass if so many new tasks of the caller ``by`` could come in now: to be asked before anything is read.

        Raises:
            Overloaded, Throttled, StorageFull: not now; ``retry_after_s`` says when.
        """
        self._admit(tasks, (), by)

    async def submit(self, specs: Sequence[TaskSpec], *, key: str | None, digest: bytes, by: str) -> Submitted:
        """Store all of these tasks, or none.

        Args:
            key: the caller's idempotency key: the same key again gives the same tasks.
            digest: of the request's body, so that a key used for something else is found out.
            by: id of the caller's token.
        Raises:
            IdempotencyConflict: the key was used with another body.
            BadInput: a dependency does not exist or will never complete, or work could never be proven as it has to be.
            Overloaded, Throttled, StorageFull: not now; ``retry_after_s`` says when.
        """
        if len(specs) > 1:
            self.check(len(specs), by)
        _check_rooms(specs)
        now_ms = self._clock.now_ms()
        routed = [route(spec, self._chains, by, self._patience) for spec in specs]
        tiers = _once([tier for tier, _ in routed], codec.encode_tier)
        texts = _once([requirements for _, requirements in routed], lambda requirements: requirements.text)
        tasks = tuple(
            [
                self._new(spec, tier, requirements, (tiers[id(tier)], texts[id(requirements)]), now_ms)
                for spec, (tier, requirements) in zip(specs, routed, strict=True)
            ]
        )
        named = [tier for tier, _ in routed if tier.explicit is not None]
        del specs, routed  # they would wait for the disk beside their stored form
        self._admit(len(tasks), {task.class_text for task in tasks}, by)
        change = AddTasks(at_ms=now_ms, tasks=tasks, by=by, key=key, digest=digest)
        runnable = [t for t in tasks if t.ready_ms is None and not t.depends_on]
        for task in runnable:
            self._window.add(task.class_text, (task.priority, task.id))
        try:
            added: Added = await self._store.commit(change)
        except AgentComError:
            self._withdraw(runnable)
            raise
        if added.replayed:
            self._withdraw(runnable)
            rows = await self._store.summaries(added.ids)
            return Submitted(tasks=tuple(summary(row) for row in rows), replayed=True)
        for tier in named:
            self._on_explicit(tier)
        for task, state in zip(tasks, added.states, strict=True):
            if task.depends_on and state is TaskState.QUEUED and task.ready_ms is None:
                self._window.add(task.class_text, (task.priority, task.id))
                self._store.wake()
            if (wake_ms := _earliest(task)) is not None:
                self._on_delayed(wake_ms)
        return Submitted(tasks=tuple(new_summary(t, s, now_ms) for t, s in zip(tasks, added.states, strict=True)))

    def _withdraw(self, tasks: Sequence[NewTask]) -> None:
        for task in tasks:
            self._window.discard(task.class_text, task.id)

    def _new(
        self, spec: TaskSpec, tier: TierDecision, requirements: Requirements, kept: tuple[bytes, str], now_ms: int
    ) -> NewTask:
        """A task to store; ``kept``: tier and requirements as they are kept."""
        ready_ms, task = _ms(spec.run_after), self._ids.make(now_ms)
        if requirements.needs_model:
            self._fleet.prefixes.expect(task, blocks_of(spec))
        return NewTask(
            id=task,
            state=QUEUED,
            class_text=kept[1],
            priority=PRIORITY_ORDER[spec.priority],
            title=task_title(spec),
            labels=spec.labels,
            spec=codec.encode_spec(spec),
            tier=kept[0],
            max_retries=spec.max_retries,
            parent=spec.parent,
            ready_ms=ready_ms if ready_ms is not None and ready_ms > now_ms else None,
            expires_ms=now_ms + int(spec.ttl_s * 1000) if spec.ttl_s is not None else None,
            complete_by_ms=_ms(spec.complete_by),
            depends_on=spec.depends_on,
            checks=digest_of(spec.verification),
            level=tier.effective,
            model=requirements.model,
        )

    async def cancel(self, task: str, reason: str, by: str) -> None:
        """End a live task for good; what its agent still does or says no longer counts.

        Raises:
            NotFound: there is no such task.
            IllegalTransition: it has ended.
        """
        ended: Ended = await self._store.commit(Cancel(at_ms=self._clock.now_ms(), task=task, reason=reason, by=by))
        if ended.was is TaskState.QUEUED:
            self._window.discard(ended.class_text, task)
        stop(self._fleet, self._agents, task, ended.epoch, reason or "cancelled")
        log.info("task_cancelled", task=task, was=ended.was.value, by=by)
        self._store.wake()

    async def retry(self, task: str, by: str) -> None:
        """Put a dead letter back into the queue with all its retries.

        Raises:
            NotFound: there is no such task.
            Conflict: it is not dead.
        """
        ready: Ready = await self._store.commit(Retry(at_ms=self._clock.now_ms(), task=task, by=by))
        self._window.add(ready.class_text, ready.place)
        self._store.wake()

    async def prioritise(self, task: str, priority: Priority, by: str) -> None:
        """Let a task that has not ended go earlier, or later; what runs keeps running.

        Raises:
            NotFound: there is no such task.
            IllegalTransition: it has ended.
        """
        change = Prioritise(at_ms=self._clock.now_ms(), task=task, priority=PRIORITY_ORDER[priority], by=by)
        ready: Ready | None = await self._store.commit(change)
        if ready is not None:
            self._window.discard(ready.class_text, task)
            self._window.add(ready.class_text, ready.place)
            self._store.wake()

    async def review(self, task: str, verdict: str, by: str, *, reason: str = "", epoch: int | None = None) -> None:
        """Decide about work that waits for a person.

        Args:
            verdict: ``approved``, ``rejected``, or ``again``: it goes back with the reason.
            by: id of the caller's token.
            epoch: of the attempt that was looked at, if that is known.
        Raises:
            NotFound: there is no such task.
            Conflict: it does not wait, or another attempt of it does.
        """
        change = Review(at_ms=self._clock.now_ms(), task=task, verdict=verdict, by=by, reason=reason, epoch=epoch)
        done: Finished = await self._store.commit(change)
        for ready in (done.again, *done.ready):
            if ready is not None:
                self._window.add(ready.class_text, ready.place)
        log.info("task_reviewed", task=task, verdict=verdict, by=by)
        self._store.wake()


def _once(found: Sequence[T], make: Callable[[T], M]) -> dict[int, M]:
    """What is made of each of these, by its identity: tasks of one submission share much of it."""
    return {key: make(each) for key, each in {id(each): each for each in found}.items()}


def _ms(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp() * 1000)


def _earliest(task: NewTask) -> int | None:
    """When the sweeper must look at this task first, if ever."""
    found = None
    for at_ms in (task.ready_ms, task.expires_ms, task.complete_by_ms):
        if at_ms is not None and (found is None or at_ms < found):
            found = at_ms
    return found


def _check_rooms(specs: Sequence[TaskSpec]) -> None:
    problems = [
        Problem(f"tasks[{number}].{problem.path}" if len(specs) > 1 else problem.path, problem.problem)
        for number, spec in enumerate(specs)
        if spec.clean_room is CleanRoom.ALWAYS
        for problem in room_problems(spec)
    ]
    if problems:
        raise BadInput(problems, "task")
