"""What happened in a run, in true time.

The world writes down what it can see from outside: what clients asked and were answered, what every commit did at the
moment it was applied, when work was begun and ended where, every push, every page of events that a reader got, and what
was left at the end. ``judging.py`` holds that against the promises. Neither knows a hub
or a sidecar, so their own tests are histories written by hand.

A run may have excuses: spans in which a machine slept for longer than a lease's margin, or in which two processes had
one name. Nobody can stop work on a machine that does not run, so within an excuse (and only there) work of two epochs
may overlap; what such work reports must still change nothing, and it must not push, unless it had its name taken.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hub.store import changes as c
from hub.store.many_changes import End, Many
from protocol import codec
from protocol.events import Event, EventKind
from protocol.model import FINAL_STATES, AttemptId, TaskState

MOVES: Final[dict[EventKind, tuple[str, ...]]] = {
    EventKind.TASK_QUEUED: ("unblock", "retry"),
    EventKind.TASK_ASSIGNED: ("claim",),
    EventKind.TASK_STARTED: ("accept",),
    EventKind.TASK_COMPLETED: ("complete",),
    EventKind.TASK_FAILED: ("fail",),
    EventKind.TASK_CANCELLED: ("cancel",),
    EventKind.TASK_REQUEUED: ("requeue",),
    EventKind.TASK_DEAD: ("give_up",),
}
"""Events that move a task, by the edges of the table that they may stand for."""


@dataclass(slots=True)
class Asked:
    """One operation of a client. ``answer`` is ``ok``, ``fail`` (it changed nothing) or ``unknown``."""

    client: str
    verb: str
    key: str
    began: float
    answer: str = "unknown"
    ended: float | None = None
    tasks: tuple[str, ...] = ()
    count: int = 0
    may_be_doubled: bool = False
    """The network may have brought it twice: what was refused may be done by its double."""


@dataclass(slots=True)
class Span:
    """Work on one attempt, in true time; ``ended`` is ``None`` while it goes on."""

    task: str
    epoch: int
    sidecar: str
    process: str
    began: float
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """A side effect of an attempt."""

    task: str
    epoch: int
    sidecar: str
    process: str
    at: float


@dataclass(frozen=True, slots=True)
class Grant:
    """A claim that was committed."""

    task: str
    epoch: int
    agent: str
    at: float


@dataclass(frozen=True, slots=True)
class Accepted:
    """A result that was committed as the task's; ``author`` is the epoch whose work it shows."""

    task: str
    epoch: int
    author: int | None
    at: float


@dataclass(frozen=True, slots=True)
class Excuse:
    """A span in which ``process`` (its name begins so) could not stop its work."""

    process: str
    began: float
    ended: float
    why: str
    is_push_excused: bool = False
    """Not even a check right before a push could have known."""


@dataclass(slots=True)
class Rest:
    """What is left when everything is quiet."""

    states: dict[str, TaskState] = field(default_factory=dict)
    retries: dict[str, int] = field(default_factory=dict)
    max_retries: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, tuple[int, ...]] = field(default_factory=dict)
    epochs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    counts: dict[TaskState, int] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    held: tuple[str, ...] = ()
    """Attempts that the hub still thinks somebody has."""
    journals: dict[str, int] = field(default_factory=dict)
    """Attempts left in the journal, by sidecar."""
    unsent: dict[str, int] = field(default_factory=dict)
    inventories: dict[str, int] = field(default_factory=dict)


