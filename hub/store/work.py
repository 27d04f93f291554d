"""The daily work: new tasks, claims, what attempts report; decided on the drafts of a batch, one change after another.

Every verb is one step from what the draft says to what it will say, with the events that tell of it; rows are read
before and written after all of them (``drafts.py``). A verb finds out whether it may before it changes anything, so a
refusal leaves nothing behind.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from msgspec import to_builtins
from msgspec.json import encode

from hub.core import routing
from hub.core.task import ASSIGNED, HELD_STATES, QUEUED, RUNNING
from hub.store import changes as c
from hub.store.batches import NOTHING, Statements, told
from hub.store.drafts import Draft
from hub.store.ending import Endings
from hub.store.hub_changes import PutArtifact
from hub.store.many_changes import End
from hub.store.refusals import LostAttempt
from protocol.errors import BadInput, IdempotencyConflict, Problem, StaleAttempt, StaleTask
from protocol.events import EventKind
from protocol.limits import MAX_DEATHS
from protocol.model import FINAL_STATES, AttemptState, FailureClass, TaskState

ENDS: Final = {
    TaskState.COMPLETED: EventKind.TASK_COMPLETED,
    TaskState.FAILED: EventKind.TASK_FAILED,
    TaskState.DEAD: EventKind.TASK_DEAD,
    TaskState.CANCELLED: EventKind.TASK_CANCELLED,
    TaskState.QUEUED: EventKind.TASK_REQUEUED,
    TaskState.WAITING: EventKind.TASK_WAITING,
}
# The way of every task asks for these; the members of an enumeration are slow to find.
_TOLD_QUEUED, _TOLD_ASSIGNED = EventKind.TASK_QUEUED, EventKind.TASK_ASSIGNED
_TOLD_STARTED, _ACCEPTED, _LOST = EventKind.TASK_STARTED, AttemptState.ACCEPTED, AttemptState.LOST
MOST_ALIKE: Final = 256
"""Facts of ends that are remembered because others may end alike."""


class Work(Endings):
    """The verbs of the daily work."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        daily: dict[type, Callable[[Any], Awaitable[c.Outcome]]] = {
            c.AddTasks: self._add_tasks,
            c.Claim: self._claim,
            c.Accept: self._accept,
            c.Advance: self._advance,
            c.Finish: self._finish,
            End: self._finish_plain,
            c.AppendLog: self._append_log,
            c.Record: self._record,
        }
        self._verbs |= daily
        self._daily = set(daily)
        self._where: dict[tuple[str, int], dict[str, Any]] = {}  # facts of an assignment: few, and told by the thousand
        self._last_new = "", "", NOTHING  # title and submitter of the newest task, and the facts that tell of it
        self._alike: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}  # facts of ends by identity, and as told

    # --- submission ---------------------------------------------------------------------------------------------------

    async def _add_tasks(self, change: c.AddTasks) -> c.Added:
        if change.key is not None and (row := self._used_keys[change.kept_key]) is not None:
            if bytes(row[0]) != change.digest:
                raise IdempotencyConflict(change.key)
            return c.Added(ids=tuple(json.loads(row[1])), states=(), replayed=True)
        return self._add_all(change, await self._first_states(change.tasks))

    def _add_all(self, change: c.AddTasks, states: tuple[TaskState, ...]) -> c.Added:
        """The tasks are there from now on, and the key stands for them."""
        for task, state in zip(change.tasks, states, strict=True):
            self._add_task(change, task, state)
        ids = tuple([task.id for task in change.tasks])
        if change.key is not None:
            key, text = change.kept_key, encode(ids).decode()
            self._used_keys[key] = (change.digest, text)
            self._new_keys.append((key, change.digest, text, change.at_ms))
        return c.Added(ids=ids, states=states)

    async def _first_states(self, tasks: Sequence[c.NewTask]) -> tuple[TaskState, ...]:
        problems: list[Problem] = []
        states: list[TaskState] = []
        fresh: set[str] = set()
        for number, task in enumerate(tasks):
            state = task.state
            for place, needed in enumerate(task.depends_on):
                draft = None if needed in fresh else await self._draft(needed)
                path = f"depends_on[{place}]" if len(tasks) == 1 else f"tasks[{number}].depends_on[{place}]"
                if needed in fresh:
                    state = TaskState.BLOCKED
                elif draft is None:
                    problems.append(Problem(path, f"no task {needed}"))
                elif draft.state in {TaskState.FAILED, TaskState.CANCELLED, TaskState.DEAD}:
                    problems.append(Problem(path, f"task {needed} is {draft.state}: it will never complete"))
                elif draft.state != TaskState.COMPLETED:
                    state = TaskState.BLOCKED
            states.append(state)
            fresh.add(task.id)
        if problems:
            raise BadInput(problems, "task")
        return tuple(states)

    def _add_task(self, change: c.AddTasks, task: c.NewTask, state: TaskState) -> None:
        is_queued = state is QUEUED
        draft = Draft(
            task.id,
            state,
            task.class_text,
            task.priority,
            max_retries=task.max_retries,
            ready_ms=task.ready_ms,
            queued_ms=change.at_ms if is_queued else None,
            model=task.model,
            spec=task.spec,
            tier=task.tier,
            is_new=True,
        )
        self._drafts[task.id] = draft
        self._new_tasks.append((task, draft, change))
        for needed in task.depends_on:
            if (other := self._drafts.get(needed)) is not None:
                other.is_needed = True
        self._move(None, state)
        kind = _TOLD_QUEUED if is_queued else EventKind.TASK_BLOCKED
        self._facts.append((kind, change.at_ms, task.id, None, None, self._told_of(task.title, change.by)))

    def _told_of(self, title: str, by: str) -> dict[str, Any]:
        """The facts of a new task; those of one submission that are called alike share them."""
        last = self._last_new
        if last[0] != title or last[1] != by:
            last = self._last_new = title, by, told({"title": title, "by": by})
        return last[2]

    # --- attempts -----------------------------------------------------------------------------------------------------

    async def _claim(self, change: c.Claim) -> c.Claimed | c.Unwilling | c.Buried | c.Ready:
        draft = await self._draft(change.task)
        if draft is None or draft.state != QUEUED or draft.ready_ms is not None:
            raise StaleTask(change.task, QUEUED, TaskState(draft.state) if draft else None)
        if (ready := elsewhere(draft, change)) is not None:
            return ready
        # What must never be given away is refused here, whoever asks and whatever he believes: a task that has taken
        # too many agents along, and anything at all to an agent that takes no new work, or is welcomed elsewhere.
        if draft.epoch >= MAX_DEATHS and len(deaths := await self._deaths(change.task)) >= MAX_DEATHS:
            return await self._bury(change, deaths)
        if (refusal := self._unwilling(draft, change)) is not None:
            return refusal
        if draft.spec is None:
            await self._read_specs((change.task,))
        return self._give(change, draft)

    def _give(self, change: c.Claim, draft: Draft) -> c.Claimed:
        """The task is its agent's from now on."""
        draft.state, draft.epoch, draft.agent, draft.hub = ASSIGNED, draft.epoch + 1, change.agent, change.hub
        draft.started_ms, draft.reason, draft.is_claimed = None, "", True
        draft.model = change.model or draft.model
        self._change(draft)
        self._claimed.append(draft)
        place = (change.agent, change.host, change.boot, change.at_ms, change.placement)
        self._new_attempts.append((change.task, draft.epoch, *place))
        self._move(QUEUED, ASSIGNED)
        facts = self._where.get((change.host, change.hub))
        if facts is None:
            facts = self._where[change.host, change.hub] = told({"host": change.host, "hub": change.hub or None})
        self._facts.append((_TOLD_ASSIGNED, change.at_ms, change.task, change.agent, draft.epoch, facts))
        assert draft.spec is not None, "every task has a spec"
        assert draft.tier is not None, "every task has a tier"
        return c.Claimed(
            epoch=draft.epoch,
            spec=draft.spec,
            tier=draft.tier,
            retries=draft.retries,
            infra_failures=draft.infra_failures,
            max_retries=draft.max_retries,
        )

    def _unwilling(self, draft: Draft, change: c.Claim) -> c.Unwilling | None:
        """Why the agent takes nothing: it drains, it leaves, or it was welcomed elsewhere, or again, since."""
        row = self._willing[change.agent]
        if row is None:
            return None
        draining, leaving, hub, boot = row
        elsewhere = (hub is not None and hub != change.hub) or boot != change.boot
        if not (draining or leaving or elsewhere):
            return None
        ready = c.Ready(class_text=draft.class_text, place=(draft.priority, draft.id))
        return c.Unwilling(ready=ready, draining=bool(draining), leaving=bool(leaving), elsewhere=elsewhere)

    async def _bury(self, change: c.Claim, deaths: tuple[c.Death, ...]) -> c.Buried:
        """A dead letter, with the evidence: whoever looks at it sees which agents died of it, and when."""
        died = "; ".join(f"attempt {d.epoch}: {d.agent} on {d.host}, boot {d.boot}" for d in deaths)
        reason = f"{len(deaths)} sidecars died while they ran it, so it may be what kills them ({died})"[:2_000]
        await self._end(change.task, QUEUED, TaskState.DEAD, reason, change.at_ms)
        facts: dict[str, Any] = {"reason": reason, "failure": FailureClass.INFRA, "deaths": to_builtins(deaths)}
        self._tell(EventKind.TASK_DEAD, change.at_ms, change.task, **facts)
        await self._settle(change.task, TaskState.DEAD, change.at_ms)
        return c.Buried(reason=reason, deaths=deaths)

    async def _held(self, change: PutArtifact | c.Accept | c.Advance | c.Finish) -> Draft:
        """The task of an attempt that counts and that this hub answers for.

        Raises:
            StaleAttempt: it does not count, or another hub answers for it.
        """
        draft = await self._draft(change.task)
        if draft is None or draft.epoch != change.epoch or draft.hub != change.hub or draft.state not in HELD_STATES:
            raise _stale(change.task, change.epoch, change.hub, draft)
        if draft.is_new or draft.is_claimed:
            await self._write()
        return draft

    async def _accept(self, change: c.Accept) -> None:
        draft = await self._held(change)
        if draft.state != RUNNING:  # else it was accepted before: the message came twice
            self._begin_work(draft, change)

    def _begin_work(self, draft: Draft, change: c.Accept | c.Finish | End) -> None:
        draft.state, draft.started_ms = RUNNING, change.at_ms
        self._change(draft)
        self._moved[change.task] = (change.task, change.epoch, _ACCEPTED, change.at_ms)
        self._move(ASSIGNED, RUNNING)
        self._facts.append((_TOLD_STARTED, change.at_ms, change.task, None, change.epoch, NOTHING))

    async def _advance(self, change: c.Advance) -> None:
        draft = await self._held(change)
        if draft.started_ms is None:
            raise _stale(change.task, change.epoch, change.hub, draft)
        self._moved[change.task] = (change.task, change.epoch, change.state, draft.started_ms)
        kind = EventKind.TASK_VERIFYING if change.state is AttemptState.VERIFYING else EventKind.TASK_ITERATION
        facts = {"iteration": change.iteration, "detail": change.detail}
        self._tell(kind, change.at_ms, change.task, draft.agent, change.epoch, **facts)

    async def _finish_plain(self, change: End) -> c.Finished:
        return await self._finish(in_full(change))

    async def _finish(self, change: c.Finish) -> c.Finished:
        draft = await self._held(change)
        if change.accepts and draft.state != RUNNING:
            self._begin_work(draft, change)
        if change.next is QUEUED:
            draft.class_text = await self._class_after(change, draft)
        self._close(change, draft)
        again: c.Ready | None = None
        ready: tuple[c.Ready, ...] = ()
        if change.next is QUEUED and change.ready_ms is None:
            again = c.Ready(class_text=draft.class_text, place=(draft.priority, change.task))
        if draft.is_needed and change.next in FINAL_STATES:
            await self._write()
            ready = await self._settle(change.task, change.next, change.at_ms)
        return c.Finished(again=again, ready=ready) if again or ready else c.NOTHING_ELSE

    def _close(self, change: c.Finish | End, draft: Draft) -> None:
        """The attempt has ended, and its task is what becomes of it."""
        is_final, agent, was_started = change.next in FINAL_STATES, draft.agent, draft.started_ms is not None
        self._moved.pop(change.task, None)
        is_accepted = is_final and change.result is not None and not (change.is_refused or change.is_proof)
        self._ended.append(_end_of_attempt(change, draft, is_accepted=is_accepted))
        if change.offers and change.attempt is AttemptState.PASSED:
            self._new_pulls[change.task] = (change.task, change.epoch, change.at_ms)
        draft.state, draft.hub = change.next, None
        draft.retries, draft.infra_failures, draft.reason = change.retries, change.infra_failures, change.reason
        draft.execution_ok, draft.verified, draft.ready_ms = change.execution_ok, change.verified, change.ready_ms
        if change.next is QUEUED:
            draft.agent, draft.queued_ms, draft.ended_ms = None, change.at_ms, None
        elif is_final:
            draft.ended_ms = change.at_ms
            self._over.append(change.task)
        self._change(draft)
        self._move(RUNNING if was_started else ASSIGNED, change.next)
        if change.attempt is _LOST:
            self._tell(EventKind.ATTEMPT_LOST, change.at_ms, change.task, agent, change.epoch, reason=change.reason)
        facts = self._told_at_end(change)
        self._facts.append((ENDS[change.next], change.at_ms, change.task, agent, change.epoch, facts))

    def _told_at_end(self, change: c.Finish | End) -> dict[str, Any]:
        """The facts of the event that tells of the end; ends that are told alike share them."""
        if change.reason or change.failure is not None or change.ready_ms is not None:
            facts = {"reason": change.reason, "failure": change.failure, "ready_ms": change.ready_ms, **change.facts}
            return told(facts)
        known = self._alike.get(id(change.facts))
        if known is None or known[0] is not change.facts:
            if len(self._alike) >= MOST_ALIKE:
                self._alike.clear()
            known = self._alike[id(change.facts)] = change.facts, told(change.facts)
        return known[1]

    async def _class_after(self, change: c.Finish, draft: Draft) -> str:
        """Where the task queues from now on: alone, if too many of its agents have died."""
        if change.queue and not change.is_refused:
            return change.queue
        deaths = 0 if change.orderly else len(await self._deaths(change.task))
        return routing.class_after(draft.class_text, deaths, change.avoid)

    # --- beside the work ----------------------------------------------------------------------------------------------

    async def _append_log(self, change: c.AppendLog) -> None:
        attempt = (change.task, change.epoch)
        last = self._last_places[attempt]
        # What a sidecar sends to a hub that has restarted, the hub before it may have stored and not acknowledged.
        if last is not None and change.offset <= last:
            await self._write()
            if await self._row("find_log", *attempt, change.offset, change.stream, change.text) is not None:
                return
        draft = await self._draft(change.task)
        if draft is None or draft.epoch != change.epoch or draft.hub != change.hub:
            raise _stale(change.task, change.epoch, change.hub, draft)
        self._last_places[attempt] = change.offset
        self._new_logs.append((*attempt, change.at_ms, change.offset, change.stream, change.text))

    async def _record(self, change: c.Record) -> None:
        self._note(change.event)


