"""The judge of a run: its history (``history.py``) held against the promises; what is broken, in words."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from hub.core.task import TASK_EDGES
from protocol.events import Event, EventKind
from protocol.limits import MAX_INFRA_FAILURES
from protocol.model import FINAL_STATES, TaskState
from tests.simulation.history import MOVES, History, Push, Rest, Span

FIRST: Final = {EventKind.TASK_QUEUED: TaskState.QUEUED, EventKind.TASK_BLOCKED: TaskState.BLOCKED}
MAX_QUOTA: Final = 10
MAX_BYPASSED: Final = 3
"""Tasks that come later in the order of their class and may go before one that is ready: claims that were refused."""


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
