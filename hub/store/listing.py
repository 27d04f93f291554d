"""Which queries answer "the newest tasks in these states", so that a page costs the same however much else there is.

One query over all tasks, newest first, is right while what it looks for is common. What is rare in a long store it
would look for among millions of rows; each group of states has an index of its own instead, and the pages are merged.
Pure; the caller is ``backend.py``.
"""

import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from hub.core.task import HELD_STATES
from hub.store.store import TaskQuery, TaskRow
from protocol.model import TaskState

LONG_QUEUE: Final = 20_000
"""A queue of so many tasks is not put in order to show its newest: they are among the newest of all."""
_LAST: Final = "~"
"""Behind every task id."""


class Page(NamedTuple):
    """One query of a list: its name and its values."""

    name: str
    values: tuple[Any, ...]


def pages(query: TaskQuery, queued: int) -> list[Page]:
    """The queries whose merged rows begin with the page that is asked for.

    They are in the order in which tasks move, so that one that moves on meanwhile is seen twice, not never.

    Args:
        query: what is asked for.
        queued: about how many tasks are queued.
    """
    label = json.dumps(dict([query.label]))[1:-1] if query.label else None
    rest = (query.agent or None, label, query.limit, query.words.lower() or None)
    if not query.states or query.states == frozenset(TaskState):
        return [Page("list_tasks", (query.before, None, *rest))]
    before = query.before or _LAST
    found = []
    if TaskState.QUEUED in query.states:
        if queued < LONG_QUEUE:
            found.append(Page("list_queued", (before, "queued", *rest)))
        else:
            found.append(Page("list_tasks", (query.before, json.dumps(["queued"]), *rest)))
    if held := sorted(query.states & HELD_STATES):
        found.append(Page("list_held", (before, json.dumps(held), *rest)))
    others = sorted(query.states - HELD_STATES - {TaskState.QUEUED})
    return [*found, *(Page("list_settled", (before, state.value, *rest)) for state in others)]


def merged(rows: Iterable[TaskRow], limit: int) -> list[TaskRow]:
    """The newest of all rows, each task once, as it was seen last."""
    by_id = {row.id: row for row in rows}
    return [by_id[task] for task in sorted(by_id, reverse=True)[:limit]]
