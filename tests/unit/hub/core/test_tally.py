"""The promises of the counts: what the log says, however it is read, and no more kept than is bounded."""

from random import Random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hub.core.tally import (
    EXECUTE,
    LOAD,
    MOST_ASIDE,
    MOST_MODELS,
    PLACE,
    QUEUE,
    TOTAL,
    VERIFY,
    Span,
    Tally,
    recalled,
    spent,
)
from protocol.events import Event, EventKind
from protocol.ids import IdMaker
from protocol.model import Timing, Usage

K = EventKind
T0 = 1_700_000_000_000


class Log:
    """Events with their numbers, as a store would have given them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.make = IdMaker(Random(7).getrandbits).make

    def tell(self, kind: EventKind, at_ms: int, task: str | None = None, **facts: object) -> None:
        event = Event(kind=kind, at_ms=T0 + at_ms, seq=len(self.events) + 1, task=task, facts=facts)
        self.events.append(event)

    def task(self, at_ms: int = 0, *, wait: int = 5, place: int = 2, work: int = 100, **facts: object) -> str:
        """A whole task, without checks."""
        task = self.make(T0 + at_ms)
        self.tell(K.TASK_QUEUED, at_ms, task, by="token", title="t")
        self.tell(K.TASK_ASSIGNED, at_ms + wait, task, host="h")
        self.tell(K.TASK_STARTED, at_ms + wait + place, task)
        told = {"execution_ok": True, "model": "none", **facts}
        self.tell(K.TASK_COMPLETED, at_ms + wait + place + work, task, **told)
        return task

    def counted(self) -> Tally:
        tally = Tally()
        tally.add(self.events)
        return tally


def test_a_task_is_counted_once_with_the_time_of_each_phase() -> None:
    log = Log()
    task = log.make(T0)
    log.tell(K.TASK_QUEUED, 0, task, by="token")
    log.tell(K.TASK_ASSIGNED, 1_000, task)
    log.tell(K.TASK_STARTED, 1_200, task)
    log.tell(K.TASK_VERIFYING, 4_200, task, iteration=1)
    log.tell(K.TASK_ITERATION, 5_200, task, iteration=2)
    log.tell(K.TASK_VERIFYING, 7_200, task, iteration=2)
    log.tell(K.TASK_COMPLETED, 7_700, task, execution_ok=True, verified=True, model="none")

    tally = log.counted()
    sums = {phase: (tally.span(phase).count, tally.span(phase).sum_ms) for phase in (QUEUE, PLACE, EXECUTE, VERIFY)}
    assert sums == {QUEUE: (1, 1_000), PLACE: (1, 200), EXECUTE: (1, 5_000), VERIFY: (1, 1_500)}
    assert tally.span(TOTAL).sum_ms == 7_700
    assert (tally.submitted, tally.happened(K.TASK_COMPLETED)) == (1, 1)
    assert tally.of("verdicts") == {("passed",): 1}
    assert not tally.counts.hands


def test_a_task_that_is_queued_again_is_no_new_one_and_waits_from_then_on() -> None:
    log = Log()
    task = log.make(T0)
    log.tell(K.TASK_BLOCKED, 0, task, by="token")
    log.tell(K.TASK_QUEUED, 9_000, task)  # what it depended on has completed
    log.tell(K.TASK_ASSIGNED, 9_500, task)
    log.tell(K.ATTEMPT_LOST, 10_000, task)
    log.tell(K.TASK_REQUEUED, 10_000, task, failure="infra", ready_ms=T0 + 12_000)
    log.tell(K.TASK_ASSIGNED, 12_300, task)
    log.tell(K.TASK_DEAD, 13_000, task, failure="infra")
    log.tell(K.TASK_QUEUED, 20_000, task, by="me", retried=True)
    log.tell(K.TASK_ASSIGNED, 20_100, task)

    tally = log.counted()
    assert tally.submitted == 1
    assert (tally.span(QUEUE).count, tally.span(QUEUE).sum_ms) == (3, 500 + 300 + 100)
    assert tally.of("retries") == {("infra",): 1}
    assert tally.of("failures") == {("dead", "infra"): 1}
    assert not tally.counts.waits


def test_what_models_have_used_is_counted_by_model_and_no_more_models_than_anybody_reads() -> None:
    log = Log()
    for number in range(MOST_MODELS + 5):
        log.task(number, model=f"m{number}", input_tokens=10, output_tokens=3, cost_usd=0.25, load_s=1.5)

    tally = log.counted()
    assert tally.of("tokens")["m7", "input"] == 10
    assert tally.of("tokens")["other", "output"] == 15
    assert tally.total("cost_micro") == 250_000 * (MOST_MODELS + 5)
    assert len(tally.of("tokens")) == 2 * (MOST_MODELS + 1)
    assert tally.span(LOAD).count == MOST_MODELS + 5


def test_the_proof_of_anothers_work_does_not_count_that_work_twice() -> None:
    log = Log()
    log.task(model="m", input_tokens=10, output_tokens=3, cost_usd=0.1, proven_by=2)

    assert log.counted().of("tokens") == {}


def test_an_end_tells_tokens_only_of_work_with_a_model() -> None:
    timing = Timing(model_s=3.0, load_s=1.25)
    assert spent(Usage()) == {}
    assert spent(Usage(model="m", input_tokens=7, timing=timing)) == {
        "input_tokens": 7,
        "output_tokens": 0,
        "load_s": 1.25,
    }


@given(st.lists(st.integers(0, 400), max_size=12), st.randoms(use_true_random=False))
def test_however_often_counting_was_interrupted_the_counts_are_those_of_the_log(
    works: list[int], chance: Random
) -> None:
    log = Log()
    for number, work in enumerate(works):
        log.task(number * 50, work=work, verified=bool(work % 2))
    log.events.sort(key=lambda event: (event.at_ms, event.seq))
    for number, event in enumerate(log.events):
        log.events[number] = Event(
            kind=event.kind, at_ms=event.at_ms, seq=number + 1, task=event.task, facts=event.facts
        )

    whole, parts, done = log.counted(), Tally(), 0
    while done < len(log.events):
        step = chance.randint(1, 5)
        parts.add(log.events[max(0, done - 2) : done + step])  # what is counted already is passed over
        parts, done = recalled(parts.kept()), done + step
    assert recalled(whole.kept()).counts == recalled(parts.kept()).counts


@given(st.lists(st.integers(1, 3 * MOST_ASIDE), max_size=6))
def test_whoever_asks_is_told_what_all_events_say_that_came_however_few_or_many(steps: list[int]) -> None:
    log = Log()
    for number in range(MOST_ASIDE):
        log.task(number, verified=True)
    tally, done = Tally(), 0
    for step in steps:
        tally.add(log.events[done : done + step])
        done = min(done + step, len(log.events))
        seen = log.events[:done]
        for kind in K.TASK_QUEUED, K.TASK_STARTED, K.TASK_COMPLETED:
            assert tally.happened(kind) == sum(event.kind is kind for event in seen)
        ended = tally.happened(K.TASK_COMPLETED)
        assert (tally.seq, tally.counts.seq, tally.span(TOTAL).count) == (done, done, ended)
        assert len(tally.counts.hands) == tally.happened(K.TASK_ASSIGNED) - ended


def test_ends_are_counted_alike_whether_they_are_told_with_the_same_facts_or_not() -> None:
    shared, apart = Log(), Log()
    alike = {"execution_ok": True, "verified": False, "model": "none"}
    for number in range(20):
        shared.task(number, work=number)
        apart.task(number, work=number, **alike)
        last = shared.events[-1]
        facts = alike if number % 3 else {**alike, "model": "m", "input_tokens": 2}
        apart.events[-1] = Event(
            kind=last.kind, at_ms=last.at_ms, seq=last.seq, task=apart.events[-1].task, facts=dict(facts)
        )
        shared.events[-1] = Event(kind=last.kind, at_ms=last.at_ms, seq=last.seq, task=last.task, facts=facts)

    assert msgspec.to_builtins(shared.counted().counts) == msgspec.to_builtins(apart.counted().counts)
    assert shared.counted().of("verdicts") == {("failed",): 20}
    assert shared.counted().of("tokens")["m", "input"] == 14


def test_a_quantile_is_within_a_tenth_and_differences_are_those_of_what_came_between() -> None:
    span = Span()
    for ms in range(1, 1_001):
        span.add(ms)
    before = span.copy()
    for _ in range(100):
        span.add(60_000)

    assert abs((before.quantile_s(0.5) or 0) - 0.5) < 0.05
    assert abs((before.quantile_s(0.95) or 0) - 0.95) < 0.095
    between = span.since(before)
    assert (between.count, between.sum_ms) == (100, 6_000_000)
    assert abs((between.quantile_s(0.95) or 0) - 60) < 6
    assert Span().quantile_s(0.5) is None


def test_a_clock_that_went_back_makes_no_time_below_nothing() -> None:
    span = Span()
    span.add(-5)

    assert (span.sum_ms, span.quantile_s(0.5)) == (0, 0.001)


def test_hubs_that_were_lost_and_agents_that_are_there_twice_are_remembered() -> None:
    log = Log()
    for boot in range(12):
        log.tell(K.HUB_LOST, boot, hub=boot)
    log.events.append(Event(kind=K.AGENT_CLONED, at_ms=T0 + 99, seq=13, agent="a"))

    counts = log.counted().counts
    assert list(counts.lost_hubs) == list(range(2, 12))
    assert counts.clones == {"a": T0 + 99}
