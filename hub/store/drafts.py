"""What a batch knows of tasks, and what it will write of them.

The changes of the daily work come by the hundred and touch the same few tables. So the batch reads the rows of all of
them at once, the verbs (``work.py``) decide on these drafts, in the order of the changes, and the batch writes each row
once, as they have left it: an attempt that was accepted and ended in one batch is one row changed, not two. Nobody else
writes between the begin and the commit, so a draft stays true until a statement goes past it; :meth:`Drafts._forget`
and :meth:`Drafts._lose` are for that. Where nobody else writes at all (SQLite) it stays true after the commit, too, and
a task that is submitted, given away and done soon after is never read.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from msgspec import Struct

from hub.core.task import BLOCKED, HELD_STATES
from hub.core.words import folded
from hub.store import changes as c
from hub.store.batches import Batches, Statements, Write
from hub.store.many_changes import End
from hub.store.records import Row

KEPT_DRAFTS: Final = 16_000
"""Drafts of tasks that have not ended that are kept for the next batch; twice as many at times, some 15 MB.

Those in hand, then those that wait longest: theirs is the next turn among equals.
"""
_OF_ATTEMPTS: Final = (End, c.Finish, c.Accept, c.Advance)
KEPT_SPEC_BYTES: Final = 500
"""A spec that is longer is read when its task is given away, and not kept."""


class Draft(Struct, gc=False):
    """A task as the batch will leave it: the columns of ``find_tasks`` in their order, then what the batch adds."""

    id: str
    state: str
    class_text: str
    priority: int
    epoch: int = 0
    agent: str | None = None
    hub: int | None = None
    retries: int = 0
    max_retries: int = 0
    infra_failures: int = 0
    ready_ms: int | None = None
    queued_ms: int | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    execution_ok: bool | None = None
    verified: bool | None = None
    reason: str = ""
    model: str = ""
    is_needed: bool = False
    """Another task was submitted to run after it."""
    spec: bytes | None = None
    tier: bytes | None = None
    is_new: bool = False
    """Its row is not there yet."""
    is_claimed: bool = False
    """The row of its attempt is not there yet."""


class Drafts(Batches):
    """Reads ahead, remembers, writes back."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        self._forget()

    def _forget(self) -> None:
        self._drafts: dict[str, Draft | None] = {}
        self._willing: dict[str, Row | None] = {}
        self._used_keys: dict[str, Row | None] = {}
        self._last_places: dict[tuple[str, int], int | None] = {}
        self._over: list[str] = []  # of tasks that have ended: hardly anybody asks for those again
        self._begin()

    def _start(self) -> None:
        if not self._statements.is_alone:
            self._forget()
            return
        # What a batch has left to write was written, or ``lost``; whatever writes about agents makes it forget them.
        drafts, over = self._drafts, self._over
        if over:
            self._over = []
            for task in over:
                drafts.pop(task, None)
        if len(drafts) > 2 * KEPT_DRAFTS:
            self._drafts = _kept(drafts)
        if self._used_keys:
            self._used_keys = {}
        if self._last_places:
            self._last_places = {}

    def _begin(self) -> None:
        """Nothing waits to be written."""
        self._new_tasks: list[tuple[c.NewTask, Draft, c.AddTasks]] = []
        self._new_keys: list[tuple[Any, ...]] = []
        self._changed_drafts: dict[str, Draft] = {}
        self._new_attempts: list[tuple[Any, ...]] = []
        self._claimed: list[Draft] = []
        self._moved: dict[str, tuple[Any, ...]] = {}
        self._ended: list[tuple[Any, ...]] = []
        self._new_logs: list[tuple[Any, ...]] = []
        self._new_pulls: dict[str, tuple[Any, ...]] = {}

    def _lose(self, task: str) -> None:
        """A statement has changed the row of this task."""
        self._drafts.pop(task, None)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _read_ahead(self, changes: Sequence[c.AnyChange]) -> None:
        tasks: dict[str, bool] = {}  # whether somebody wants to claim it
        new: set[str] = set()  # of this batch: there is nothing to read
        agents, attempts = set(), set()
        keys: set[str] = set()
        for change in changes:
            if isinstance(change, c.Claim):
                tasks[change.task] = True
                agents.add(change.agent)
            elif isinstance(change, _OF_ATTEMPTS):
                tasks.setdefault(change.task, False)
            elif isinstance(change, c.AddTasks):
                _look_at_new(change, tasks, new, keys)
            elif isinstance(change, c.AppendLog):
                tasks.setdefault(change.task, False)
                attempts.add((change.task, change.epoch))
        if not new.issuperset(tasks):
            await self._read_rows(tasks, new)
        if strange := agents.difference(self._willing):
            await self._read_agents(strange)
        if keys:
            await self._read_keys(keys)
        if attempts:
            await self._read_places(attempts)

    async def _read_rows(self, tasks: Mapping[str, bool], new: set[str]) -> None:
        """The rows of tasks that are not known yet, and the specs of those that somebody wants to claim."""
        drafts = self._drafts
        unread, wanted = [], []
        for task, is_wanted in tasks.items():
            if task not in drafts and task not in new:
                unread.append(task)
            if is_wanted:
                wanted.append(task)
        if unread:
            await self._read_tasks(unread)
        if wanted and (bare := [task for task in wanted if (d := drafts.get(task)) is not None and d.spec is None]):
            await self._read_specs(bare)

    async def _read_tasks(self, tasks: Iterable[str]) -> None:
        self._drafts |= dict.fromkeys(tasks)
        for row in await self._find("find_tasks", [(task,) for task in tasks]):
            self._drafts[row[0]] = Draft(*row)

    async def _read_specs(self, tasks: Iterable[str]) -> None:
        for task, spec, tier in await self._find("find_specs", [(task,) for task in tasks]):
            if (draft := self._drafts[task]) is not None:
                draft.spec, draft.tier = spec, tier

    async def _read_agents(self, agents: Iterable[str]) -> None:
        self._willing |= dict.fromkeys(agents)
        for name, *row in await self._find("find_willing", [(agent,) for agent in agents]):
            self._willing[name] = row

    async def _read_keys(self, keys: Iterable[str]) -> None:
        self._used_keys |= dict.fromkeys(keys)
        for key, *row in await self._find("find_keys", [(key,) for key in keys]):
            self._used_keys[key] = row

    async def _read_places(self, attempts: Iterable[tuple[str, int]]) -> None:
        self._last_places |= dict.fromkeys(attempts)
        for task, epoch, place in await self._find("last_logs", list(attempts)):
            self._last_places[task, epoch] = place

    async def _draft(self, task: str) -> Draft | None:
        """A task; ``None``: there is none."""
        if task not in self._drafts:
            await self._read_tasks((task,))
        return self._drafts[task]

    async def _deaths(self, task: str) -> tuple[c.Death, ...]:
        """Attempts with which their agents died, as far as anybody knows."""
        await self._write()
        rows = await self._rows("deaths", task)
        return tuple(c.Death(epoch=epoch, agent=agent, host=host, boot=boot) for epoch, agent, host, boot in rows)

    # --- writing ------------------------------------------------------------------------------------------------------

    def _change(self, draft: Draft) -> None:
        """This draft differs from its row."""
        if not draft.is_new:
            self._changed_drafts[draft.id] = draft

    def _taken(self) -> list[Write]:
        changed, moved, pulls = self._changed_drafts, self._moved, self._new_pulls
        writes = _of_new(self._new_tasks) if self._new_tasks else []
        others: tuple[Write, ...] = (
            ("add_key", self._new_keys),
            ("write_task", [_changed_row(draft) for draft in changed.values()] if changed else ()),
            ("add_attempt", self._new_attempts),
            ("move_attempt", tuple(moved.values()) if moved else ()),
            ("end_attempt", self._ended),
            ("add_log", self._new_logs),
            ("begin_pull", tuple(pulls.values()) if pulls else ()),
        )
        for write in others:
            if write[1]:
                writes.append(write)
        for draft in self._claimed:
            draft.is_claimed = False
            _lighten(draft)
        self._begin()
        return writes


