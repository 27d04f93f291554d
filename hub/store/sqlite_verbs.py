"""What each verb does to the rows of an SQLite store, and the events it writes.

Runs inside the transaction of the writer's batch, in the writer's thread. A verb finds out whether it may before it
writes anything, so a refusal leaves nothing behind.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, cast

import apsw

from hub.core.task import LIVE_STATES, TASK_EDGES
from hub.store import changes as c
from hub.store.queries import queries
from protocol.errors import (
    AgentComError,
    BadInput,
    Conflict,
    IdempotencyConflict,
    IllegalTransition,
    NotFound,
    Problem,
    StaleAttempt,
    StaleTask,
)
from protocol.events import Event, EventKind
from protocol.model import FINAL_STATES, AttemptState, FailureClass, TaskState

ENDS: Final = {
    TaskState.COMPLETED: EventKind.TASK_COMPLETED,
    TaskState.FAILED: EventKind.TASK_FAILED,
    TaskState.DEAD: EventKind.TASK_DEAD,
    TaskState.CANCELLED: EventKind.TASK_CANCELLED,
    TaskState.QUEUED: EventKind.TASK_REQUEUED,
}


class Verbs:
    """Applies changes to one connection; collects events and counts of the batch until :meth:`seal`."""

    def __init__(self, connection: apsw.Connection, last_event: int) -> None:
        self._cursor = connection.cursor()
        self._sql = queries("sqlite")
        self.last_event = last_event
        self._events: list[Event] = []
        self._counts: Counter[TaskState] = Counter()
        self._apply: Final[dict[type, Callable[[Any], c.Outcome]]] = {
            c.AddTasks: self._add_tasks,
            c.Claim: self._claim,
            c.Accept: self._accept,
            c.Advance: self._advance,
            c.Finish: self._finish,
            c.Cancel: self._cancel,
            c.Retry: self._retry,
            c.Promote: self._promote,
            c.Expire: self._expire,
            c.ReadClass: self._read_class,
            c.AppendLog: self._append_log,
            c.PutAgent: self._put_agent,
            c.AddToken: self._add_token,
            c.RevokeToken: self._revoke_token,
            c.TouchTokens: self._touch_tokens,
            c.PutEndpoint: self._put_endpoint,
            c.RemoveEndpoint: self._remove_endpoint,
            c.Record: self._record,
        }

    def begin(self) -> None:
        """A new batch."""
        self._events, self._counts = [], Counter()

    def apply(self, change: c.AnyChange) -> c.Outcome:
        """Apply one change; a refusal is returned, not raised."""
        try:
            return self._apply[type(change)](change)
        except AgentComError as refusal:
            return refusal

    def seal(self) -> list[Event]:
        """Write the batch's events and counts; the events, numbered."""
        numbered = [
            Event(kind=e.kind, at_ms=e.at_ms, seq=seq, task=e.task, agent=e.agent, epoch=e.epoch, facts=e.facts)
            for seq, e in enumerate(self._events, self.last_event + 1)
        ]
        self._cursor.executemany(
            self._sql["add_event"],
            [
                (e.seq, e.at_ms, e.kind.value, e.task, e.agent, e.epoch, json.dumps(e.facts) if e.facts else None)
                for e in numbered
            ],
        )
        for state, n in self._counts.items():
            if n:
                self._cursor.execute(self._sql["add_count"], (state.value, n))
        return numbered

    # --- small steps --------------------------------------------------------------------------------------------------

    def _run(self, name: str, *values: Any) -> apsw.Cursor:
        return self._cursor.execute(self._sql[name], values)

    def _rows(self, name: str, *values: Any) -> list[tuple[Any, ...]]:
        return cast("list[tuple[Any, ...]]", self._cursor.execute(self._sql[name], values).fetchall())

    def _row(self, name: str, *values: Any) -> tuple[Any, ...] | None:
        # Read to the end: a RETURNING statement that is left half-way keeps the transaction from committing.
        rows = self._rows(name, *values)
        return rows[0] if rows else None

    def _changed(self, name: str, *values: Any) -> bool:
        self._cursor.execute(self._sql[name], values)
        return self._cursor.connection.changes() > 0

    def _move(self, was: TaskState | None, now: TaskState) -> None:
        if was is not None:
            self._counts[was] -= 1
        self._counts[now] += 1

    def _tell(
        self,
        kind: EventKind,
        at_ms: int,
        task: str | None = None,
        agent: str | None = None,
        epoch: int | None = None,
        **facts: Any,
    ) -> None:
        kept = {name: value for name, value in facts.items() if value not in (None, "")}
        self._events.append(Event(kind=kind, at_ms=at_ms, task=task, agent=agent, epoch=epoch, facts=kept))

    def _stale(self, task: str, epoch: int) -> StaleAttempt:
        row = self._row("task_state", task)
        return StaleAttempt(task, epoch, row[1] if row else None, row[0] if row else None)

    # --- submission ---------------------------------------------------------------------------------------------------

    def _add_tasks(self, change: c.AddTasks) -> c.Added:
        if change.key is not None and (row := self._row("find_key", change.key)):
            if bytes(row[0]) != change.digest:
                raise IdempotencyConflict(change.key)
            ids = tuple(json.loads(row[1]))
            return c.Added(ids=ids, states=(), replayed=True)
        states = tuple(self._first_states(change.tasks))
        for task, state in zip(change.tasks, states, strict=True):
            self._add_task(change, task, state)
        ids = tuple(task.id for task in change.tasks)
        if change.key is not None:
            self._run("add_key", change.key, change.digest, json.dumps(ids), change.at_ms)
        return c.Added(ids=ids, states=states)

    def _first_states(self, tasks: Sequence[c.NewTask]) -> Iterable[TaskState]:
        problems: list[Problem] = []
        states: list[TaskState] = []
        fresh: set[str] = set()
        for number, task in enumerate(tasks):
            state = task.state
            for place, needed in enumerate(task.depends_on):
                row = ("queued",) if needed in fresh else self._row("task_state", needed)
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

    def _add_task(self, change: c.AddTasks, task: c.NewTask, state: TaskState) -> None:
        queued_ms = change.at_ms if state is TaskState.QUEUED else None
        labels = json.dumps(task.labels) if task.labels else "{}"
        self._run(
            "add_task",
            task.id,
            state.value,
            task.class_text,
            task.priority,
            task.title,
            labels,
            task.parent,
            task.max_retries,
            task.ready_ms,
            task.expires_ms,
            task.complete_by_ms,
            change.at_ms,
            queued_ms,
        )
        self._run("add_spec", task.id, task.spec, task.tier, change.by)
        if state is TaskState.BLOCKED:
            for needed in task.depends_on:
                self._run("add_dependency", task.id, needed)
        self._move(None, state)
        kind = EventKind.TASK_QUEUED if state is TaskState.QUEUED else EventKind.TASK_BLOCKED
        self._tell(kind, change.at_ms, task.id, title=task.title, by=change.by)

    # --- attempts -----------------------------------------------------------------------------------------------------

    def _claim(self, change: c.Claim) -> c.Claimed:
        row = self._row("claim", change.task, change.agent)
        if row is None:
            found = self._row("task_state", change.task)
            raise StaleTask(change.task, TaskState.QUEUED, found[0] if found else None)
        epoch, retries, infra_failures, max_retries = row
        self._run(
            "add_attempt",
            change.task,
            epoch,
            change.agent,
            change.host,
            change.boot,
            change.at_ms,
            change.placement,
        )
        spec, tier = cast("tuple[bytes, bytes]", self._row("spec", change.task))
        self._move(TaskState.QUEUED, TaskState.ASSIGNED)
        self._tell(EventKind.TASK_ASSIGNED, change.at_ms, change.task, change.agent, epoch, host=change.host)
        return c.Claimed(
            epoch=epoch,
            spec=spec,
            tier=tier,
            retries=retries,
            infra_failures=infra_failures,
            max_retries=max_retries,
        )

    def _accept(self, change: c.Accept) -> None:
        if not self._changed("accept", change.task, change.epoch, change.at_ms):
            row = self._row("task_state", change.task)
            if row is not None and row[1] == change.epoch and row[0] == TaskState.RUNNING:
                return  # accepted before: the message came twice
            raise StaleAttempt(change.task, change.epoch, row[1] if row else None, row[0] if row else None)
        self._run("start_attempt", change.task, change.epoch, change.at_ms)
        self._move(TaskState.ASSIGNED, TaskState.RUNNING)
        self._tell(EventKind.TASK_STARTED, change.at_ms, change.task, None, change.epoch)

    def _advance(self, change: c.Advance) -> None:
        row = self._row("advance_attempt", change.task, change.epoch, change.state.value)
        if row is None:
            raise self._stale(change.task, change.epoch)
        kind = EventKind.TASK_VERIFYING if change.state is AttemptState.VERIFYING else EventKind.TASK_ITERATION
        self._tell(
            kind, change.at_ms, change.task, row[0], change.epoch, iteration=change.iteration, detail=change.detail
        )

    def _finish(self, change: c.Finish) -> c.Finished:
        was = self._row("task_state", change.task)
        row = self._row(
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
        )
        if row is None or was is None:
            raise StaleAttempt(change.task, change.epoch, was[1] if was else None, was[0] if was else None)
        is_final = change.next in FINAL_STATES
        is_accepted = is_final and change.result is not None
        ended = self._row(
            "end_attempt",
            change.task,
            change.epoch,
            change.attempt.value,
            int(is_accepted),
            change.failure.value if change.failure else None,
            change.reason,
            change.result,
            change.at_ms,
        )
        agent = ended[0] if ended else None
        self._move(TaskState(was[0]), change.next)
        if change.attempt is AttemptState.LOST:
            self._tell(EventKind.ATTEMPT_LOST, change.at_ms, change.task, agent, change.epoch, reason=change.reason)
        facts = {"reason": change.reason, "failure": change.failure, "ready_ms": change.ready_ms, **change.facts}
        self._tell(ENDS[change.next], change.at_ms, change.task, agent, change.epoch, **facts)
        again = None
        if change.next is TaskState.QUEUED and change.ready_ms is None:
            again = c.Ready(class_text=row[0], place=(row[1], change.task))
        return c.Finished(again=again, ready=self._settle(change.task, change.next, change.at_ms))

    def _settle(self, task: str, state: TaskState, at_ms: int) -> tuple[c.Ready, ...]:
        """A task has ended: queue those that only waited for it, fail those that can no longer run."""
        if state not in FINAL_STATES:
            return ()
        ready: list[c.Ready] = []
        open_ends = [(task, state)]
        while open_ends:
            ended, how = open_ends.pop()
            for (dependent,) in self._rows("dependents", ended):
                if how is TaskState.COMPLETED:
                    if self._row("open_needs", dependent) is None and (row := self._row("unblock", dependent, at_ms)):
                        self._move(TaskState.BLOCKED, TaskState.QUEUED)
                        self._tell(EventKind.TASK_QUEUED, at_ms, dependent)
                        if row[2] is None:
                            ready.append(c.Ready(class_text=row[0], place=(row[1], dependent)))
                elif self._end(dependent, TaskState.BLOCKED, TaskState.FAILED, f"task {ended} is {how.value}", at_ms):
                    facts: dict[str, Any] = {
                        "reason": f"task {ended} is {how.value}",
                        "failure": FailureClass.DEPENDENCY,
                    }
                    self._tell(EventKind.TASK_FAILED, at_ms, dependent, **facts)
                    open_ends.append((dependent, TaskState.FAILED))
        return tuple(ready)

    # --- ending from outside ------------------------------------------------------------------------------------------

    def _end(self, task: str, was: TaskState, now: TaskState, reason: str, at_ms: int) -> bool:
        if not self._changed("end_task", task, was.value, now.value, reason, at_ms):
            return False
        self._move(was, now)
        return True

    def _cancel(self, change: c.Cancel) -> c.Ended:
        row = self._row("task_state", change.task)
        if row is None:
            raise NotFound("task", change.task)
        was, epoch, agent, class_text, _ = row
        state = TaskState(was)
        if (state, "cancel") not in TASK_EDGES:
            allowed = tuple(event for from_, event in TASK_EDGES if from_ is state)
            raise IllegalTransition(f"task {change.task}", state, "cancel", allowed)
        reason = change.reason or "cancelled"
        self._end(change.task, state, TaskState.CANCELLED, reason, change.at_ms)
        self._end_attempt(change.task, epoch, AttemptState.CANCELLED, FailureClass.CANCELLED, reason, change.at_ms)
        self._tell(
            EventKind.TASK_CANCELLED, change.at_ms, change.task, agent, epoch or None, reason=reason, by=change.by
        )
        self._settle(change.task, TaskState.CANCELLED, change.at_ms)
        return c.Ended(task=change.task, was=state, epoch=epoch, agent=agent, class_text=class_text)

    def _end_attempt(
        self, task: str, epoch: int, state: AttemptState, failure: FailureClass, reason: str, at_ms: int
    ) -> None:
        self._row("end_attempt", task, epoch, state.value, 0, failure.value, reason, None, at_ms)

    def _expire(self, change: c.Expire) -> c.Expired:
        ended = []
        for task, was, epoch, agent, class_text, why in self._rows("expired_tasks", change.at_ms, change.limit):
            state = TaskState(was)
            if not self._end(task, state, TaskState.FAILED, why, change.at_ms):
                continue  # both deadlines of one task
            self._end_attempt(task, epoch, AttemptState.CANCELLED, FailureClass.DEADLINE, why, change.at_ms)
            facts = {"reason": why, "failure": FailureClass.DEADLINE}
            self._tell(EventKind.TASK_FAILED, change.at_ms, task, agent, epoch or None, **facts)
            self._settle(task, TaskState.FAILED, change.at_ms)
            ended.append(c.Ended(task=task, was=state, epoch=epoch, agent=agent, class_text=class_text))
        row = self._row("next_deadline")
        return c.Expired(ended=tuple(ended), next_ms=row[0] if row else None)

    def _retry(self, change: c.Retry) -> c.Ready:
        row = self._row("retry_task", change.task, change.at_ms)
        if row is None:
            found = self._row("task_state", change.task)
            if found is None:
                raise NotFound("task", change.task)
            if found[0] in LIVE_STATES:
                raise IllegalTransition(f"task {change.task}", found[0], "retry", ("wait until it has ended",))
            raise _NotDead(change.task, found[0])
        self._move(TaskState.DEAD, TaskState.QUEUED)
        self._run("reopen_attempts", change.task)
        self._tell(EventKind.TASK_QUEUED, change.at_ms, change.task, by=change.by, retried=True)
        return c.Ready(class_text=row[0], place=(row[1], change.task))

    # --- time ---------------------------------------------------------------------------------------------------------

    def _promote(self, change: c.Promote) -> c.Promoted:
        due = self._rows("due_tasks", change.at_ms, change.limit)
        for task, _, _ in due:
            self._run("promote", task)
        row = self._row("next_ready")
        ready = tuple(c.Ready(class_text=text, place=(priority, task)) for task, text, priority in due)
        return c.Promoted(ready=ready, next_ms=row[0] if row else None)

    def _read_class(self, change: c.ReadClass) -> list[tuple[int, str]]:
        priority, task = change.after or (-1, "")
        found = self._rows("read_class", change.class_text, priority, task, change.limit)
        return [(place, id_) for place, id_ in found]

    # --- the rest -----------------------------------------------------------------------------------------------------

    def _append_log(self, change: c.AppendLog) -> None:
        piece = (change.task, change.epoch, change.offset, change.stream, change.text)
        last = self._row("last_log", change.task, change.epoch)
        # What a sidecar sends to a hub that has restarted, the hub before it may have stored and not acknowledged.
        if last is not None and change.offset <= last[0] and self._row("find_log", *piece) is not None:
            return
        if not self._changed(
            "add_log", change.task, change.epoch, change.at_ms, change.offset, change.stream, change.text
        ):
            raise self._stale(change.task, change.epoch)

    def _put_agent(self, change: c.PutAgent) -> None:
        self._run(
            "put_agent",
            change.name,
            change.host,
            change.boot,
            change.slots,
            change.version,
            json.dumps(change.capabilities),
            int(change.draining),
            change.at_ms,
        )
        if change.event is not None:
            self._events.append(change.event)

    def _add_token(self, change: c.AddToken) -> None:
        t = change.token
        self._run("add_token", t.id, t.role, t.label, t.digest, t.created_ms, t.expires_ms)
        self._events.append(change.event)

    def _revoke_token(self, change: c.RevokeToken) -> None:
        if not self._changed("revoke_token", change.id, change.at_ms):
            raise NotFound("token", change.id)
        self._events.append(change.event)

    def _touch_tokens(self, change: c.TouchTokens) -> None:
        for token, at_ms in change.used.items():
            self._run("touch_token", token, at_ms)

    def _put_endpoint(self, change: c.PutEndpoint) -> None:
        e = change.endpoint
        self._run("put_endpoint", e.id, e.kind, e.url, int(e.local), e.default_model)
        self._events.append(change.event)

    def _remove_endpoint(self, change: c.RemoveEndpoint) -> None:
        if not self._changed("remove_endpoint", change.id):
            raise NotFound("endpoint", change.id)
        self._events.append(change.event)

    def _record(self, change: c.Record) -> None:
        self._events.append(change.event)


class _NotDead(Conflict):
    """Only a dead letter may be put back; any other final state is final."""

    def __init__(self, task: str, state: str) -> None:
        self.task, self.state = task, state
        super().__init__(task, state)

    def __str__(self) -> str:
        final = f"task {self.task} is {self.state}, which is final"
        return f"{final}; only a dead task can be retried: submit it again instead"
