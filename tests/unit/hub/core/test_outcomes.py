"""The promises of learning: outcomes move the odds as far as they are known, old ones fade, money and time add up."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.core.outcomes import (
    CLIMBED,
    FIRST,
    GUESSES,
    HALF_LIFE_MS,
    HARDER,
    MAX_RECORDS,
    Outcome,
    Outcomes,
    Record,
    ToResult,
    Try,
    risk_s,
    stage_of,
    topic_of,
)
from protocol.choice import Effort, Rung
from protocol.model import Context, Strategy, TaskSpec, Tier

TOPIC: Final = "agent/standard/python"
LOCAL: Final = Try(model="small", strategy=Strategy.LOCAL_LLM, tier=Tier.STANDARD)
CLOUD: Final = Try(model="claude", strategy=Strategy.CLOUD_LLM, tier=Tier.STANDARD)


def seen(passes: int, fails: int, *, model: str = "small", topic: str = TOPIC, at_ms: int = 0) -> Record:
    """A record of so many outcomes of 10 s and 1 cent each."""
    record = Record(topic=topic, model=model, stage=FIRST)
    for passed in [True] * passes + [False] * fails:
        record = record.plus(Outcome(passed=passed, seconds=10.0, usd=0.01, tokens=100), at_ms)
    return record


@pytest.mark.parametrize(
    "spec, topic",
    [
        (TaskSpec(prompt="x"), "chat/standard/any"),
        (TaskSpec(prompt="x", context=Context(files=("a.py", "b.py", "c.md"))), "chat/standard/python"),
        (TaskSpec(prompt="x", save_as="notes.md"), "chat/standard/text"),
        (TaskSpec(prompt="x", context=Context(files=("Makefile", "lib.rs"))), "chat/standard/rust"),
        (TaskSpec(prompt="x", labels={"kind": "bugfix"}), "chat/standard/any/bugfix"),
        (TaskSpec(prompt="x", labels={"kind": "Anything / at all"}), "chat/standard/any"),
    ],
)
def test_a_topic_is_executor_tier_language_and_kind(spec: TaskSpec, topic: str) -> None:
    assert topic_of(spec, "chat", Tier.STANDARD) == topic


def test_the_stages_of_the_ladder_are_told_apart() -> None:
    climbed = Rung(number=2, tier="complex", model="claude")

    assert stage_of(None) == FIRST
    assert stage_of(climbed) == CLIMBED
    assert stage_of(Rung(number=1, tier="standard", model="m", effort=Effort.HIGH)) == HARDER


def test_before_any_outcome_the_guess_stands() -> None:
    odds = Outcomes().odds(TOPIC, LOCAL, 0)

    assert odds.success == pytest.approx(GUESSES[LOCAL.strategy, LOCAL.tier])
    assert odds.weight == 0.0
    assert odds.usd == 0.0
    assert Outcomes().odds(TOPIC, CLOUD, 0).usd > 0.0


def test_outcomes_outweigh_the_guess() -> None:
    good, bad = Outcomes([seen(30, 0)]), Outcomes([seen(0, 30)])

    assert good.odds(TOPIC, LOCAL, 0).success > 0.95
    assert bad.odds(TOPIC, LOCAL, 0).success < 0.08
    assert bad.odds(TOPIC, LOCAL, 0).spread < Outcomes().odds(TOPIC, LOCAL, 0).spread


def test_a_model_that_fails_in_other_topics_is_trusted_less_here() -> None:
    elsewhere = Outcomes([seen(0, 30, topic="agent/standard/go")])

    assert elsewhere.odds(TOPIC, LOCAL, 0).success < Outcomes().odds(TOPIC, LOCAL, 0).success


def test_old_outcomes_fade() -> None:
    known = Outcomes([seen(0, 30)])

    now, later = known.odds(TOPIC, LOCAL, 0), known.odds(TOPIC, LOCAL, 6 * HALF_LIFE_MS)

    assert later.success > now.success
    assert later.weight == pytest.approx(now.weight / 64)


def test_a_model_that_has_become_better_is_found_out() -> None:
    record = seen(0, 200)
    for _ in range(100):
        record = record.plus(Outcome(passed=True, seconds=10.0, usd=0.0, tokens=1), 0)

    assert Outcomes([record]).odds(TOPIC, LOCAL, 0).success > 0.8


def test_costs_are_means_of_what_attempts_took() -> None:
    odds = Outcomes([seen(2, 2)]).odds(TOPIC, LOCAL, 0)

    assert odds.seconds == pytest.approx(10.0)
    assert odds.usd == pytest.approx(0.01)


def test_what_was_not_tried_takes_as_long_as_another_stage_of_the_model_or_as_the_other_models() -> None:
    outcomes = Outcomes([seen(5, 0)])
    harder = outcomes.odds(TOPIC, replace(LOCAL, stage=HARDER), 0)
    other = outcomes.odds(TOPIC, replace(LOCAL, model="other"), 0)
    cloud = outcomes.odds(TOPIC, CLOUD, 0)

    assert (harder.seconds, harder.usd) == pytest.approx((10.0, 0.01))
    assert (other.seconds, other.usd) == pytest.approx((10.0, 0.0))
    assert (cloud.seconds, cloud.usd) == pytest.approx((10.0, 0.02))
    assert outcomes.odds("chat/standard/any", replace(LOCAL, model="other"), 0).seconds == 60.0


def test_the_stages_of_a_model_say_something_of_one_another() -> None:
    climbed = replace(seen(8, 0), stage=CLIMBED)
    failing = Outcomes([seen(0, 20)])

    assert Outcomes([climbed]).odds(TOPIC, LOCAL, 0).success > Outcomes().odds(TOPIC, LOCAL, 0).success
    assert failing.odds(TOPIC, replace(LOCAL, stage=HARDER), 0).success < 0.1
    assert Outcomes([seen(20, 0)]).odds(TOPIC, replace(LOCAL, stage=HARDER), 0).success == pytest.approx(
        GUESSES[Strategy.LOCAL_LLM, Tier.STANDARD]
    )


def test_a_later_try_costs_only_if_those_before_it_fail() -> None:
    known = Outcomes([seen(1_000, 0), seen(1_000, 0, model="claude")])

    alone, both = known.to_result(TOPIC, [LOCAL], 0), known.to_result(TOPIC, [LOCAL, CLOUD], 0)

    assert both.seconds == pytest.approx(alone.seconds, rel=0.05)
    assert both.success > alone.success


def test_what_a_try_costs_beyond_itself_grows_with_its_failures() -> None:
    rest = ToResult(success=0.9, seconds=50.0, usd=0.1)

    assert 0 < risk_s(10.0, 0.9, rest) < risk_s(10.0, 0.5, rest) < risk_s(10.0, 0.1, rest)
    assert risk_s(10.0, 1.0, rest) == 0.0


def test_a_ladder_that_may_end_without_a_result_is_climbed_again() -> None:
    assert risk_s(10.0, 0.5, ToResult(success=0.0, seconds=0.0, usd=0.0)) == pytest.approx(10.0)
    assert ToResult(success=0.5, seconds=10.0, usd=1.0).cost_s(20.0) == pytest.approx(60.0)


@given(passes=st.integers(0, 80), fails=st.integers(0, 80))
def test_a_chance_is_never_certain(passes: int, fails: int) -> None:
    odds = Outcomes([seen(passes, fails)]).odds(TOPIC, LOCAL, 0)

    assert 0.0 < odds.success < 1.0
    assert odds.spread > 0.0


def test_records_are_bounded_and_the_oldest_goes() -> None:
    known = Outcomes(seen(0, 1, model=f"m{number}", at_ms=number) for number in range(MAX_RECORDS + 1))

    assert known.record(TOPIC, "m0", FIRST).weight == 0.0
    assert known.record(TOPIC, "m1", FIRST).weight == 1.0
    assert known.generation == MAX_RECORDS + 1
