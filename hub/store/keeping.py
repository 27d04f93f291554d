"""The verbs of keeping: forget what is old, remember what was learnt, and that a store was restored.

Each looks again at what its caller found beside the writer: a task that was put back meanwhile, or that another one
waits for by now, stays. None touches a live task. The same for every database. ``verbs.py`` holds the verbs of the
daily work.
"""

import json
from typing import Final

from hub.core.audit import forgotten_note
from hub.core.task import HELD_STATES
from hub.store import keeping_changes as c
from hub.store.batches import Batches, Statements
from hub.store.hub_changes import ForgetProgress, KeepMeasures
from protocol.errors import Conflict, NotFound
from protocol.events import EventKind
from protocol.model import FINAL_STATES, TaskState

EPOCH_MARGIN: Final = 1_000
"""More attempts than a task can have had between a backup and the loss of what came after it."""
EVENT_GAP: Final = 1_000_000_000
BOOT_GAP: Final = 86_400_000
"""Boots are counted in milliseconds of time; a clock that went back a day is still overtaken."""
COMMIT_GAP: Final = 1_000_000_000_000
GAPS: Final = {"hub_boot": BOOT_GAP, "event_seq": EVENT_GAP, "commits": COMMIT_GAP}
RESTORED: Final = "the hub was restored from a backup"


class Keeping(Batches):
    """The verbs of keeping, by the changes that ask for them."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        self._verbs |= {
            c.ForgetTasks: self._forget_tasks,
            c.ForgetLogs: self._forget_logs,
            c.ForgetEvents: self._forget_events,
            c.ForgetKeys: self._forget_keys,
            c.RemoveAgent: self._remove_agent,
            c.KeepSample: self._keep_sample,
            c.Restore: self._restore,
            ForgetProgress: self._forget_progress,
            KeepMeasures: self._keep_measures,
        }

    async def _forget_tasks(self, change: c.ForgetTasks) -> int:
        states = json.dumps(sorted(change.states & FINAL_STATES))
        forgotten = 0
        for task in change.tasks:
            if await self._row("is_needed", task) is not None:
                continue
            row = await self._row("forget_task", task, states, change.ended_before_ms)
            if row is None:
                continue
            names = ("forget_spec", "forget_attempts", "forget_dependencies", "forget_artifacts", "forget_reviews")
            for name in (*names, "forget_hold", "forget_pull"):
                await self._run(name, task)
            await self._run("forget_logs_of", task)
            self._counts[TaskState(row[0])] -= 1
            forgotten += 1
        return forgotten

    async def _forget_logs(self, change: c.ForgetLogs) -> int:
        return await self._statements.changed("forget_logs", change.after, change.through, change.written_before_ms)

    async def _forget_events(self, change: c.ForgetEvents) -> int:
        forgotten = await self._statements.changed("forget_events", change.through)
        await self._run("raise_floor", change.through)
        if forgotten:
            self._notes.append(forgotten_note(change.at_ms, change.through))
        return forgotten

    async def _forget_keys(self, change: c.ForgetKeys) -> int:
        return sum([await self._changed("forget_key", key, change.used_before_ms) for key in change.keys])

    async def _remove_agent(self, change: c.RemoveAgent) -> None:
        if not await self._changed("remove_agent", change.name):
            row = await self._row("find_agent", change.name)
            if row is None:
                raise NotFound("agent", change.name)
            if row[7]:  # forgotten, the name would come back as if it had never been in doubt
                way = f"agentcom agents release {change.name}, once the copy is gone"
                raise Conflict(f"agent {change.name} is in quarantine, because {row[7]}; first: {way}")
            raise Conflict(f"agent {change.name} is connected or has work in hand; stop its sidecar and wait for that")
        self._note(change.event)

    async def _forget_progress(self, change: ForgetProgress) -> None:
        for task in change.tasks:
            await self._run("forget_progress", task)

    async def _keep_measures(self, change: KeepMeasures) -> None:
        await self._many("put_measure", [(m.about, m.name, m.value, change.at_ms) for m in change.measures])
        for about in sorted({measure.about for measure in change.measures}):
            await self._run("forget_measures", about, change.most - 1)

    async def _keep_sample(self, change: c.KeepSample) -> None:
        await self._run("put_sample", change.step_s, change.at_s, change.body)
        await self._run("forget_samples", change.step_s, change.before_s)

    async def _restore(self, change: c.Restore) -> c.Restored:
        await self._run("lose_open_attempts", RESTORED, change.at_ms)
        requeued = await self._requeue_held(change.at_ms)
        await self._run("jump_epochs", EPOCH_MARGIN)
        ((was,),) = await self._rows("last_event")
        for fact, gap in GAPS.items():
            await self._run("jump", fact, gap)
        self._recount()
        await self._run("jump_leaders", EPOCH_MARGIN)
        for name in ("free_agents", "forget_all_hubs", "forget_copied"):
            await self._run(name)
        self._tell(
            EventKind.HUB_RESTORED,
            change.at_ms,
            copied_ms=change.copied_ms,
            last_event=was,
            requeued=requeued,
            epoch_margin=EPOCH_MARGIN,
        )
        return c.Restored(last_event=was, requeued=requeued)

    async def _requeue_held(self, at_ms: int) -> int:
        """Take every task out of its agent's hands; how many run again."""
        counts: dict[TaskState, int] = {TaskState(state): n for state, n in await self._rows("counts")}
        held = sum(counts.get(state, 0) for state in HELD_STATES)
        for state in HELD_STATES:
            self._counts[state] -= counts.get(state, 0)
        self._counts[TaskState.QUEUED] += held
        await self._run("requeue_held", RESTORED, at_ms)
        return held
