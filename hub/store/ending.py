"""How a task ends, and what its end sets in motion; part of the verbs of ``work.py`` and ``verbs.py``."""

from typing import Any

from hub.store import changes as c
from hub.store.drafts import Drafts
from protocol.events import EventKind
from protocol.model import FINAL_STATES, AttemptState, FailureClass, TaskState


class Endings(Drafts):
    """Ends tasks from outside, and settles those that waited for them. Everything else has to be written before."""

    async def _end(self, task: str, was: TaskState, now: TaskState, reason: str, at_ms: int) -> bool:
        if not await self._changed("end_task", task, was.value, now.value, reason, at_ms):
            return False
        self._lose(task)
        self._move(was, now)
        return True

    async def _end_attempt(
        self, task: str, epoch: int, state: AttemptState, failure: FailureClass, reason: str, at_ms: int
    ) -> None:
        await self._run("end_open_attempt", task, epoch, state.value, failure.value, reason, at_ms)

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
                        self._lose(dependent)
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
