"""What the event log says in numbers: how much of everything has happened, how long it took, what it cost.

A pure fold: the same events give the same counts, whoever folds them and however often it was interrupted, so the
counts of a hub can be recomputed from its log. Times are those of the events. What is kept beside the counts is
bounded: the attempts in hand, and when tasks began to wait whose id does not tell.

Events are only put aside when they come, just when somebody waits for what their commit brings; they are counted many
at a time, and before anybody is told a count. Caller: ``hub/services/counting.py``.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec import Struct

from protocol.events import Event, EventKind
from protocol.ids import TIME_CHARS, made_ms
from protocol.model import TaskResult, Usage

QUEUE, PLACE, LOAD, EXECUTE, VERIFY, TOTAL = "queue", "place", "load", "execute", "verify", "total"
PHASES: Final = (QUEUE, PLACE, LOAD, EXECUTE, VERIFY, TOTAL)
"""Of an attempt: until it was given away; until its agent had it; until its model was in memory (a part of the next
one); until it was done; until it was checked. ``total``: of a task, from its submission to its end."""
STEPS_AN_OCTAVE: Final = 4
BOUNDS_MS: Final = tuple(round(2 ** (step / STEPS_AN_OCTAVE) * 1000) / 1000 for step in range(31 * STEPS_AN_OCTAVE))
"""Upper ends of the buckets of spans: from a millisecond to 12 days, each a fifth longer than the one before."""
MOST_MODELS: Final = 200
OTHER: Final = "other"
"""Name of all models behind the first ``MOST_MODELS``."""
MOST_KEPT: Final = 50_000
"""Tasks of which something is kept while they wait or are in hand."""
MOST_FRESH: Final = 4_096
"""Different durations that are noted before they are put into buckets."""
MOST_ASIDE: Final = 500
"""Events that wait to be counted: what so many take nobody feels (half a millisecond), and of more none is cheaper."""
_kind_of: Final = attrgetter("kind")
_NONE: Final = "none"
_QUEUED, _ASSIGNED, _STARTED = EventKind.TASK_QUEUED, EventKind.TASK_ASSIGNED, EventKind.TASK_STARTED
_COMPLETED, _CANCELLED, _WAITING = EventKind.TASK_COMPLETED, EventKind.TASK_CANCELLED, EventKind.TASK_WAITING
_Key = tuple[str, ...]


class Span(Struct):
    """How long something took: how often, in all, and by bucket of :data:`BOUNDS_MS`."""

    count: int = 0
    sum_ms: int = 0
    buckets: dict[int, int] = {}

    def add(self, ms: int, times: int = 1) -> None:
        """It took so long once (or more often); less than nothing (a clock was set back) is nothing."""
        ms = max(0, ms)
        place = bisect_left(BOUNDS_MS, ms)
        self.count += times
        self.sum_ms += ms * times
        self.buckets[place] = self.buckets.get(place, 0) + times

    def since(self, earlier: "Span") -> "Span":
        """What was added after ``earlier``."""
        buckets = {place: count - earlier.buckets.get(place, 0) for place, count in self.buckets.items()}
        return Span(
            self.count - earlier.count,
            self.sum_ms - earlier.sum_ms,
            {place: count for place, count in buckets.items() if count},
        )

    def copy(self) -> "Span":
        """As it is now."""
        return Span(self.count, self.sum_ms, dict(self.buckets))

    def quantile_s(self, share: float) -> float | None:
        """Seconds within which ``share`` of all took; at most a tenth off. ``None``: there are none."""
        left = share * self.count
        for place in sorted(self.buckets):
            left -= self.buckets[place]
            if left <= 0:
                return middle_s(place)
        return None


def middle_s(place: int) -> float:
    """The middle of a bucket, in seconds."""
    if place == 0:
        return BOUNDS_MS[0] / 1000
    upper = BOUNDS_MS[min(place, len(BOUNDS_MS) - 1)]
    return math.sqrt(upper * BOUNDS_MS[place - 1]) / 1000


class Hand(Struct, gc=False):
    """An attempt in hand: when its phase began, what was executed and checked so far, and what it does now."""

    since_ms: int
    phase: str = PLACE
    execute_ms: int = 0
    verify_ms: int = 0
    heard_ms: int = 0
    """When something was last heard of it."""


class Counts(Struct):
    """All that is counted, and what has to be known to go on counting behind ``seq``.

    ``keyed``: by the name of a count and the values of its labels.
    """

    seq: int = 0
    again: int = 0
    """Tasks that were queued and were not new."""
    events: dict[str, int] = {}
    keyed: dict[str, dict[_Key, float]] = {}
    spans: dict[str, Span] = {}
    hands: dict[str, Hand] = {}
    waits: dict[str, int] = {}
    lost_hubs: dict[int, int] = {}
    """Hubs that ended without a word, and when that was found (Unix ms); the newest ten."""
    clones: dict[str, int] = {}
    """Agents that are there twice, and when that was last seen (Unix ms)."""


class Tally:
    """The counts, kept up with the log."""

    def __init__(self, counts: Counts | None = None) -> None:
        self._counts = counts or Counts()
        for name in PHASES:
            self._counts.spans.setdefault(name, Span())
        self.seq = self._counts.seq
        """Number of the newest event that is counted."""
        self._aside: list[Event] = []  # of these it is the last; they are counted when they are many, or somebody asks
        self._hands, self._waiting = self._counts.hands, self._counts.waits
        self._fresh: dict[str, Counter[int]] = {name: Counter() for name in PHASES}  # milliseconds, not in spans yet
        self._verdicts: Counter[bool | None] = Counter()  # not counted yet
        self._events = Counter(self._counts.events)
        end = self._end
        self._acts: dict[str, Callable[[Event], None]] = {
            EventKind.TASK_READY: self._waits,
            EventKind.TASK_RESUMED: self._waits,
            EventKind.TASK_VERIFYING: self._verifying,
            EventKind.TASK_ITERATION: self._iterates,
            EventKind.TOOL_CALLED: self._heard,
            EventKind.TASK_ANSWERING: self._heard,
            EventKind.TASK_REQUEUED: self._requeued,
            EventKind.TASK_FAILED: end,
            EventKind.TASK_DEAD: end,
            EventKind.TASK_CANCELLED: end,
            EventKind.TASK_WAITING: end,
            EventKind.TASK_FELL_BACK: self._fell_back,
            EventKind.HUB_LOST: self._hub_lost,
            EventKind.AGENT_CLONED: self._cloned,
        }

    @property
    def counts(self) -> Counts:
        """All of them, of every event that was added."""
        self._settle()
        return self._counts

    def add(self, events: Sequence[Event]) -> None:
        """Count these, which follow those that are counted; events that are counted already are passed over."""
        seq = self.seq
        new = events if events and events[0].seq > seq else [event for event in events if event.seq > seq]
        if new:
            self.seq = new[-1].seq
            self._aside += new
            if len(self._aside) >= MOST_ASIDE:
                self._count_all()

    def _count_all(self) -> None:
        aside, self._aside = self._aside, []
        self._events.update(map(_kind_of, aside))
        self._fold(aside)
        if len(self._fresh[QUEUE]) > MOST_FRESH or len(self._fresh[TOTAL]) > MOST_FRESH:
            self._settle()

    def _fold(self, events: Sequence[Event]) -> None:  # noqa: C901 - a call for each event costs as much as what it does
        """What each of these tells, in order; completions, behind which nothing comes of a task, all together.

        The four that every task has come by the hundred and are told apart here; each of the others has its own act.
        """
        hands, waiting, act_of = self._hands, self._waiting, self._acts.get
        queue: list[int] = []
        place: list[int] = []
        completed: list[Event] = []
        plain: dict[str, Any] = {}  # the facts of the last new task: one submission's share them
        known, made = "", 0
        for event in events:
            kind = event.kind
            if kind is _QUEUED:
                if event.facts is not plain and self._is_new(event):
                    plain = event.facts
            elif kind is _COMPLETED:
                completed.append(event)
            elif kind is _STARTED:
                if (hand := hands.get(event.task or "")) is not None:
                    place.append(event.at_ms - hand.since_ms)
                    hand.since_ms, hand.phase = event.at_ms, EXECUTE
            elif kind is _ASSIGNED:
                task, at_ms = event.task or "", event.at_ms
                if (head := task[:TIME_CHARS]) != known:  # those of one submission were made in one moment
                    known, made = head, made_ms(task)
                queue.append(at_ms - ((waiting.pop(task, 0) if waiting else 0) or made))
                if len(hands) < MOST_KEPT:
                    hands[task] = Hand(at_ms)
            elif (act := act_of(kind)) is not None:
                act(event)
        self._fresh[QUEUE].update(queue)
        self._fresh[PLACE].update(place)
        self._complete(completed)

    def _complete(self, events: Sequence[Event]) -> None:
        """These tasks went well."""
        hands, waiting = self._hands, self._waiting
        execute: list[int] = []
        total: list[int] = []
        verdicts: list[bool | None] = []
        alike: dict[str, Any] = {}  # the facts of the last end that told no usage: ends that are told alike share them
        known, made = "", 0
        for event in events:
            task, at_ms, facts = event.task or "", event.at_ms, event.facts
            if (head := task[:TIME_CHARS]) != known:
                known, made = head, made_ms(task)
            total.append(at_ms - made)
            if waiting:
                waiting.pop(task, None)
            if (hand := hands.pop(task, None)) is None:
                continue
            if facts is not alike and _tells_no_usage(facts):
                alike = facts
            if facts is alike and hand.phase == EXECUTE and not hand.verify_ms:
                execute.append(hand.execute_ms + max(0, at_ms - hand.since_ms))
                verdicts.append(facts.get("verified"))
            else:
                self._end_of(hand, at_ms, facts)
        self._fresh[EXECUTE].update(execute)
        self._fresh[TOTAL].update(total)
        self._verdicts.update(verdicts)

    def _settle(self) -> None:
        """Count what was put aside, and put what was noted in passing where it is kept."""
        if self._aside:
            self._count_all()
        for name, fresh in self._fresh.items():
            span = self._counts.spans[name]
            for ms, times in fresh.items():
                span.add(ms, times)
            fresh.clear()
        for verified, times in self._verdicts.items():
            self._count("verdicts", _NONE if verified is None else "passed" if verified else "failed", by=times)
        self._verdicts.clear()
        self._counts.events = {str(kind): count for kind, count in self._events.items()}
        self._counts.seq = self.seq

    def of(self, name: str) -> dict[_Key, float]:
        """The values of a count by its labels."""
        return self.counts.keyed.get(name, {})

    def total(self, name: str) -> float:
        """A count whatever its labels."""
        return sum(self.of(name).values())

    def span(self, phase: str) -> Span:
        """How long a phase took."""
        return self.counts.spans[phase]

    @property
    def submitted(self) -> int:
        """Tasks that were submitted."""
        return self.happened(EventKind.TASK_QUEUED, EventKind.TASK_BLOCKED) - self.counts.again

    def happened(self, *kinds: EventKind) -> int:
        """How often any of these happened."""
        if self._aside:
            self._count_all()
        return sum(self._events[kind] for kind in kinds)

    def kept(self) -> bytes:
        """Everything, for :func:`recalled`."""
        return msgspec.msgpack.encode(self.counts)

    # --- what the events say ------------------------------------------------------------------------------------------

    def _count(self, name: str, *labels: str, by: float = 1) -> None:
        values = self._counts.keyed.setdefault(name, {})
        values[labels] = values.get(labels, 0) + by

    def _is_new(self, event: Event) -> bool:
        """Whether a task that was queued is a new one: only that has a submitter and was never tried."""
        facts = event.facts
        if "by" in facts and "retried" not in facts:
            return True
        self._counts.again += 1
        self._waits(event)
        return False

    def _waits(self, event: Event) -> None:
        if event.task is not None and len(self._waiting) < MOST_KEPT:
            self._waiting[event.task] = event.at_ms

    def _verifying(self, event: Event) -> None:
        self._moves(event, VERIFY)

    def _iterates(self, event: Event) -> None:
        self._moves(event, EXECUTE)

    def _moves(self, event: Event, phase: str) -> None:
        hand = self._hands.get(event.task or "")
        if hand is not None:
            hand.heard_ms = event.at_ms
            if hand.phase != phase:
                _take(hand, event.at_ms)
                hand.phase = phase

    def _heard(self, event: Event) -> None:
        hand = self._hands.get(event.task or "")
        if hand is not None:
            hand.heard_ms = event.at_ms

    def _requeued(self, event: Event) -> None:
        self._end_attempt(event.task or "", event.at_ms, event.facts)
        if (failure := event.facts.get("failure")) is not None:
            self._count("retries", str(failure))
        if event.task is not None and len(self._waiting) < MOST_KEPT:
            self._waiting[event.task] = event.facts.get("ready_ms") or event.at_ms

    def _end(self, event: Event) -> None:
        """A task has ended, and not well; or it waits for a person."""
        kind, task = event.kind, event.task or ""
        self._end_attempt(task, event.at_ms, event.facts)
        if kind is _WAITING:
            return
        self._waiting.pop(task, None)
        if kind is _CANCELLED:
            return
        self._fresh[TOTAL][event.at_ms - made_ms(task)] += 1
        self._count("failures", kind.removeprefix("task_"), str(event.facts.get("failure", "unknown")))

    def _end_attempt(self, task: str, at_ms: int, facts: dict[str, Any]) -> None:
        if (hand := self._hands.pop(task, None)) is not None:
            self._end_of(hand, at_ms, facts)

    def _end_of(self, hand: Hand, at_ms: int, facts: dict[str, Any]) -> None:
        phase, took_ms = hand.phase, max(0, at_ms - hand.since_ms)
        if phase != PLACE:
            self._fresh[EXECUTE][hand.execute_ms + (took_ms if phase == EXECUTE else 0)] += 1
        if hand.verify_ms or phase == VERIFY:
            self._fresh[VERIFY][hand.verify_ms + (took_ms if phase == VERIFY else 0)] += 1
        if "execution_ok" not in facts:
            return
        self._verdicts[facts.get("verified")] += 1
        if not _tells_no_usage(facts):
            self._used(facts)

    def _used(self, facts: dict[str, Any]) -> None:
        model = str(facts["model"])
        known = self._counts.keyed.setdefault("attempts_of_models", {})
        if (model,) not in known and len(known) >= MOST_MODELS:
            model = OTHER
        self._count("attempts_of_models", model)
        self._count("tokens", model, "input", by=facts.get("input_tokens", 0))
        self._count("tokens", model, "output", by=facts.get("output_tokens", 0))
        # In whole millionths, so that the order of adding makes no difference.
        self._count("cost_micro", model, by=round((facts.get("cost_usd") or 0.0) * 1e6))
        if (load_s := facts.get("load_s")) is not None:
            self._fresh[LOAD][round(load_s * 1000)] += 1

    def _fell_back(self, event: Event) -> None:
        facts = event.facts
        lower = "lower" if facts.get("lower") else "higher"
        self._count("fallbacks", str(facts.get("wanted")), str(facts.get("used")), lower)

    def _hub_lost(self, event: Event) -> None:
        lost = self._counts.lost_hubs
        lost[int(event.facts.get("hub", 0))] = event.at_ms
        while len(lost) > 10:  # noqa: PLR2004 - as Counts says
            del lost[next(iter(lost))]

    def _cloned(self, event: Event) -> None:
        clones = self._counts.clones
        clones[event.agent or ""] = event.at_ms
        while len(clones) > MOST_MODELS:
            del clones[next(iter(clones))]


def _tells_no_usage(facts: dict[str, Any]) -> bool:
    """Whether an end tells what came of the work, and of no model that is to be counted.

    What proves the work of another attempt tells that one's usage, which was counted when it ended.
    """
    return "execution_ok" in facts and (facts.get("model", _NONE) == _NONE or "proven_by" in facts)


def _take(hand: Hand, at_ms: int) -> None:
    """The phase of an attempt is over."""
    took_ms = max(0, at_ms - hand.since_ms)
    if hand.phase == EXECUTE:
        hand.execute_ms += took_ms
    elif hand.phase == VERIFY:
        hand.verify_ms += took_ms
    hand.since_ms = at_ms


def told_at_end(result: TaskResult) -> dict[str, object]:
    """What the event of an attempt's end tells of its result; work without a model that ends alike shares it."""
    usage = result.usage
    told = _of_work(result.execution_ok, result.verified, len(result.iterations), usage.model, usage.cost_usd)
    return told if usage.model == _NONE else {**told, **spent(usage)}


@lru_cache(256)
def _of_work(*values: object) -> dict[str, object]:
    return dict(zip(("execution_ok", "verified", "iterations", "model", "cost_usd"), values, strict=True))


def spent(usage: Usage) -> dict[str, object]:
    """What the end of an attempt tells of its tokens, and of the seconds in which its model came into memory."""
    if usage.model == _NONE:
        return {}
    load_s = round(usage.timing.load_s, 3) if usage.timing is not None else 0.0
    return {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens, "load_s": load_s or None}


def recalled(kept: bytes) -> Tally:
    """What :meth:`Tally.kept` told.

    Raises:
        msgspec.DecodeError: it is none of ours, or of another version.
    """
    return Tally(msgspec.msgpack.decode(kept, type=Counts))
