"""The verbs of tasks that people hold up. A queued one waits at once; one in hand as soon as its attempt has ended.

A wish that came too late is no harm: whatever ends the attempt, its task is queued again only if nobody holds it up.
A hold ends where its task waits for a decision instead, and where a dead task is put back; of a task that has ended it
says nothing.
"""

from msgspec.structs import replace

from hub.core.routing import requirements_of
from hub.core.task import HELD_STATES, TASK_EDGES
from hub.store import changes as c
from hub.store.batches import Statements
from hub.store.budget_verbs import Budgeting
from hub.store.hold_changes import EndHold, HeldUp, LetGo, NoTurns, PutHold
from hub.store.records import Row
from hub.store.review_changes import Review
from protocol.errors import Conflict, IllegalTransition, NotFound
from protocol.events import EventKind
from protocol.model import TaskState
from protocol.progress import MODELS_DO, HoldKind


class Holding(Budgeting):
    """All verbs; those that end attempts know of holds."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        self._verbs |= {PutHold: self._put_hold, EndHold: self._end_hold}

    async def _finish(self, change: c.Finish) -> c.Finished:
        finished = await super()._finish(change)
        draft = await self._draft(change.task)
        if draft is not None and draft.state == TaskState.WAITING:  # for a decision, not for whoever holds it up
            await self._run("end_hold", change.task, "", change.at_ms, change.epoch)
        if draft is None or draft.state != TaskState.QUEUED:
            return finished
        hold = await self._row("open_hold", change.task)
        if hold is None:
            return finished
        draft.state, draft.ready_ms, draft.reason = TaskState.WAITING, None, _reason(hold[0], hold[1], hold[2])
        self._change(draft)
        self._move(TaskState.QUEUED, TaskState.WAITING)
        self._tell(EventKind.TASK_PAUSED, change.at_ms, change.task, epoch=change.epoch, how=hold[0], by=hold[1])
        return replace(finished, again=None, next=TaskState.WAITING)

    async def _retry(self, change: c.Retry) -> c.Ready:
        ready = await super()._retry(change)
        await self._run("end_hold", change.task, "", change.at_ms, 0)
        return ready

    async def _requeue_held(self, at_ms: int) -> int:
        held_up = await self._rows("held_up_in_hand")
        held = await super()._requeue_held(at_ms)
        for task, kind, by, reason in held_up:
            await self._run("hold_task", task, _reason(kind, by, reason))
            self._move(TaskState.QUEUED, TaskState.WAITING)
            self._tell(EventKind.TASK_PAUSED, at_ms, task, how=kind, by=by)
        return held - len(held_up)

    async def _review(self, change: Review) -> c.Finished:
        if await self._row("open_hold", change.task) is not None:
            raise Conflict(f"task {change.task} is held up, and there is nothing to decide: resume it, or cancel it")
        return await super()._review(change)

    async def _state(self, task: str, event: str) -> tuple[TaskState, Row]:
        row = await self._row("task_state", task)
        if row is None:
            raise NotFound("task", task)
        state = TaskState(row[0])
        if state in HELD_STATES or (state, event) in TASK_EDGES:
            return state, row
        if (state, event) in {(TaskState.WAITING, "pause"), (TaskState.QUEUED, "resume")}:
            return state, row  # so it is already
        allowed = tuple(name for from_, name in TASK_EDGES if from_ is state)
        raise IllegalTransition(f"task {task}", state, event, allowed)

    async def _put_hold(self, change: PutHold) -> HeldUp:
        state, row = await self._state(change.task, "pause")
        class_text = row[3]
        executor = requirements_of(class_text).executor
        if state in HELD_STATES and executor not in MODELS_DO:
            raise NoTurns(change.task, executor)
        hold = await self._row("open_hold", change.task)
        if state is TaskState.WAITING and hold is None:
            raise Conflict(f"task {change.task} waits for a person already")
        if hold is not None and hold[0] == change.kind and state is not TaskState.QUEUED:
            return HeldUp(was=state, class_text=class_text)
        await self._run("put_hold", change.task, change.kind.value, change.by, change.reason, change.at_ms)
        if state is TaskState.QUEUED:
            reason = _reason(change.kind, change.by, change.reason)
            await self._run("hold_task", change.task, reason)
            self._lose(change.task)
            self._move(TaskState.QUEUED, TaskState.WAITING)
        kind = EventKind.TASK_PAUSING if state in HELD_STATES else EventKind.TASK_PAUSED
        self._tell(kind, change.at_ms, change.task, how=change.kind, by=change.by, reason=change.reason)
        return HeldUp(was=state, class_text=class_text)

    async def _end_hold(self, change: EndHold) -> LetGo:
        state, row = await self._state(change.task, "resume")
        _, epoch, _, class_text, priority, *_ = row
        hold = await self._row("open_hold", change.task)
        let_go = LetGo(was=state, class_text=class_text, priority=priority, epoch=epoch, is_news=hold is not None)
        if hold is None:
            if state is TaskState.WAITING:
                raise Conflict(f"task {change.task} is not paused; it waits for a person to decide about it")
            return let_go
        await self._run("end_hold", change.task, change.note, change.at_ms, epoch)
        self._tell(EventKind.TASK_RESUMED, change.at_ms, change.task, by=change.by, has_note=bool(change.note))
        if state is not TaskState.WAITING:
            return let_go
        ((ready_ms,),) = await self._rows("release_task", change.task, change.at_ms)
        self._lose(change.task)
        self._move(TaskState.WAITING, TaskState.QUEUED)
        return replace(let_go, is_ready=ready_ms is None, ready_ms=ready_ms)


def _reason(kind: str, by: str, reason: str) -> str:
    what = "taken over" if kind == HoldKind.TAKE else "paused"
    return f"{what} by {by}{f': {reason}' if reason else ''}"[:2_000]