class History:
    """Everything that was written down in one run."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.spans: list[Span] = []
        self.pushes: list[Push] = []
        self.grants: list[Grant] = []
        self.accepted: list[Accepted] = []
        self.excuses: list[Excuse] = []
        self.events: dict[int, tuple[float, Event]] = {}
        self.keys: dict[str, list[tuple[str, ...]]] = {}
        """Task sets that were stored, by the key that their client sent (tasks carry it as the label ``op``)."""
        self.stored: list[str] = []
        self.uncounted: Counter[str] = Counter()
        """Ends that use up nothing, by task (a sidecar that was leaving said no)."""
        self.pages: dict[str, list[tuple[int, list[int]]]] = {}
        """By reader: the cursor it asked with, and the numbers it got."""
        self.bypassed: Counter[str] = Counter()
        """How many tasks of its class, later in its order, were given out while a task was ready."""
        self._batches = 0
        self._places: dict[str, tuple[str, int, str]] = {}
        self._ready: dict[str, int] = {}  # in which batch each became so
        self.rest: Rest | None = None
        self.stuck: list[str] = []
        self.problems: list[str] = []

    def began(self, attempt: AttemptId, process: str, at: float) -> Span:
        """Work has begun."""
        span = Span(attempt.task, attempt.epoch, attempt.sidecar, process, at)
        self.spans.append(span)
        return span

    def pushed(self, attempt: AttemptId, process: str, at: float) -> None:
        """The world has seen what an attempt has made."""
        self.pushes.append(Push(attempt.task, attempt.epoch, attempt.sidecar, process, at))

    def applied(
        self, at: float, batch: Sequence[c.AnyChange], outcomes: Sequence[c.Outcome], events: Sequence[Event]
    ) -> None:
        """A batch was committed."""
        self._batches += 1
        for change, outcome in _each(batch, outcomes):
            match change, outcome:
                case c.AddTasks(), c.Added(replayed=False):
                    self.stored += outcome.ids
                    self._places |= {task.id: (task.class_text, task.priority, task.id) for task in change.tasks}
                    self.keys.setdefault(change.tasks[0].labels.get("op", ""), []).append(outcome.ids)
                case c.Claim(), c.Claimed():
                    self.grants.append(Grant(change.task, outcome.epoch, change.agent, at))
                    self._given_out(change.task)
                case c.Finish() | End(), c.Finished():
                    if change.next in FINAL_STATES and change.result is not None:
                        author = _author(codec.decode_result(change.result).output)
                        self.accepted.append(Accepted(change.task, change.epoch, author, at))
                    if change.reason.startswith("draining"):
                        self.uncounted[change.task] += 1
                    if change.avoid:
                        self._places.pop(change.task, None)  # it is of another class from now on: not of those agents
        for event in events:
            self.events[event.seq] = (at, event)
            self._note_readiness(event)

    def _given_out(self, task: str) -> None:
        """Count for whom that was not their turn. Of what the last batch has made ready nobody could know yet."""
        self._ready.pop(task, None)
        if (place := self._places.get(task)) is None:
            return
        for other, since in self._ready.items():
            theirs = self._places[other]
            if theirs[0] == place[0] and theirs < place and since <= self._batches - 2:
                self.bypassed[other] += 1

    def _note_readiness(self, event: Event) -> None:
        if event.task is None or event.task not in self._places:
            return
        if event.kind is EventKind.ATTEMPT_LOST:
            del self._places[event.task]  # its class may change from now on
            self._ready.pop(event.task, None)
        elif event.kind is EventKind.TASK_READY or (
            event.kind in {EventKind.TASK_QUEUED, EventKind.TASK_REQUEUED} and not event.facts.get("ready_ms")
        ):
            self._ready[event.task] = self._batches
        elif event.kind in MOVES:
            self._ready.pop(event.task, None)


def _each(batch: Sequence[c.AnyChange], outcomes: Sequence[c.Outcome]) -> Iterator[tuple[c.AnyChange, c.Outcome]]:
    for change, outcome in zip(batch, outcomes, strict=True):
        if isinstance(change, Many):
            yield from zip(change.changes, outcome, strict=True)
        else:
            yield change, outcome


def _author(output: str) -> int | None:
    """Results of simulated work say ``task epoch sidecar``; those of no work at all say nothing."""
    words = output.split()
    return int(words[1]) if len(words) == 3 else None


def figures(history: History) -> dict[str, Any]:
    """What a run was about, in numbers."""
    rest = history.rest
    return {
        "tasks": len(history.stored),
        "attempts": len(history.grants),
        "pushes": len(history.pushes),
        "events": len(history.events),
        "states": dict(Counter(state.value for state in rest.states.values())) if rest else {},
    }
