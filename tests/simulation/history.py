"""What happened in a run, in true time, and the judge of it.

The world writes down what it can see from outside: what clients asked and were answered, what every commit did at the
moment it was applied, when work was begun and ended where, every push, every page of events that a reader got, and what
was left at the end. :func:`judge` holds that against the promises and returns what is broken, in words. It knows no hub
and no sidecar, so its own tests are histories written by hand.

A run may have excuses: spans in which a machine slept for longer than a lease's margin, or in which two processes had
one name. Nobody can stop work on a machine that does not run, so within an excuse (and only there) work of two epochs
may overlap; what such work reports must still change nothing, and it must not push, unless it had its name taken.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hub.core.task import TASK_EDGES
from hub.store import changes as c
from hub.store.many_changes import End, Many
from protocol import codec
from protocol.events import Event, EventKind
from protocol.limits import MAX_INFRA_FAILURES
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
FIRST: Final = {EventKind.TASK_QUEUED: TaskState.QUEUED, EventKind.TASK_BLOCKED: TaskState.BLOCKED}
MAX_QUOTA: Final = 10
MAX_BYPASSED: Final = 3
"""Tasks that come later in the order of their class and may go before one that is ready: claims that were refused."""


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


def judge(history: History) -> list[str]:
    """Everything that is broken, in words; empty: nothing is."""
    return [
        *history.problems,
        *history.stuck,
        *_keys(history),
        *_granted(history),
        *_results(history),
        *_overlaps(history),
        *_turns(history),
        *_side_effects(history),
        *_streams(history),
        *(_at_rest(history, history.rest) if history.rest is not None else ()),
    ]


# --- clients ----------------------------------------------------------------------------------------------------------


def _keys(history: History) -> Iterator[str]:
    """One set of tasks a key; an answer names them; what nobody can tell was done whole or not at all."""
    stored = Counter(history.stored)
    yield from (f"task {task} was stored {times} times" for task, times in stored.items() if times > 1)
    seen: dict[str, tuple[str, ...]] = {}
    for asked in history.asked:
        if asked.verb != "submit" or asked.answer != "ok":
            continue
        if (before := seen.setdefault(asked.key, asked.tasks)) != asked.tasks:
            yield f"key {asked.key} gave {before}, then {asked.tasks}"
        if len(asked.tasks) != asked.count:
            yield f"key {asked.key}: {asked.count} tasks asked for, {len(asked.tasks)} answered"
        yield from (f"acknowledged task {task} was never stored" for task in asked.tasks if task not in stored)
    for key, sets in history.keys.items():
        if len(sets) > 1:
            yield f"key {key} made {len(sets)} sets of tasks: {sets}"
        answers = {asked.answer for asked in history.asked if asked.key == key and not asked.may_be_doubled}
        if answers == {"fail"}:
            yield f"key {key} was refused and made {sets}"
        counts = {asked.count for asked in history.asked if asked.key == key}
        yield from (f"key {key} made {len(made)} tasks of {counts}" for made in sets if {len(made)} != counts)


# --- attempts ---------------------------------------------------------------------------------------------------------


def _granted(history: History) -> Iterator[str]:
    """Epochs of a task strictly rise; work begins only under an epoch that was granted, and never before that."""
    last: dict[str, int] = {}
    at: dict[tuple[str, int], float] = {}
    for grant in history.grants:
        if grant.epoch <= last.get(grant.task, 0):
            yield f"task {grant.task}: epoch {grant.epoch} granted after {last[grant.task]}"
        last[grant.task] = grant.epoch
        at[grant.task, grant.epoch] = grant.at
    for span in history.spans:
        granted_at = at.get((span.task, span.epoch))
        if granted_at is None or granted_at > span.began:
            yield f"task {span.task} e{span.epoch} began at {span.began:.3f}, granted {granted_at}"
    begun = Counter((span.task, span.epoch) for span in history.spans)
    yield from (f"task {task} e{epoch} was begun {times} times" for (task, epoch), times in begun.items() if times > 1)


def _results(history: History) -> Iterator[str]:
    """At most one result counts (between retries by hand), and it is that of the highest epoch granted by then."""
    reopened = _reopened(history)
    taken: dict[str, float] = {}
    for found in history.accepted:
        highest = max((g.epoch for g in history.grants if g.task == found.task and g.at <= found.at), default=0)
        if found.epoch != highest:
            yield f"task {found.task}: result of e{found.epoch} taken at {found.at:.3f}, e{highest} had been granted"
        if found.author is not None and found.author != found.epoch:
            yield f"task {found.task}: what e{found.author} did was taken as the result of e{found.epoch}"
        before = taken.get(found.task)
        if before is not None and not any(before <= at <= found.at for at in reopened.get(found.task, ())):
            yield f"task {found.task}: a second result taken at {found.at:.3f}, the first at {before:.3f}"
        taken[found.task] = found.at


def _reopened(history: History) -> dict[str, list[float]]:
    """When people put dead letters back into the queue."""
    found: dict[str, list[float]] = {}
    for at, event in history.events.values():
        if event.kind is EventKind.TASK_QUEUED and event.facts.get("retried") and event.task:
            found.setdefault(event.task, []).append(at)
    return found


def _overlaps(history: History) -> Iterator[str]:
    """The work of an epoch has ended before that of a later one begins: its sidecar stops it in time."""
    by_task: dict[str, list[Span]] = {}
    for span in history.spans:
        by_task.setdefault(span.task, []).append(span)
    for task, spans in by_task.items():
        spans.sort(key=lambda span: span.epoch)
        for number, later in enumerate(spans):
            for earlier in spans[:number]:
                ended = earlier.ended if earlier.ended is not None else float("inf")
                if ended > later.began and not _excused(history, earlier, later.began):
                    yield (
                        f"task {task}: work of e{earlier.epoch} at {earlier.process} went on until {ended:.3f},"
                        f" e{later.epoch} began at {later.process} at {later.began:.3f}"
                    )


def _excused(history: History, span: Span | Push, at: float) -> bool:
    """Whether the process of the older attempt could not have known at ``at``, or shortly before."""
    began = span.began if isinstance(span, Span) else 0.0
    return any(
        span.process.startswith(excuse.process)
        and excuse.ended >= began
        and excuse.began <= at
        and (isinstance(span, Span) or excuse.is_push_excused)
        for excuse in history.excuses
    )


def _turns(history: History) -> Iterator[str]:
    """A task that is ready is passed over by a bounded number of those that come after it."""
    for task, times in history.bypassed.items():
        if times > MAX_BYPASSED:
            yield f"task {task} was ready, and {times} that come after it went first"


def _side_effects(history: History) -> Iterator[str]:
    """Nothing is pushed for an attempt when a later one was granted."""
    for push in history.pushes:
        later = [g for g in history.grants if g.task == push.task and g.epoch > push.epoch and g.at < push.at]
        if later and not _excused(history, push, push.at):
            yield (
                f"task {push.task}: e{push.epoch} pushed at {push.at:.3f} from {push.process},"
                f" e{later[0].epoch} had been granted at {later[0].at:.3f}"
            )


# --- events -----------------------------------------------------------------------------------------------------------


def _streams(history: History) -> Iterator[str]:
    """Every page goes on where the cursor stood, without a gap, and tells what the log tells."""
    for reader, pages in history.pages.items():
        read = 0
        for after, numbers in pages:
            if after != read:
                yield f"{reader} asked behind {after} and had read {read}"
            if numbers != list(range(after + 1, after + 1 + len(numbers))):
                yield f"{reader} asked behind {after} and got {numbers[:5]}.."
            read = numbers[-1] if numbers else read


def walk(events: Sequence[Event]) -> tuple[TaskState | None, list[str]]:
    """Where the events of one task lead, and every step that the table of states does not allow."""
    state: TaskState | None = None
    epoch, found = 0, []
    for event in events:
        if event.kind is EventKind.TASK_ASSIGNED:
            if (event.epoch or 0) <= epoch:
                found.append(f"assigned under epoch {event.epoch} after {epoch}")
            epoch = event.epoch or 0
        if event.kind not in MOVES and event.kind not in FIRST:
            continue
        if state is None:
            state = FIRST.get(event.kind)
            if state is None:
                found.append(f"its first event is {event.kind.value}")
                state = TaskState.QUEUED
            continue
        ways = [TASK_EDGES[state, edge] for edge in MOVES.get(event.kind, ()) if (state, edge) in TASK_EDGES]
        if not ways:
            found.append(f"{event.kind.value} (event {event.seq}) in state {state.value}")
            continue
        state = ways[0]
    return state, found


# --- the end ----------------------------------------------------------------------------------------------------------


def _at_rest(history: History, rest: Rest) -> Iterator[str]:
    """When all is quiet everything has ended, and every memory agrees with every other."""
    for asked in history.asked:
        if asked.verb == "submit" and asked.answer == "ok":
            yield from (f"acknowledged task {task} is gone" for task in asked.tasks if task not in rest.states)
        if asked.verb == "cancel" and asked.answer == "ok" and rest.states.get(asked.key) is not TaskState.CANCELLED:
            yield f"task {asked.key} was cancelled and is {rest.states.get(asked.key)}"
    yield from (f"task {t} has not ended: {s.value}" for t, s in rest.states.items() if s not in FINAL_STATES)
    counts = Counter(rest.states.values())
    for state in TaskState:
        if counts[state] != rest.counts.get(state, 0):
            yield f"{rest.counts.get(state, 0)} tasks are counted as {state.value}, there are {counts[state]}"
    yield from (f"the hub still holds {attempt}" for attempt in rest.held)
    yield from (f"the journal of {name} keeps {n} attempts" for name, n in rest.journals.items() if n)
    yield from (f"{name} has {n} reports that nobody took" for name, n in rest.unsent.items() if n)
    yield from (f"{name} still holds {n} attempts" for name, n in rest.inventories.items() if n)
    yield from _log_of_events(history, rest)
    yield from _attempts_at_rest(history, rest)


def _log_of_events(history: History, rest: Rest) -> Iterator[str]:
    numbers = [event.seq for event in rest.events]
    if numbers != list(range(1, len(numbers) + 1)):
        yield "the log of events has a gap"
    kept = {event.seq: event for event in rest.events}
    for seq, (at, event) in history.events.items():
        found = kept.get(seq)
        if found is None or (found.kind, found.task, found.epoch) != (event.kind, event.task, event.epoch):
            yield f"event {seq} ({event.kind.value} {event.task}) was committed at {at:.3f} and is not there any more"
            break
    told: dict[str, list[Event]] = {}
    for event in rest.events:
        if event.task:
            told.setdefault(event.task, []).append(event)
    for task, state in rest.states.items():
        ended_in, found = walk(told.get(task, []))
        yield from (f"task {task}: {problem}" for problem in found)
        if ended_in is not state:
            yield f"task {task}: its events end in {ended_in}, it is {state.value}"


def _attempts_at_rest(history: History, rest: Rest) -> Iterator[str]:
    retried = Counter({task: len(times) for task, times in _reopened(history).items()})
    for task, epochs in rest.epochs.items():
        runs = 1 + retried[task]
        most = runs * (rest.max_retries[task] + 1 + MAX_QUOTA + MAX_INFRA_FAILURES) + history.uncounted[task]
        if len(epochs) > most:
            yield f"task {task} was given out {len(epochs)} times; at most {most} were allowed"
        if len(rest.accepted.get(task, ())) > 1:
            yield f"task {task}: results of {rest.accepted[task]} are all marked as accepted"
        is_done = rest.states.get(task) is TaskState.COMPLETED
        if is_done and rest.accepted.get(task, ()) != epochs[-1:]:
            yield f"task {task} is completed, accepted {rest.accepted.get(task)} of {epochs}"


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
