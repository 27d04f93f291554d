"""Which queries answer "the newest tasks in these states", so that a page costs the same however much else there is.

One query over all tasks, newest first, is right while what it looks for is common. What is rare in a long store it
would look for among millions of rows; each group of states has an index of its own instead, and the pages are merged.
What is narrowed further (words, an agent, a label) is looked for there as long as there are few, else in an index that
holds nothing but what can be asked about. Pure; the caller is ``backend.py``.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from hub.core.task import HELD_STATES
from hub.core.words import folded
from hub.store.store import TaskQuery, TaskRow
from protocol.model import TaskState

LONG_QUEUE: Final = 20_000
"""A queue of so many tasks is not put in order to show its newest: they are among the newest of all."""
FEW: Final = 5_000
"""Of so many tasks each is looked at in full."""
_LAST: Final = "~"
"""Behind every task id."""


class Page(NamedTuple):
    """One query of a list: its name and its values."""

    name: str
    values: tuple[Any, ...]


def pages(query: TaskQuery, counts: Mapping[TaskState, int]) -> list[Page]:
    """The queries whose merged rows begin with the page that is asked for.

    They are in the order in which tasks move, so that one that moves on meanwhile is seen twice, not never.

    Args:
        query: what is asked for.
        counts: about how many tasks there are, by state.
    """
    before, states = query.before or _LAST, query.states or frozenset(TaskState)
    label, words = narrowed(query)
    narrow = (query.agent or None, label, query.limit, words, *_choices(query))
    is_narrow = any(value is not None for value in (narrow[0], label, words, *narrow[4:]))
    if is_narrow and sum(counts.get(state, 0) for state in states) > FEW:
        return [Page("list_sight", (before, json.dumps(sorted(states)), *narrow))]
    if states == frozenset(TaskState):
        return [Page("list_tasks", (query.before, None, *narrow))]
    found = []
    if TaskState.QUEUED in states:
        if counts.get(TaskState.QUEUED, 0) < LONG_QUEUE:
            found.append(Page("list_queued", (before, "queued", *narrow)))
        else:
            found.append(Page("list_tasks", (query.before, json.dumps(["queued"]), *narrow)))
    if held := sorted(states & HELD_STATES):
        found.append(Page("list_held", (before, json.dumps(held), *narrow)))
    others = sorted(states - HELD_STATES - {TaskState.QUEUED})
    return [*found, *(Page("list_settled", (before, state.value, *narrow)) for state in others)]


def of_labels(query: TaskQuery) -> tuple[Any, ...]:
    """The values of ``label_sets``."""
    states = json.dumps(sorted(query.states)) if query.states else None
    return (states, query.agent or None, folded(query.words) or None, *_choices(query))


def narrowed(query: TaskQuery) -> tuple[str | None, str | None]:
    """The label as it stands in its row, and the words as titles are compared; ``None``: not filtered."""
    return json.dumps(dict([query.label]))[1:-1] if query.label else None, folded(query.words) or None


def _choices(query: TaskQuery) -> tuple[str | None, str | None, str | None]:
    priorities = json.dumps(sorted(query.priorities)) if query.priorities else None
    return priorities, json.dumps(sorted(query.tiers)) if query.tiers else None, query.model or None


def merged(rows: Iterable[TaskRow], limit: int) -> list[TaskRow]:
    """The newest of all rows, each task once, as it was seen last."""
    by_id = {row.id: row for row in rows}
    return [by_id[task] for task in sorted(by_id, reverse=True)[:limit]]
