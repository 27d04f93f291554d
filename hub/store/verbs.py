"""What each verb does to the rows of a store, and the events it writes: the same for every database.

These are the verbs with statements of their own; those of the daily work are in ``work.py``.

A verb finds out whether it may before it writes anything, so a refusal leaves nothing behind. Nobody else writes
between the begin and the commit of its transaction (SQLite has one writer, PostgreSQL holds a lock), so what a verb has
read stays true until the commit.
"""

from typing import Final

import msgspec

from hub.core import routing
from hub.core.policy import LONGEST_DELAY_S
from hub.core.task import LIVE_STATES, TASK_EDGES
from hub.store import changes as c
from hub.store.alert_verbs import AlertVerbs
from hub.store.audit_verbs import AuditVerbs
from hub.store.batches import Statements
from hub.store.hub_changes import PutArtifact
from hub.store.hub_verbs import HubVerbs
from hub.store.join_verbs import JoinVerbs
from hub.store.keeping import Keeping
from hub.store.level_changes import PutLevels
from hub.store.project_verbs import ProjectVerbs
from hub.store.pull_verbs import PullVerbs
from hub.store.rate_changes import DropRates, PutRate
from hub.store.review_verbs import ReviewVerbs
from hub.store.secret_verbs import SecretVerbs
from hub.store.token_changes import AddToken, RevokeToken, TouchTokens
from hub.store.work import Work
from protocol.errors import Conflict, IllegalTransition, NotFound
from protocol.events import EventKind
from protocol.model import PRIORITY_ORDER, AttemptState, FailureClass, TaskState

_LONGEST_DELAY_MS: Final = int(LONGEST_DELAY_S * 1000)


class Verbs(
    Work, AlertVerbs, AuditVerbs, HubVerbs, JoinVerbs, Keeping, ProjectVerbs, PullVerbs, ReviewVerbs, SecretVerbs
):
    """The verbs; :meth:`batch` and :meth:`each` apply them."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        self._verbs |= {
            c.Exonerate: self._exonerate,
            c.Cancel: self._cancel,
            c.Retry: self._retry,
            c.Prioritise: self._prioritise,
            c.Promote: self._promote,
            c.Expire: self._expire,
            c.ReadClass: self._read_class,
            AddToken: self._add_token,
            RevokeToken: self._revoke_token,
            TouchTokens: self._touch_tokens,
            PutRate: self._put_rate,
            DropRates: self._drop_rates,
            PutLevels: self._put_levels,
            PutArtifact: self._put_artifact,
        }

    async def _exonerate(self, change: c.Exonerate) -> None:
        await self._run("exonerate", change.task, change.epoch, change.agent, change.boot)

    # --- ending from outside ------------------------------------------------------------------------------------------

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
        row = await self._row("retry_task", change.task, change.at_ms, routing.class_afresh(found[3]))
        if row is None:
            if found[0] in LIVE_STATES:
                raise IllegalTransition(f"task {change.task}", found[0], "retry", ("wait until it has ended",))
            raise _NotDead(change.task, found[0])
        self._move(TaskState.DEAD, TaskState.QUEUED)
        await self._run("reopen_attempts", change.task)
        self._tell(EventKind.TASK_QUEUED, change.at_ms, change.task, by=change.by, retried=True)
        return c.Ready(class_text=row[0], place=(row[1], change.task))

    async def _prioritise(self, change: c.Prioritise) -> c.Ready | None:
        row = await self._row("prioritise_task", change.task, change.priority)
        if row is None:
            found = await self._row("task_state", change.task)
            if found is None:
                raise NotFound("task", change.task)
            raise IllegalTransition(f"task {change.task}", found[0], "prioritise", ("none, it has ended",))
        state, class_text, ready_ms = row
        name = next(name for name, place in PRIORITY_ORDER.items() if place == change.priority)
        self._tell(EventKind.TASK_PRIORITISED, change.at_ms, change.task, priority=name, by=change.by)
        is_ready = state == TaskState.QUEUED and ready_ms is None
        return c.Ready(class_text=class_text, place=(change.priority, change.task)) if is_ready else None

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

    async def _add_token(self, change: AddToken) -> None:
        t = change.token
        scope = msgspec.json.encode(t.scope).decode()
        await self._run("add_token", t.id, t.role, t.label, t.digest, t.created_ms, t.expires_ms, scope)
        self._note(change.event)

    async def _revoke_token(self, change: RevokeToken) -> None:
        if not await self._changed("revoke_token", change.id, change.at_ms):
            raise NotFound("token", change.id)
        self._note(change.event)

    async def _touch_tokens(self, change: TouchTokens) -> None:
        for token, at_ms in change.used.items():
            await self._run("touch_token", token, at_ms)

    async def _put_rate(self, change: PutRate) -> None:
        r = change.rate
        await self._run("put_rate", r.subject, r.action, r.limit.per_s, r.limit.burst, r.changed_ms, r.changed_by)
        self._note(change.event)

    async def _drop_rates(self, change: DropRates) -> None:
        if not await self._changed("drop_rates", change.subject, change.action or ""):
            raise NotFound("limit", change.subject or change.action or "")
        self._note(change.event)

    async def _put_levels(self, change: PutLevels) -> None:
        for row in change.levels:
            await self._run("put_level", row.component, row.level, row.changed_ms, row.changed_by)
        for component in change.usual:
            await self._run("drop_level", component)
        self._note(change.event)

    async def _put_artifact(self, change: PutArtifact) -> str:
        draft = await self._held(change)
        values = (change.id, change.task, change.epoch, change.path, change.size_bytes, change.sha256, change.at_ms)
        ((artifact,),) = await self._rows("put_artifact", *values)
        facts = {"artifact": artifact, "path": change.path, "size_bytes": change.size_bytes}
        self._tell(EventKind.ARTIFACT_STORED, change.at_ms, change.task, draft.agent, change.epoch, **facts)
        return str(artifact)


class _NotDead(Conflict):
    """Only a dead letter may be put back; any other final state is final."""

    def __init__(self, task: str, state: str) -> None:
        self.task, self.state = task, state
        super().__init__(task, state)

    def __str__(self) -> str:
        final = f"task {self.task} is {self.state}, which is final"
        return f"{final}; only a dead task can be retried: submit it again instead"
