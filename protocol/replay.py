"""What people see of a replay: the life of a task step by step, and its routing decided again."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct

from protocol.model import TaskState


class ReplayVerdict(StrEnum):
    """How a replay ended."""

    SAME = "same"
    DIFFERENT = "different"
    INCOMPLETE = "incomplete"  # the beginning of the log was forgotten


class ReplayStep(Struct, kw_only=True):
    """An event of the task; ``state`` is where the task stood after it."""

    seq: int
    at: datetime
    kind: str
    state: TaskState | None
    epoch: int | None
    agent: str | None
    facts: dict[str, Any]


class ReplayDecision(Struct, kw_only=True):
    """The routing of an attempt, decided again from what was kept of it.

    ``ways``: so many ways were weighed again; 0: nothing is weighed for such work, its agent was one of equals.
    """

    epoch: int
    at: datetime
    same: bool
    then: str
    now: str
    differences: tuple[str, ...]
    ways: int


class Replay(Struct, kw_only=True):
    """A task from its log: what happened, where that leads, and whether it would be decided so again.

    ``replayed`` is the state that the events lead to, ``state`` the one that is stored.
    """

    task: str
    title: str
    state: TaskState
    replayed: TaskState | None
    verdict: ReplayVerdict
    differences: tuple[str, ...]
    steps: tuple[ReplayStep, ...]
    decisions: tuple[ReplayDecision, ...]