def elsewhere(draft: Draft, change: c.Claim) -> c.Ready | None:
    """Where a task waits that could be given away, if that is another class than the claim was made for.

    Its place in a hub's memory was older than its row. Given away like that, work would pass for its own proof.
    """
    if change.class_text == draft.class_text or not change.class_text:
        return None
    return c.Ready(class_text=draft.class_text, place=(draft.priority, draft.id))


def in_full(end: End) -> c.Finish:
    """The same end as any other says it."""
    return c.Finish(
        at_ms=end.at_ms,
        task=end.task,
        epoch=end.epoch,
        attempt=end.attempt,
        next=end.next,
        retries=end.retries,
        infra_failures=end.infra_failures,
        result=end.result,
        execution_ok=end.execution_ok,
        facts=end.facts,
        hub=end.hub,
        is_charged=False,
        accepts=end.accepts,
        offers=end.offers,
    )


def _stale(task: str, epoch: int, hub: int, draft: Draft | None) -> StaleAttempt:
    if draft is None:
        return StaleAttempt(task, epoch, None, None)
    if draft.epoch == epoch and draft.state in HELD_STATES and draft.hub != hub:
        return LostAttempt(task, epoch, draft.state, draft.hub)
    return StaleAttempt(task, epoch, draft.epoch, draft.state)


def _end_of_attempt(change: c.Finish | End, draft: Draft, *, is_accepted: bool) -> tuple[Any, ...]:
    return (
        change.task,
        change.epoch,
        change.attempt,
        is_accepted,
        change.failure,
        change.reason,
        change.result,
        change.at_ms,
        change.orderly,
        draft.started_ms,
    )
