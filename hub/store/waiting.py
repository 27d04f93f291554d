"""What waits for a commit: how much of it there is, whose it is, and whether more new tasks may join it.

Only new tasks are ever turned away, and long before memory is short: what agents report, heartbeats bring about and
people decide (cancel, drain) always joins, because refusing it would lose work or control. Its caller is the writer;
new tasks are asked about beforehand (:meth:`Waiting.check`) by ``hub/services/admission.py``.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from hub.store.changes import AddTasks, AnyChange, AppendLog, Finish
from hub.store.hub_changes import RenewHub
from hub.store.many_changes import End, Many, Submissions
from hub.store.store import Done
from protocol.errors import Overloaded, Throttled

MAX_BATCH: Final = 500
"""Changes in one transaction: beyond this the time per commit grows faster than the throughput."""

MAX_BATCH_TASKS: Final = 2_000
"""New tasks in one transaction, if it holds more than one submission: a result must not wait long behind them."""

MAX_BATCH_BYTES: Final = 16 << 20

MAX_WAITING_TASKS: Final = 20_000
"""New tasks that may wait for their commit: some seconds of work for a slow disk."""

MAX_WAITING_BYTES: Final = 64 << 20
"""Bytes of new tasks and of output that may wait."""

SHARE: Final = 0.5
"""Part of both that one caller may have; the rest is for the others."""

MAX_WAITING: Final = 200_000
"""Changes of any kind: only a hub whose disk has stood still for long comes here, and then nothing waits any more."""

_ROW_BYTES: Final = 500
"""What a change or a task costs beside its bulk, roughly."""
_LONGEST_S: Final = 60.0
_Weight = tuple[int, int, int, str]
"""Of a change: new tasks, bytes, how many changes it is, and whose new tasks they are."""
_ROW: Final[_Weight] = (0, _ROW_BYTES, 1, "")


class Item(Struct, frozen=True):
    """One change that waits, and who wants to know its outcome."""

    change: AnyChange
    done: Done | None
    tasks: int
    size_bytes: int
    count: int = 1
    """Changes in it: more than one in a :class:`hub.store.many_changes.Many`."""
    by: str = ""
    """Whose new tasks they are."""


class Waiting:
    """The queue before the disk, with its limits.

    Attributes:
        tasks, size_bytes: new tasks, and bytes of everything, that are not answered yet (the batch in flight too).
        most: changes of any kind that may wait.
    """

    def __init__(self) -> None:
        self.tasks = 0
        self.size_bytes = 0
        self.most = MAX_WAITING
        self._items: deque[Item] = deque()
        self._unanswered = 0
        self._new_of: dict[str, list[int]] = {}  # new tasks of each caller, and their bytes
        self._per_s = 0.0

    def __len__(self) -> int:
        """Changes that wait for a batch."""
        return len(self._items)

    @property
    def unanswered(self) -> int:
        """Changes that wait or are being written."""
        return self._unanswered

    def put(self, change: AnyChange, done: Done | None) -> None:
        """Queue a change; nothing that comes here is refused."""
        kind = type(change)  # by type: to ask a class of structs for its instances costs several times as much
        weigh = _WEIGHTS.get(kind)
        tasks, size_bytes, count, by = _ROW if weigh is None else weigh(change)
        item = Item(change, done, tasks, size_bytes, count, by)
        if kind is RenewHub:
            self._items.appendleft(item)  # a sign of life must not wait behind work
        else:
            self._items.append(item)
        self.size_bytes += size_bytes
        self._unanswered += count
        if tasks:
            self.tasks += tasks
            if (new := self._new_of.get(by)) is None:
                self._new_of[by] = [tasks, size_bytes]
            else:
                new[0] += tasks
                new[1] += size_bytes

    def batch(self) -> list[Item]:
        """Take the next batch, in order; empty if nothing waits."""
        items = self._items
        if len(items) < 2:  # noqa: PLR2004 - nothing, or one alone, which is always a batch
            return [items.popleft()] if items else []
        found: list[Item] = []
        tasks = size_bytes = count = 0
        while items and count < MAX_BATCH:
            item = items[0]
            count += item.count
            tasks += item.tasks
            size_bytes += item.size_bytes
            if found and (tasks > MAX_BATCH_TASKS or size_bytes > MAX_BATCH_BYTES):
                break
            found.append(items.popleft())
        return found

    def answered(self, item: Item) -> None:
        """A change of a batch has its outcome: it costs nothing any more."""
        self.size_bytes -= item.size_bytes
        self._unanswered -= item.count
        if item.tasks:
            self.tasks -= item.tasks
            new = self._new_of[item.by]
            new[0] -= item.tasks
            new[1] -= item.size_bytes
            if not new[0]:
                del self._new_of[item.by]

    def drop(self) -> list[Item]:
        """Take everything that waits, because nothing will be written any more."""
        found = list(self._items)
        self._items.clear()
        return found

    def wrote(self, rows: int, seconds: float) -> None:
        """A batch of so many new tasks and other changes took so long: the next estimates count on it."""
        per_s = rows / max(seconds, 0.001)
        self._per_s = per_s if not self._per_s else 0.7 * self._per_s + 0.3 * per_s

    # --- limits -------------------------------------------------------------------------------------------------------

    def check(self, tasks: int, by: str) -> None:
        """Pass if ``tasks`` new ones of the caller ``by`` may wait with the others.

        Raises:
            Overloaded: too much waits already.
            Throttled: too much of what waits is this caller's.
        """
        if self.tasks + tasks > MAX_WAITING_TASKS or self.size_bytes > MAX_WAITING_BYTES or self.is_full:
            raise Overloaded(f"{self.tasks} new tasks wait for the disk", self.retry_after_s)
        mine = self._new_of.get(by)
        if mine and (mine[0] + tasks > SHARE * MAX_WAITING_TASKS or mine[1] > SHARE * MAX_WAITING_BYTES):
            raise Throttled(f"{mine[0]} new tasks of yours wait for the disk", self.retry_after_s)

    @property
    def is_full(self) -> bool:
        """Not even control may wait any more."""
        return self._unanswered >= self.most

    @property
    def is_behind(self) -> bool:
        """Bulk that nobody's work depends on (live output) should be left out."""
        return self.size_bytes > MAX_WAITING_BYTES

    @property
    def retry_after_s(self) -> float:
        """When half of what waits will have been written, in whole seconds."""
        rows = self.tasks + self._unanswered
        return float(math.ceil(min(_LONGEST_S, max(1.0, rows / 2 / self._per_s if self._per_s else 1.0))))


