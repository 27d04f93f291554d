"""The short way of what most changes are: new tasks, a claim or a good end, of which no special rule says anything.

The verbs of the daily work lie in layers (``work.py``, then the ladder, the clean room, budgets, holds), each of which
may wait for the database, and passing through all of them costs more than what they do. Here it is seen at a glance
that none of them would: then the row is changed at once, by the same steps. Everything else goes the long way.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from hub.core.routing import is_proof
from hub.core.task import HELD_STATES, QUEUED, RUNNING
from hub.store import changes as c
from hub.store.batches import Statements
from hub.store.hold_verbs import Holding
from hub.store.many_changes import End, singly
from hub.store.work import elsewhere
from protocol.limits import MAX_DEATHS

SHORT: Final = 2
"""Changes of a batch that is short: a new task and its claim, or a start and its end."""
SHORT_BYTES: Final = 16_384
"""Of a spec, and of a result."""


class Plain(Holding):
    """All verbs, with a short way for the plainest."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        self._short: dict[type, Callable[[Any], c.Outcome | None]] = {
            c.AddTasks: self._add_at_once,
            c.Claim: self._claim_at_once,
            End: self._end_at_once,
        }

    def is_short(self, batch: Sequence[c.AnyChange]) -> bool:
        """Whether a batch is the plain next step of one task or two: little is written, and next to nothing is read.

        To be asked while nothing is applied.
        """
        if len(batch) > SHORT or len(changes := singly(batch)) > SHORT:
            return False
        new = ""  # the task that the batch begins with
        for change in changes:
            kind = type(change)
            if kind is c.AddTasks:
                if not _is_short_submission(change):
                    return False
                new = change.tasks[0].id
            elif kind is c.Claim:
                if not (_is_plain(change) and (change.task == new or self._is_at_hand(change.task, with_spec=True))):
                    return False
            elif kind is End:
                if not self._is_at_hand(change.task) or len(change.result) > SHORT_BYTES:
                    return False
            elif kind is not c.Accept or not self._is_at_hand(change.task):
                return False
        return True

    def _is_at_hand(self, task: str, *, with_spec: bool = False) -> bool:
        """Whether a task is in mind (``with_spec``), no other waits for its end, and it is no proof of one."""
        draft = self._drafts.get(task)
        if draft is None or draft.is_needed or is_proof(draft.class_text):
            return False
        return not with_spec or draft.spec is not None

    def _at_once(self, change: c.AnyChange) -> c.Outcome | None:
        way = self._short.get(type(change))
        return None if way is None else way(change)

    def _add_at_once(self, change: c.AddTasks) -> c.Added | None:
        if change.key is not None and self._used_keys[change.kept_key] is not None:
            return None
        states = []
        for task in change.tasks:
            if task.depends_on:
                return None
            states.append(task.state)
        return self._add_all(change, tuple(states))

    def _claim_at_once(self, change: c.Claim) -> c.Claimed | None:
        if not _is_plain(change):
            return None
        draft = self._drafts.get(change.task)
        if draft is None or draft.spec is None or draft.state != QUEUED or draft.ready_ms is not None:
            return None
        if draft.epoch >= MAX_DEATHS or is_proof(draft.class_text):
            return None
        if elsewhere(draft, change) is not None or self._unwilling(draft, change) is not None:
            return None
        return self._give(change, draft)

    def _end_at_once(self, change: End) -> c.Finished | None:
        draft = self._drafts.get(change.task)
        if draft is None or draft.epoch != change.epoch or draft.hub != change.hub or draft.state not in HELD_STATES:
            return None
        if draft.is_new or draft.is_claimed or draft.is_needed or is_proof(draft.class_text):
            return None
        if change.accepts and draft.state != RUNNING:
            self._begin_work(draft, change)
        self._close(change, draft)
        return c.NOTHING_ELSE


def _is_short_submission(change: c.AddTasks) -> bool:
    """Whether it is one task that waits for no other."""
    if len(change.tasks) != 1:
        return False
    task = change.tasks[0]
    return not task.depends_on and len(task.spec) <= SHORT_BYTES


def _is_plain(change: c.Claim) -> bool:
    """Whether nothing of earlier attempts goes with it, and it costs nothing."""
    return not change.carries and change.charge is None and change.own_micro is None