def _look_at_new(change: c.AddTasks, tasks: dict[str, bool], new: set[str], keys: set[str]) -> None:
    """Add to ``new`` the tasks of a submission, to ``tasks`` what they wait for, and to ``keys`` its key."""
    if change.key is not None:
        keys.add(change.kept_key)
    for task in change.tasks:
        new.add(task.id)
        for needed in task.depends_on:
            tasks.setdefault(needed, False)


def _of_new(new: Iterable[tuple[c.NewTask, Draft, c.AddTasks]]) -> list[Write]:
    """What new tasks have to write; they count as written."""
    tasks, specs, needs = [], [], []
    for task, draft, change in new:
        tasks.append(_new_row(task, draft, change))
        specs.append((task.id, task.spec, task.tier, change.by, task.checks))
        if draft.state == BLOCKED:
            needs += [(task.id, needed) for needed in task.depends_on]
        draft.is_new = False
        _lighten(draft)
    writes: list[Write] = [("add_task", tasks), ("add_spec", specs)]
    if needs:
        writes.append(("add_dependency", needs))
    return writes


def _lighten(draft: Draft) -> None:
    """Let go of a long spec: it is in the store, and whoever gives such a task away reads it there."""
    if draft.spec is not None and len(draft.spec) > KEPT_SPEC_BYTES:
        draft.spec = draft.tier = None


def _kept(drafts: dict[str, Draft | None]) -> dict[str, Draft | None]:
    """As many as are kept, of more; none of tasks that do not exist, which would stay for good."""
    there = {task: draft for task, draft in drafts.items() if draft is not None}
    held = {task: draft for task, draft in there.items() if draft.state in HELD_STATES}
    if len(held) > KEPT_DRAFTS:
        return dict(islice(held.items(), len(held) - KEPT_DRAFTS, None))
    return {**held, **dict(islice(there.items(), KEPT_DRAFTS - len(held)))}


def _new_row(task: c.NewTask, draft: Draft, change: c.AddTasks) -> tuple[Any, ...]:
    return (
        draft.id,
        draft.state,
        draft.class_text,
        draft.priority,
        draft.epoch,
        draft.agent,
        draft.hub,
        task.title,
        json.dumps(task.labels) if task.labels else "{}",
        task.parent,
        draft.max_retries,
        draft.ready_ms,
        task.expires_ms,
        task.complete_by_ms,
        change.at_ms,
        draft.queued_ms,
        task.level,
        draft.model,
        None if task.title.isascii() else folded(task.title),
    )


def _changed_row(draft: Draft) -> tuple[Any, ...]:
    return (
        draft.id,
        draft.state,
        draft.class_text,
        draft.epoch,
        draft.agent,
        draft.hub,
        draft.retries,
        draft.infra_failures,
        draft.ready_ms,
        draft.queued_ms,
        draft.started_ms,
        draft.ended_ms,
        draft.execution_ok,
        draft.verified,
        draft.reason,
        draft.model,
    )
