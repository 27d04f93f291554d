from datetime import UTC, datetime
from typing import Any

import msgspec

from dashboard.view import EMPTY, EVENTS_KEPT, TASKS_SHOWN, View, changes, fold
from protocol.api import AgentView, EventView, TaskSummary
from protocol.model import AgentState, TaskState

AT = datetime(2026, 1, 1, tzinfo=UTC)


def task(number: int, state: TaskState = TaskState.QUEUED) -> TaskSummary:
    return msgspec.convert(
        {
            "id": f"{number:026d}",
            "title": f"t{number}",
            "state": state,
            "priority": "normal",
            "agent": None,
            "epoch": 0,
            "execution_ok": None,
            "verified": None,
            "reason": "",
            "labels": {},
            "submitted_at": AT,
            "queued_at": None,
            "started_at": None,
            "ended_at": None,
        },
        TaskSummary,
    )


def event(seq: int) -> EventView:
    return EventView(seq=seq, at=AT, kind="task_queued", task=None, agent=None, epoch=None, facts={})


def agent(state: AgentState) -> AgentView:
    return AgentView(
        name="a",
        state=state,
        host="h",
        slots=1,
        busy=0,
        capabilities=(),
        version="1",
        boot_epoch=1,
        last_seen_at=AT,
        tasks=(),
        draining=False,
    )


def look(view: View = EMPTY, **more: Any) -> View:
    return fold(view, **{"seq": 0, "events": [], "queue": {}, "agents": [], "tasks": [], **more})


def test_events_are_kept_newest_first_and_not_for_ever() -> None:
    view = look(events=[event(seq) for seq in range(1, 41)], seq=40)
    view = look(view, events=[event(seq) for seq in range(41, 61)], seq=60)

    assert [one.seq for one in view.events] == list(range(60, 60 - EVENTS_KEPT, -1))


def test_an_event_that_is_there_already_is_passed_over() -> None:
    view = look(look(events=[event(1), event(2)]), events=[event(2), event(3)])

    assert [one.seq for one in view.events] == [3, 2, 1]


def test_the_position_never_goes_back() -> None:
    assert look(look(seq=5, events=[event(7)]), seq=6).seq == 7


def test_only_the_newest_tasks_are_shown() -> None:
    assert len(look(tasks=[task(number) for number in range(TASKS_SHOWN + 5)]).tasks) == TASKS_SHOWN


def test_a_first_look_tells_everything() -> None:
    view = look(queue={"queued": 1}, agents=[agent(AgentState.IDLE)], tasks=[task(1)], events=[event(1)])

    assert changes(EMPTY, view) == {
        "queue": {"queued": 1},
        "agents": (agent(AgentState.IDLE),),
        "tasks": [task(1)],
        "order": [task(1).id],
        "events": [event(1)],
    }


def test_a_look_at_the_same_tells_nothing() -> None:
    view = look(queue={"queued": 1}, agents=[agent(AgentState.IDLE)], tasks=[task(1)], events=[event(1)])

    assert changes(view, view) == {}


def test_only_rows_that_differ_are_told_again() -> None:
    before = look(tasks=[task(2), task(1)])
    after = look(before, tasks=[task(2), task(1, TaskState.RUNNING)])

    assert changes(before, after) == {"tasks": [task(1, TaskState.RUNNING)]}


def test_a_new_row_comes_with_the_new_order() -> None:
    before = look(tasks=[task(1)])
    after = look(before, tasks=[task(2), task(1)], events=[event(4)])

    assert changes(before, after) == {"tasks": [task(2)], "order": [task(2).id, task(1).id], "events": [event(4)]}
