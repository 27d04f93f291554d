"""What each verb does to the rows of a store, and the events it writes: the same for every database.

A verb finds out whether it may before it writes anything, so a refusal leaves nothing behind. Nobody else writes
between the begin and the commit of its transaction (SQLite has one writer, PostgreSQL holds a lock), so what a verb has
read stays true until the commit.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec import to_builtins

from hub.core import routing
from hub.core.policy import LONGEST_DELAY_S
from hub.core.task import HELD_STATES, LIVE_STATES, TASK_EDGES
from hub.store import changes as c
from hub.store import records
from hub.store.batches import Statements
from hub.store.hub_verbs import HubVerbs
from hub.store.keeping import Keeping
from hub.store.refusals import LostAttempt
from protocol.errors import (
    BadInput,
    Conflict,
    IdempotencyConflict,
    IllegalTransition,
    NotFound,
    Problem,
    StaleAttempt,
    StaleTask,
)
from protocol.events import EventKind
from protocol.limits import MAX_DEATHS
from protocol.model import FINAL_STATES, AttemptState, FailureClass, TaskState

_LONGEST_DELAY_MS: Final = int(LONGEST_DELAY_S * 1000)

ENDS: Final = {
    TaskState.COMPLETED: EventKind.TASK_COMPLETED,
    TaskState.FAILED: EventKind.TASK_FAILED,
    TaskState.DEAD: EventKind.TASK_DEAD,
    TaskState.CANCELLED: EventKind.TASK_CANCELLED,
    TaskState.QUEUED: EventKind.TASK_REQUEUED,
}


class Verbs(HubVerbs, Keeping):
    """The verbs; :meth:`batch` and :meth:`each` apply them."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        self._verbs |= {
            c.AddTasks: self._add_tasks,
            c.Claim: self._claim,
            c.Exonerate: self._exonerate,
            c.Accept: self._accept,
            c.Advance: self._advance,
            c.Finish: self._finish,
            c.Cancel: self._cancel,
            c.Retry: self._retry,
            c.Promote: self._promote,
            c.Expire: self._expire,
            c.ReadClass: self._read_class,
            c.AppendLog: self._append_log,
            c.AddToken: self._add_token,
            c.RevokeToken: self._revoke_token,
            c.TouchTokens: self._touch_tokens,
            c.PutEndpoint: self._put_endpoint,
            c.RemoveEndpoint: self._remove_endpoint,
            c.Record: self._record,
        }

    # --- small steps --------------------------------------------------------------------------------------------------

    async def _stale(self, task: str, epoch: int, hub: int) -> StaleAttempt:
        row = await self._row("task_state", task)
        if row is None:
            return StaleAttempt(task, epoch, None, None)
        if row[1] == epoch and row[0] in HELD_STATES and row[5] != hub:
            return LostAttempt(task, epoch, row[0], row[5])
        return StaleAttempt(task, epoch, row[1], row[0])

    # --- submission ---------------------------------------------------------------------------------------------------

    async def _add_tasks(self, change: c.AddTasks) -> c.Added:
        if change.key is not None and (row := await self._row("find_key", change.key)):
            if bytes(row[0]) != change.digest:
                raise IdempotencyConflict(change.key)
            ids = tuple(json.loads(row[1]))
            return c.Added(ids=ids, states=(), replayed=True)
        states = tuple(await self._first_states(change.tasks))
        await self._write_tasks(change, states)
        ids = tuple(task.id for task in change.tasks)
        if change.key is not None:
            await self._run("add_key", change.key, change.digest, json.dumps(ids), change.at_ms)
        return c.Added(ids=ids, states=states)

    async def _first_states(self, tasks: Sequence[c.NewTask]) -> Iterable[TaskState]:
        problems: list[Problem] = []
        states: list[TaskState] = []
        fresh: set[str] = set()
        for number, task in enumerate(tasks):
            state = task.state
            for place, needed in enumerate(task.depends_on):
                row = ("queued",) if needed in fresh else await self._row("task_state", needed)
                path = f"depends_on[{place}]" if len(tasks) == 1 else f"tasks[{number}].depends_on[{place}]"
                if row is None:
                    problems.append(Problem(path, f"no task {needed}"))
                elif row[0] in {TaskState.FAILED, TaskState.CANCELLED, TaskState.DEAD}:
                    problems.append(Problem(path, f"task {needed} is {row[0]}: it will never complete"))
                elif row[0] != TaskState.COMPLETED:
                    state = TaskState.BLOCKED
            states.append(state)
            fresh.add(task.id)
        if problems:
            raise BadInput(problems, "task")
        return states

    async def _write_tasks(self, change: c.AddTasks, states: Sequence[TaskState]) -> None:
        begun = list(zip(change.tasks, states, strict=True))
        await self._many(
            "add_task",
            [
                (
                    task.id,
                    state.value,
                    task.class_text,
                    task.priority,
                    task.title,
                    json.dumps(task.labels) if task.labels else "{}",
                    task.parent,
                    task.max_retries,
                    task.ready_ms,
                    task.expires_ms,
                    task.complete_by_ms,
                    change.at_ms,
                    change.at_ms if state is TaskState.QUEUED else None,
                )
                for task, state in begun
            ],
        )
        await self._many("add_spec", [(task.id, task.spec, task.tier, change.by) for task in change.tasks])
        waiting = [task for task, state in begun if state is TaskState.BLOCKED]
        await self._many("add_dependency", [(task.id, needed) for task in waiting for needed in task.depends_on])
        for task, state in begun:
            self._move(None, state)
            kind = EventKind.TASK_QUEUED if state is TaskState.QUEUED else EventKind.TASK_BLOCKED
            self._tell(kind, change.at_ms, task.id, title=task.title, by=change.by)

    # --- attempts -----------------------------------------------------------------------------------------------------

    async def _claim(self, change: c.Claim) -> c.Claimed | c.Unwilling | c.Buried:
        row = await self._row("claim", change.task, change.agent, MAX_DEATHS, change.hub, change.boot)
        if row is None:
            return await self._not_claimed(change)
        epoch, retries, infra_failures, max_retries, spec, tier = row
        await self._run(
            "add_attempt",
            change.task,
            epoch,
            change.agent,
            change.host,
            change.boot,
            change.at_ms,
            change.placement,
        )
        self._move(TaskState.QUEUED, TaskState.ASSIGNED)
        facts = {"host": change.host, "hub": change.hub or None}
        self._tell(EventKind.TASK_ASSIGNED, change.at_ms, change.task, change.agent, epoch, **facts)
        return c.Claimed(
            epoch=epoch,
            spec=spec,
            tier=tier,
            retries=retries,
            infra_failures=infra_failures,
            max_retries=max_retries,
        )

    async def _not_claimed(self, change: c.Claim) -> c.Unwilling | c.Buried:
        """Why the claim found nothing to take: the task has moved on, is a killer, or its agent takes nothing."""
        found = await self._row("task", change.task)
        task = records.task(found) if found else None
        if task is None or task.state is not TaskState.QUEUED or task.ready_ms is not None:
            raise StaleTask(change.task, TaskState.QUEUED, task.state if task else None)
        deaths = tuple(
            c.Death(epoch=epoch, agent=agent, host=host, boot=boot)
            for epoch, agent, host, boot in await self._rows("deaths", change.task)
        )
        if len(deaths) >= MAX_DEATHS:
            return await self._bury(change, deaths)
        if (agent := await self._row("unwilling", change.agent, change.hub, change.boot)) is not None:
            ready = c.Ready(class_text=task.class_text, place=task.place)
            draining, leaving, elsewhere = (bool(value) for value in agent)
            return c.Unwilling(ready=ready, draining=draining, leaving=leaving, elsewhere=elsewhere)
        raise AssertionError("a claim that nothing speaks against finds its row")

    async def _bury(self, change: c.Claim, deaths: tuple[c.Death, ...]) -> c.Buried:
        """A dead letter, with the evidence: whoever looks at it sees which agents died of it, and when."""
        died = "; ".join(f"attempt {d.epoch}: {d.agent} on {d.host}, boot {d.boot}" for d in deaths)
        reason = f"{len(deaths)} sidecars died while they ran it, so it may be what kills them ({died})"[:2_000]
        await self._end(change.task, TaskState.QUEUED, TaskState.DEAD, reason, change.at_ms)
        facts: dict[str, Any] = {"reason": reason, "failure": FailureClass.INFRA, "deaths": to_builtins(deaths)}
        self._tell(EventKind.TASK_DEAD, change.at_ms, change.task, **facts)
        await self._settle(change.task, TaskState.DEAD, change.at_ms)
        return c.Buried(reason=reason, deaths=deaths)

    async def _exonerate(self, change: c.Exonerate) -> None:
        await self._run("exonerate", change.task, change.epoch, change.agent, change.boot)

    async def _accept(self, change: c.Accept) -> None:
        if not await self._changed("accept", change.task, change.epoch, change.at_ms, change.hub):
            row = await self._row("task_state", change.task)
            if row is not None and (row[0], row[1], row[5]) == (TaskState.RUNNING, change.epoch, change.hub):
                return  # accepted before: the message came twice
            raise await self._stale(change.task, change.epoch, change.hub)
        await self._run("start_attempt", change.task, change.epoch, change.at_ms)
        self._move(TaskState.ASSIGNED, TaskState.RUNNING)
        self._tell(EventKind.TASK_STARTED, change.at_ms, change.task, None, change.epoch)

    async def _advance(self, change: c.Advance) -> None:
        row = await self._row("advance_attempt", change.task, change.epoch, change.state.value, change.hub)
        if row is None:
            raise await self._stale(change.task, change.epoch, change.hub)
        kind = EventKind.TASK_VERIFYING if change.state is AttemptState.VERIFYING else EventKind.TASK_ITERATION
        self._tell(
            kind, change.at_ms, change.task, row[0], change.epoch, iteration=change.iteration, detail=change.detail
        )

    async def _finish(self, change: c.Finish) -> c.Finished:
        class_text = await self._class_after(change)
        row = await self._row(
            "finish",
            change.task,
            change.epoch,
            change.next.value,
            change.retries,
            change.infra_failures,
            change.reason,
            change.execution_ok,
            change.verified,
            change.ready_ms,
            change.at_ms,
            change.hub,
            class_text,
        )
        if row is None:
            raise await self._stale(change.task, change.epoch, change.hub)
        class_text, priority, was_running, has_dependents = row
        is_final = change.next in FINAL_STATES
        is_accepted = is_final and change.result is not None
        ended = await self._row(
            "end_attempt",
            change.task,
            change.epoch,
            change.attempt.value,
            is_accepted,
            change.failure.value if change.failure else None,
            change.reason,
            change.result,
            change.at_ms,
            change.orderly,
        )
        agent = ended[0] if ended else None
        self._move(TaskState.RUNNING if was_running else TaskState.ASSIGNED, change.next)
        if change.attempt is AttemptState.LOST:
            self._tell(EventKind.ATTEMPT_LOST, change.at_ms, change.task, agent, change.epoch, reason=change.reason)
        facts = {"reason": change.reason, "failure": change.failure, "ready_ms": change.ready_ms, **change.facts}
        self._tell(ENDS[change.next], change.at_ms, change.task, agent, change.epoch, **facts)
        again = None
        if change.next is TaskState.QUEUED and change.ready_ms is None:
            again = c.Ready(class_text=class_text, place=(priority, change.task))
        ready = await self._settle(change.task, change.next, change.at_ms) if has_dependents else ()
        return c.Finished(again=again, ready=ready)

    async def _class_after(self, change: c.Finish) -> str | None:
        """Where the task queues from now on: alone, if too many of its agents have died; ``None``: it does not."""
        if change.next is not TaskState.QUEUED or (was := await self._row("task_state", change.task)) is None:
            return None
        return routing.class_after(was[3], 0 if change.orderly else len(await self._rows("deaths", change.task)))

    async def _settle(self, task: str, state: TaskState, at_ms: int) -> tuple[c.Ready, ...]:
        """A task has ended: queue those that only waited for it, fail those that can no longer run."""
        if state not in FINAL_STATES:
            return ()
        ready: list[c.Ready] = []
        open_ends = [(task, state)]
        while open_ends:
            ended, how = open_ends.pop()
            for (dependent,) in await self._rows("dependents", ended):
                if how is TaskState.COMPLETED:
                    if await self._row("open_needs", dependent) is None and (
                        row := await self._row("unblock", dependent, at_ms)
                    ):
                        self._move(TaskState.BLOCKED, TaskState.QUEUED)
                        self._tell(EventKind.TASK_QUEUED, at_ms, dependent)
                        if row[2] is None:
                            ready.append(c.Ready(class_text=row[0], place=(row[1], dependent)))
                elif await self._end(
                    dependent, TaskState.BLOCKED, TaskState.FAILED, f"task {ended} is {how.value}", at_ms
                ):
                    facts: dict[str, Any] = {
                        "reason": f"task {ended} is {how.value}",
                        "failure": FailureClass.DEPENDENCY,
                    }
                    self._tell(EventKind.TASK_FAILED, at_ms, dependent, **facts)
                    open_ends.append((dependent, TaskState.FAILED))
        return tuple(ready)

    # --- ending from outside ------------------------------------------------------------------------------------------

    async def _end(self, task: str, was: TaskState, now: TaskState, reason: str, at_ms: int) -> bool:
        if not await self._changed("end_task", task, was.value, now.value, reason, at_ms):
            return False
        self._move(was, now)
        return True

    async def _cancel(self, change: c.Cancel) -> c.Ended:
        row = await self._row("task_state", change.task)
        if row is None:
            raise NotFound("task", change.task)
        was, epoch, agent, class_text, *_ = row
        state = TaskState(was)
        if (state, "cancel") not in TASK_EDGES:
            allowed = tuple(event for from_, event in TASK_EDGES if from_ is state)
            raise IllegalTransition(f"task {change.task}", state, "cancel", allowed)
        reason = change.reason or "cancelled"
        await self._end(change.task, state, TaskState.CANCELLED, reason, change.at_ms)
        await self._end_attempt(
            change.task, epoch, AttemptState.CANCELLED, FailureClass.CANCELLED, reason, change.at_ms
        )
        self._tell(
            EventKind.TASK_CANCELLED, change.at_ms, change.task, agent, epoch or None, reason=reason, by=change.by
        )
        await self._settle(change.task, TaskState.CANCELLED, change.at_ms)
        return c.Ended(task=change.task, was=state, epoch=epoch, agent=agent, class_text=class_text)

    async def _end_attempt(
        self, task: str, epoch: int, state: AttemptState, failure: FailureClass, reason: str, at_ms: int
    ) -> None:
        is_accepted = is_orderly = False
        values = (state.value, is_accepted, failure.value, reason, None, at_ms, is_orderly)
        await self._row("end_attempt", task, epoch, *values)

    async def _expire(self, change: c.Expire) -> c.Expired:
        await self._assert_leads(change.leader)
        ended = []
        for task, was, epoch, agent, class_text, why in await self._rows("expired_tasks", change.at_ms, change.limit):
            state = TaskState(was)
            if not await self._end(task, state, TaskState.FAILED, why, change.at_ms):
                continue  # both deadlines of one task
            await self._end_attempt(task, epoch, AttemptState.CANCELLED, FailureClass.DEADLINE, why, change.at_ms)
            facts = {"reason": why, "failure": FailureClass.DEADLINE}
            self._tell(EventKind.TASK_FAILED, change.at_ms, task, agent, epoch or None, **facts)
            await self._settle(task, TaskState.FAILED, change.at_ms)
            ended.append(c.Ended(task=task, was=state, epoch=epoch, agent=agent, class_text=class_text))
        row = await self._row("next_deadline")
        return c.Expired(ended=tuple(ended), next_ms=row[0] if row else None)

    async def _retry(self, change: c.Retry) -> c.Ready:
        found = await self._row("task_state", change.task)
        if found is None:
            raise NotFound("task", change.task)
        row = await self._row("retry_task", change.task, change.at_ms, routing.class_after(found[3], 0))
        if row is None:
            if found[0] in LIVE_STATES:
                raise IllegalTransition(f"task {change.task}", found[0], "retry", ("wait until it has ended",))
            raise _NotDead(change.task, found[0])
        self._move(TaskState.DEAD, TaskState.QUEUED)
        await self._run("reopen_attempts", change.task)
        self._tell(EventKind.TASK_QUEUED, change.at_ms, change.task, by=change.by, retried=True)
        return c.Ready(class_text=row[0], place=(row[1], change.task))

    # --- time ---------------------------------------------------------------------------------------------------------

    async def _promote(self, change: c.Promote) -> c.Promoted:
        await self._assert_leads(change.leader)
        due = await self._rows("due_tasks", change.at_ms, change.limit, change.at_ms + _LONGEST_DELAY_MS)
        for task, _, _ in due:
            await self._run("promote", task)
            self._tell(EventKind.TASK_READY, change.at_ms, task)
        row = await self._row("next_ready")
        ready = tuple(c.Ready(class_text=text, place=(priority, task)) for task, text, priority in due)
        return c.Promoted(ready=ready, next_ms=row[0] if row else None)

    async def _read_class(self, change: c.ReadClass) -> list[tuple[int, str]]:
        priority, task = change.after or (-1, "")
        found = await self._rows("read_class", change.class_text, priority, task, change.limit)
        return [(place, id_) for place, id_ in found]

    # --- the rest -----------------------------------------------------------------------------------------------------

    async def _append_log(self, change: c.AppendLog) -> None:
        piece = (change.task, change.epoch, change.offset, change.stream, change.text)
        last = await self._row("last_log", change.task, change.epoch)
        # What a sidecar sends to a hub that has restarted, the hub before it may have stored and not acknowledged.
        if last is not None and change.offset <= last[0] and await self._row("find_log", *piece) is not None:
            return
        if not await self._changed(
            "add_log",
            change.task,
            change.epoch,
            change.at_ms,
            change.offset,
            change.stream,
            change.text,
            change.hub,
        ):
            raise await self._stale(change.task, change.epoch, change.hub)

    async def _add_token(self, change: c.AddToken) -> None:
        t = change.token
        await self._run("add_token", t.id, t.role, t.label, t.digest, t.created_ms, t.expires_ms)
        self._events.append(change.event)

    async def _revoke_token(self, change: c.RevokeToken) -> None:
        if not await self._changed("revoke_token", change.id, change.at_ms):
            raise NotFound("token", change.id)
        self._events.append(change.event)

    async def _touch_tokens(self, change: c.TouchTokens) -> None:
        for token, at_ms in change.used.items():
            await self._run("touch_token", token, at_ms)

    async def _put_endpoint(self, change: c.PutEndpoint) -> None:
        e = change.endpoint
        await self._run("put_endpoint", e.id, e.kind, e.url, e.local, e.default_model)
        self._events.append(change.event)

    async def _remove_endpoint(self, change: c.RemoveEndpoint) -> None:
        if not await self._changed("remove_endpoint", change.id):
            raise NotFound("endpoint", change.id)
        self._events.append(change.event)

    async def _record(self, change: c.Record) -> None:
        self._events.append(change.event)


class _NotDead(Conflict):
    """Only a dead letter may be put back; any other final state is final."""

    def __init__(self, task: str, state: str) -> None:
        self.task, self.state = task, state
        super().__init__(task, state)

    def __str__(self) -> str:
        final = f"task {self.task} is {self.state}, which is final"
        return f"{final}; only a dead task can be retried: submit it again instead"
