"""The states of a task and every change between them.

All of it is in this table; the store's conditional updates and the diagram in the documentation follow it. A final
state is never left, except a dead letter that a person puts back into the queue.
"""

from typing import Final

from protocol.model import FINAL_STATES, TaskState

BLOCKED, QUEUED, ASSIGNED = TaskState.BLOCKED, TaskState.QUEUED, TaskState.ASSIGNED
RUNNING, WAITING = TaskState.RUNNING, TaskState.WAITING
COMPLETED, FAILED, CANCELLED, DEAD = TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.DEAD

TASK_EDGES: Final[dict[tuple[TaskState, str], TaskState]] = {
    (BLOCKED, "unblock"): QUEUED,
    (BLOCKED, "fail"): FAILED,
    (BLOCKED, "cancel"): CANCELLED,
    (QUEUED, "claim"): ASSIGNED,
    (QUEUED, "fail"): FAILED,
    (QUEUED, "give_up"): DEAD,
    (QUEUED, "cancel"): CANCELLED,
    (QUEUED, "pause"): WAITING,
    (QUEUED, "unproven"): COMPLETED,
    (ASSIGNED, "accept"): RUNNING,
    (ASSIGNED, "complete"): COMPLETED,
    (ASSIGNED, "fail"): FAILED,
    (ASSIGNED, "ask"): WAITING,
    (ASSIGNED, "requeue"): QUEUED,
    (ASSIGNED, "give_up"): DEAD,
    (ASSIGNED, "cancel"): CANCELLED,
    (ASSIGNED, "pause"): WAITING,
    (RUNNING, "ask"): WAITING,
    (RUNNING, "complete"): COMPLETED,
    (RUNNING, "fail"): FAILED,
    (RUNNING, "requeue"): QUEUED,
    (RUNNING, "give_up"): DEAD,
    (RUNNING, "cancel"): CANCELLED,
    (RUNNING, "pause"): WAITING,
    (WAITING, "approve"): COMPLETED,
    (WAITING, "answer"): QUEUED,
    (WAITING, "resume"): QUEUED,
    (WAITING, "fail"): FAILED,
    (WAITING, "cancel"): CANCELLED,
    (DEAD, "retry"): QUEUED,
}

LIVE_STATES: Final = frozenset(TaskState) - FINAL_STATES
HELD_STATES: Final = frozenset({ASSIGNED, RUNNING})
"""States in which an agent holds the task."""


def states_before(event: str) -> frozenset[TaskState]:
    """The states in which ``event`` is allowed."""
    return frozenset(state for state, name in TASK_EDGES if name == event)
