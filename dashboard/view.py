"""What the live page shows, folded from what the hub knows, and what changed between two looks.

Pure: takes rows and events, returns data; asks nobody and reads no clock. Rows are the truth, events only tell that
it is worth looking again, so a page that missed something is right again after the next look. The loop that feeds it
and sends the changes to the browser is ``hub/web/dashboard.py``; the page that applies them is ``static/app.js``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from protocol.api import AgentView, EventView, TaskSummary

EVENTS_KEPT: Final = 50
TASKS_SHOWN: Final = 50


class View(Struct, frozen=True, kw_only=True):
    """The page at one moment.

    ``seq`` is the newest event taken into account; ``queue`` counts tasks by state; ``agents`` go by name, ``tasks``
    and ``events`` newest first.
    """

    seq: int = 0
    queue: Mapping[str, int] = {}
    agents: tuple[AgentView, ...] = ()
    tasks: tuple[TaskSummary, ...] = ()
    events: tuple[EventView, ...] = ()


EMPTY: Final = View()


def fold(
    view: View,
    *,
    seq: int,
    events: Sequence[EventView],
    queue: Mapping[str, int],
    agents: Sequence[AgentView],
    tasks: Sequence[TaskSummary],
) -> View:
    """``view`` after another look. ``events`` come oldest first; those that the view has already are passed over."""
    known = view.events[0].seq if view.events else 0
    fresh = [event for event in events if event.seq > known]
    return View(
        seq=max(seq, known, *(event.seq for event in fresh)),
        queue=queue,
        agents=tuple(agents),
        tasks=tuple(tasks[:TASKS_SHOWN]),
        events=(*reversed(fresh), *view.events)[:EVENTS_KEPT],
    )


def changes(before: View, after: View) -> dict[str, Any]:
    """What a page that shows ``before`` needs to show ``after``; empty if that is nothing.

    Keys, each left out if nothing changed: ``queue`` and ``agents`` (whole), ``tasks`` (rows that are new or differ),
    ``order`` (ids of all rows shown, newest first), ``events`` (the new ones, newest first).
    """
    told: dict[str, Any] = {}
    if after.queue != before.queue:
        told["queue"] = after.queue
    if after.agents != before.agents:
        told["agents"] = after.agents
    had = {task.id: task for task in before.tasks}
    rows = [task for task in after.tasks if had.get(task.id) != task]
    if rows:
        told["tasks"] = rows
    order = [task.id for task in after.tasks]
    if order != [task.id for task in before.tasks]:
        told["order"] = order
    known = before.events[0].seq if before.events else 0
    fresh = [event for event in after.events if event.seq > known]
    if fresh:
        told["events"] = fresh
    return told
