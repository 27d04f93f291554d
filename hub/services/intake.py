"""Take in what people want done: submit, cancel, retry. Answers after the commit.

A task is put into the window as soon as its submission is posted, before the commit, so the scheduler can give it to an
idle agent in the same transaction. If the submission turns out to be a replay, the claim finds no such row and the slot
is free again.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, TypeVar

import structlog
from msgspec import Struct
from msgspec.structs import replace

from hub.core.ending import AgentPort, stop
from hub.core.fleet import Fleet
from hub.core.prefixes import blocks_of
from hub.core.proving import room_problems
from hub.core.routing import DEFAULT_CHAINS, Requirements, route
from hub.core.task import QUEUED
from hub.core.window import Window
from hub.store.changes import Added, AddTasks, Cancel, Ended, Finished, NewTask, Prioritise, Ready, Retry
from hub.store.many_changes import Submissions
from hub.store.review_changes import Review
from hub.store.rows import new_summaries, summary, task_title
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
Outcome = Submitted | Exception
"""What comes of a submission: what it made, or why it made nothing."""
_class_text: Final = attrgetter("class_text")
_ALWAYS: Final = CleanRoom.ALWAYS
"""Asked about with every task; the members of an enumeration are slow to find."""
T = TypeVar("T")
M = TypeVar("M")
_own: Final = attrgetter(
    "max_retries", "parent", "run_after", "ttl_s", "complete_by", "depends_on", "verification", "model"
)
"""What a task takes from its spec itself, beside its texts, its labels and its priority."""
_NOTHING_OWN: Final = _own(TaskSpec())
_MOST_KEPT: Final = 1_024
MOST_TOGETHER: Final = 200
MOST_TASKS_TOGETHER: Final = 1_000
"""Submissions in one change, and tasks of more than one of them: less than one transaction holds."""


class Submission(Struct, frozen=True):
    """What one caller asks for: all of these tasks, or none.

    Args:
        key: the caller's idempotency key: the same key again gives the same tasks.
        digest: of the request's body, so that a key used for something else is found out; without a key: nothing.
        by: id of the caller's token.
        done: told what came of it; must not raise anything.
    """

    specs: Sequence[TaskSpec]
    key: str | None
    digest: bytes
    by: str
    done: Callable[[Outcome], None]


class _Posted(Struct, frozen=True):
    """A submission as it goes to the store, and what to do when that has told of it."""

    change: AddTasks
    runnable: list[NewTask]
    is_expected: bool
    """One of the tasks begins later, or may end by itself."""
    named: list[TierDecision]
    done: Callable[[Outcome], None]


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
        self._told: list[tuple[_Posted, Any]] = []  # that have their outcome, and do not know yet
        self._replays: set[asyncio.Task[None]] = set()
        self._tiers: dict[int, tuple[TierDecision, bytes]] = {}  # as they are kept
        self._texts: dict[int, tuple[Requirements, str]] = {}
        self._alike: dict[tuple[int, int, int], tuple[TierDecision, Requirements, NewTask]] = {}

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
        waiting: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.post([Submission(specs, key, digest, by, partial(_settle, waiting))])
        del specs  # they would wait for the disk beside their stored form
        outcome = await waiting
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def post(self, submissions: Sequence[Submission], *, is_checked: bool = False) -> None:
        """As :meth:`submit`, for many callers at once of whom none waits: each is told what came of its own.

        ``is_checked``: one task of each of them has passed :meth:`check` a moment ago.
        """
        now_ms = self._clock.now_ms()
        if len(submissions) == 1:
            self._post_one(submissions[0], now_ms, is_checked=is_checked)
            return
        ready: dict[str, list[_Posted]] = {}
        for submission in submissions:
            try:
                posted = self._made(submission, now_ms)
            except Exception as exc:  # noqa: BLE001 - whoever asked is told, and the others are served
                submission.done(exc)
            else:
                ready.setdefault(submission.by, []).append(posted)
        for by, of_one in ready.items():
            self._post_all(by, of_one)

    def _post_one(self, submission: Submission, now_ms: int, *, is_checked: bool) -> None:
        try:
            posted = self._made(submission, now_ms)
        except Exception as exc:  # noqa: BLE001 - whoever asked is told, whatever it is
            submission.done(exc)
            return
        tasks = posted.change.tasks
        if not is_checked or len(tasks) > 1 or tasks[0].class_text not in self._window.classes:
            self._post_all(submission.by, [posted])
            return
        # Nothing was posted since it was asked whether there is room, and its class is no new one.
        for task in posted.runnable:
            self._window.add(task.class_text, (task.priority, task.id))
        self._store.post(posted.change, partial(self._heard, [posted]))

    def _made(self, submission: Submission, now_ms: int) -> _Posted:
        specs, by = submission.specs, submission.by
        if len(specs) > 1:
            self.check(len(specs), by)
        if _ALWAYS in [spec.clean_room for spec in specs]:
            _check_rooms(specs)
        tasks, runnable, named = [], [], []
        is_expected = False
        ids = self._ids.several(now_ms, len(specs))
        for number, spec in enumerate(specs):
            task_id = ids[number]
            tier, requirements = route(spec, self._chains, by, self._patience)
            task = self._new(task_id, spec, tier, requirements, now_ms)
            tasks.append(task)
            if task.ready_ms is None and not task.depends_on:
                runnable.append(task)
                is_expected = is_expected or task.expires_ms is not None or task.complete_by_ms is not None
            else:
                is_expected = True
            if tier.explicit is not None:
                named.append(tier)
        change = AddTasks(at_ms=now_ms, tasks=tuple(tasks), by=by, key=submission.key, digest=submission.digest)
        return _Posted(change, runnable, is_expected, named, submission.done)

    def _post_all(self, by: str, ready: list[_Posted]) -> None:
        """Post what one caller submits, as far as it may come in."""
        tasks = [task for posted in ready for task in posted.change.tasks]
        try:
            self._admit(len(tasks), {task.class_text for task in tasks}, by)
        except Exception as exc:  # noqa: BLE001 - whoever asked is told, and the other callers are served
            if len(ready) == 1:
                ready[0].done(exc)
            else:  # one after the other: there may be room for some of them
                for posted in ready:
                    self._post_all(by, [posted])
            return
        runnable = [task for posted in ready for task in posted.runnable]
        for text, same in groupby(runnable, _class_text):
            self._window.add_all(text, sorted([(task.priority, task.id) for task in same]))
        if len(ready) == 1:
            self._store.post(ready[0].change, partial(self._heard, ready))
            return
        for some, count in _in_parts(ready):
            changes = [posted.change for posted in some]
            self._store.post(Submissions(changes, by, count), partial(self._heard, some))

    def _heard(self, ready: Sequence[_Posted], outcome: Any) -> None:  # noqa: ANN401 - that of AddTasks, or of many
        """Tell of it a turn of the loop later: the assignments of the same commit leave before answers."""
        if not self._told:
            asyncio.get_running_loop().call_soon(self._tell)
        if isinstance(outcome, list):
            self._told += zip(ready, outcome, strict=True)
        else:
            self._told += [(posted, outcome) for posted in ready]

    def _tell(self) -> None:
        told, self._told = self._told, []
        for posted, outcome in told:
            if isinstance(outcome, Added) and outcome.replayed:
                self._withdraw(posted.runnable)
                task = asyncio.get_running_loop().create_task(self._replay(outcome.ids, posted.done))
                self._replays.add(task)
                task.add_done_callback(self._replays.discard)
            else:
                posted.done(self._outcome(posted, outcome))

    def _outcome(self, posted: "_Posted", outcome: Added | AgentComError) -> Outcome:
        if isinstance(outcome, AgentComError):
            self._withdraw(posted.runnable)
            return outcome
        tasks, at_ms, states = posted.change.tasks, posted.change.at_ms, outcome.states
        try:
            for tier in posted.named:
                self._on_explicit(tier)
            if posted.is_expected:
                self._expect(tasks, states)
            return Submitted(tasks=new_summaries(tasks, states, at_ms))
        except Exception as exc:  # noqa: BLE001 - whoever waits is told, and the others of this turn are, too
            return exc

    def _expect(self, tasks: Sequence[NewTask], states: Sequence[TaskState]) -> None:
        """See to tasks that begin later, or end by themselves."""
        for task, state in zip(tasks, states, strict=True):
            if task.depends_on and state is TaskState.QUEUED and task.ready_ms is None:
                self._window.add(task.class_text, (task.priority, task.id))
                self._store.wake()
            if (wake_ms := _earliest(task)) is not None:
                self._on_delayed(wake_ms)

    async def _replay(self, ids: Sequence[str], done: Callable[[Outcome], None]) -> None:
        """Tell of the tasks that the key had made before."""
        try:
            rows = await self._store.summaries(ids)
        except Exception as exc:  # noqa: BLE001 - whoever waits is told
            done(exc)
        else:
            done(Submitted(tasks=tuple([summary(row) for row in rows]), replayed=True))

    def _withdraw(self, tasks: Sequence[NewTask]) -> None:
        for task in tasks:
            self._window.discard(task.class_text, task.id)

    def _new(self, task: str, spec: TaskSpec, tier: TierDecision, requirements: Requirements, now_ms: int) -> NewTask:
        """A task to store. Those that differ in little but their texts share the rest of it."""
        if requirements.needs_model:
            self._fleet.prefixes.expect(task, blocks_of(spec))
        elif _own(spec) == _NOTHING_OWN:
            # By identity, which is theirs as long as they are kept; members of enumerations are slow to find otherwise.
            shared = id(tier), id(requirements), id(spec.priority)
            kept = self._alike.get(shared)
            if kept is None:
                if len(self._alike) >= _MOST_KEPT:
                    self._alike.clear()
                kept = self._alike[shared] = tier, requirements, self._whole(task, spec, tier, requirements, now_ms)
            title = task_title(spec)
            return replace(kept[2], id=task, title=title, labels=spec.labels, spec=codec.encode_spec(spec))
        return self._whole(task, spec, tier, requirements, now_ms)

    def _whole(self, task: str, spec: TaskSpec, tier: TierDecision, requirements: Requirements, now_ms: int) -> NewTask:
        _, text = self._texts.get(id(requirements)) or self._keep(self._texts, requirements, requirements.text)
        _, raw = self._tiers.get(id(tier)) or self._keep(self._tiers, tier, codec.encode_tier(tier))
        ready_ms = None if spec.run_after is None else _ms(spec.run_after)
        return NewTask(
            id=task,
            state=QUEUED,
            class_text=text,
            priority=PRIORITY_ORDER[spec.priority],
            title=task_title(spec),
            labels=spec.labels,
            spec=codec.encode_spec(spec),
            tier=raw,
            max_retries=spec.max_retries,
            parent=spec.parent,
            ready_ms=ready_ms if ready_ms is not None and ready_ms > now_ms else None,
            expires_ms=now_ms + int(spec.ttl_s * 1000) if spec.ttl_s is not None else None,
            complete_by_ms=None if spec.complete_by is None else _ms(spec.complete_by),
            depends_on=spec.depends_on,
            checks=digest_of(spec.verification) if spec.verification else "",
            level=tier.effective,
            model=requirements.model,
        )

    @staticmethod
    def _keep(kept: dict[int, tuple[T, M]], of: T, made: M) -> tuple[T, M]:
        """What is made of a thing, by its identity, which is its own as long as it is kept: tasks share much."""
        if len(kept) >= _MOST_KEPT:
            kept.clear()
        kept[id(of)] = of, made
        return of, made

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


def _in_parts(ready: list[_Posted]) -> Iterator[tuple[list[_Posted], int]]:
    """Submissions, parted into those that go into a change together, and how many tasks they have."""
    first = count = 0
    for place, posted in enumerate(ready):
        tasks = len(posted.change.tasks)
        if place - first == MOST_TOGETHER or (count and count + tasks > MOST_TASKS_TOGETHER):
            yield ready[first:place], count
            first, count = place, 0
        count += tasks
    yield ready[first:], count


def _settle(waiting: "asyncio.Future[Outcome]", outcome: Outcome) -> None:
    if not waiting.done():
        waiting.set_result(outcome)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


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
        if spec.clean_room is _ALWAYS
        for problem in room_problems(spec)
    ]
    if problems:
        raise BadInput(problems, "task")