def _size_of_tasks(change: AddTasks) -> int:
    return sum([len(task.spec) + len(task.tier) + _ROW_BYTES for task in change.tasks])


def _weight_of_tasks(change: AddTasks) -> _Weight:
    return len(change.tasks), _size_of_tasks(change), 1, change.by


def _weight_of_log(change: AppendLog) -> _Weight:
    return 0, len(change.text or "") + _ROW_BYTES, 1, ""  # a text that is none is refused later, alone


def _weight_of_end(change: Finish) -> _Weight:
    return 0, _ROW_BYTES if change.result is None else len(change.result) + _ROW_BYTES, 1, ""


def _weight_of_submissions(change: Submissions) -> _Weight:
    return change.tasks, sum(map(_size_of_tasks, change.changes)), len(change.changes), change.by


def _weight_of_many(change: Many) -> _Weight:
    changes = change.changes
    size_bytes = len(changes) * _ROW_BYTES
    for each in changes:
        if type(each) is End:
            size_bytes += len(each.result)
    return 0, size_bytes, len(changes), ""


_WEIGHTS: Final[dict[type, Callable[[Any], _Weight]]] = {
    AddTasks: _weight_of_tasks,
    AppendLog: _weight_of_log,
    Finish: _weight_of_end,
    Many: _weight_of_many,
    Submissions: _weight_of_submissions,
}
"""Of a change; any other kind costs a row."""
