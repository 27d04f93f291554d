"""The promise of task states: this table and no other change; a final state is never left, except by a person."""

import pytest

from hub.core.task import HELD_STATES, LIVE_STATES, TASK_EDGES, states_before
from protocol.errors import IllegalTransition
from protocol.model import FINAL_STATES, TaskState
from protocol.table import after

TABLE = """
blocked   unblock  queued
blocked   fail     failed
blocked   cancel   cancelled
queued    claim    assigned
queued    fail     failed
queued    give_up  dead
queued    cancel   cancelled
queued    pause    waiting
queued    unproven completed
assigned  accept   running
assigned  complete completed
assigned  fail     failed
assigned  ask      waiting
assigned  requeue  queued
assigned  give_up  dead
assigned  cancel   cancelled
assigned  pause    waiting
running   ask      waiting
running   complete completed
running   fail     failed
running   requeue  queued
running   give_up  dead
running   cancel   cancelled
running   pause    waiting
waiting   approve  completed
waiting   answer   queued
waiting   resume   queued
waiting   fail     failed
waiting   cancel   cancelled
dead      retry    queued
"""
EVENTS = sorted({event for _, event in TASK_EDGES})


def test_the_table_is_this_one() -> None:
    assert [(was.value, event, now.value) for (was, event), now in TASK_EDGES.items()] == [
        tuple(line.split()) for line in TABLE.split("\n") if line
    ]


@pytest.mark.parametrize("state", sorted(FINAL_STATES))
@pytest.mark.parametrize("event", EVENTS)
def test_a_final_state_is_left_only_by_a_person_who_retries_a_dead_letter(state: TaskState, event: str) -> None:
    if (state, event) == (TaskState.DEAD, "retry"):
        assert after(TASK_EDGES, "task", state, event) is TaskState.QUEUED
        return
    with pytest.raises(IllegalTransition):
        after(TASK_EDGES, "task", state, event)


def test_every_live_state_can_be_left_and_every_state_but_the_first_be_reached() -> None:
    assert {was for was, _ in TASK_EDGES} == {*LIVE_STATES, TaskState.DEAD}
    assert set(TASK_EDGES.values()) == set(TaskState) - {TaskState.BLOCKED}


def test_every_live_state_can_be_cancelled_and_nothing_else() -> None:
    assert states_before("cancel") == LIVE_STATES


def test_only_held_tasks_are_completed() -> None:
    assert states_before("complete") == HELD_STATES == {TaskState.ASSIGNED, TaskState.RUNNING}


def test_an_event_nobody_knows_is_allowed_nowhere() -> None:
    assert states_before("explode") == frozenset()
