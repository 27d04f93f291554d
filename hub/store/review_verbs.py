"""The verb of people: what becomes of a task whose work waits for one of them."""

from typing import Final

from hub.core import routing
from hub.core.routing import PROOF, decode_placement
from hub.core.task import TASK_EDGES
from hub.store import records
from hub.store.batches import Statements
from hub.store.changes import Finished, Ready
from hub.store.ending import Endings
from hub.store.review_changes import AGAIN, APPROVED, REJECTED, Review
from protocol.errors import Conflict, IllegalTransition, NotFound
from protocol.events import EventKind
from protocol.model import AttemptState, FailureClass, TaskState

_EVENTS: Final = {APPROVED: "approve", REJECTED: "fail", AGAIN: "answer"}
"""Events of the task's table."""


class ReviewVerbs(Endings):
    """The verb of people."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        self._verbs[Review] = self._review

    async def _review(self, change: Review) -> Finished:
        row = await self._row("task_state", change.task)
        if row is None:
            raise NotFound("task", change.task)
        was, epoch, agent, class_text, priority, *_ = row
        now = TASK_EDGES.get((TaskState(was), _EVENTS[change.verdict]))
        if was != TaskState.WAITING or now is None:
            raise IllegalTransition(f"task {change.task}", was, change.verdict, ("it does not wait for a person",))
        if change.epoch is not None and change.epoch != epoch:
            raise Conflict(
                f"attempt {change.epoch} of task {change.task} does not wait any more; it is attempt {epoch}"
            )
        is_again, is_approved = now is TaskState.QUEUED, change.verdict == APPROVED
        if is_again:
            class_text = routing.class_returned(class_text)
        reason = change.reason or ("" if is_approved else "a person has rejected it")
        times = (change.at_ms, None) if is_again else (None, change.at_ms)
        if is_again:
            await self._run("free_task", change.task)
        await self._run("review_task", change.task, now.value, class_text, reason, *times)
        await self._judge(change, reason, is_approved=is_approved)
        self._lose(change.task)
        self._move(TaskState.WAITING, now)
        kind = EventKind.TASK_APPROVED if is_approved else EventKind.TASK_REJECTED
        self._tell(kind, change.at_ms, change.task, agent, epoch, by=change.by, reason=reason, again=is_again)
        if is_again:
            self._tell(EventKind.TASK_REQUEUED, change.at_ms, change.task, None, None, reason=reason)
            again = Ready(class_text=class_text, place=(priority, change.task))
            return Finished(next=now, again=again)
        ended = EventKind.TASK_COMPLETED if is_approved else EventKind.TASK_FAILED
        self._tell(ended, change.at_ms, change.task, agent, epoch, reason=reason, by=change.by)
        return Finished(next=now, ready=await self._settle(change.task, now, change.at_ms))

    async def _judge(self, change: Review, reason: str, *, is_approved: bool) -> None:
        """Write the decision to the attempt that did the work: the last such one, whatever a restore made of epochs."""
        rows = [records.attempt(row) for row in await self._rows("attempts", change.task)]
        epoch = next(row.epoch for row in reversed(rows) if decode_placement(row.placement).executor != PROOF)
        state, failure = (AttemptState.PASSED, None) if is_approved else (AttemptState.FAILED, FailureClass.VERIFY)
        values = (state.value, is_approved, failure and failure.value, reason)
        await self._run("review_attempt", change.task, epoch, *values)
        await self._run("add_review", change.task, epoch, change.at_ms, change.verdict, change.by, reason)
