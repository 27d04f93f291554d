"""The promises of advice: it knows what a result costs, tells it in shadow, decides if it is on, tries in bounds."""

from typing import Final

import pytest

from hub.core.advice import DAY_MS, MAX_COMPARED, WELL_KNOWN, Advisor, Bounds
from hub.core.fleet import Fleet
from hub.core.ladder import MAX_CLIMBS
from hub.core.matching import match
from hub.core.outcomes import FIRST, Odds, Outcome, Outcomes, Record, Try
from hub.core.routing import DEFAULT_CHAINS, Requirements, Way
from hub.core.speeds import Demand
from hub.core.terms import Terms
from protocol.choice import Effort, LearningMode, Rung
from protocol.model import AgentState, EndpointKind, EndpointReport, ModelReport, Strategy, Tier

TOPIC: Final = "chat/standard/any"
OPEN: Final = Requirements(executor="chat", strategies=(Strategy.LOCAL_LLM, Strategy.CLOUD_LLM), topic=TOPIC)
DEMAND: Final = Demand(100.0, 100.0, topic=TOPIC)
NO_TRYING: Final = Bounds(share=0.0)


def fleet() -> Fleet:
    """An agent with two local models and Claude."""
    made = Fleet()
    agent = made.agent("one")
    agent.state, agent.capabilities = AgentState.IDLE, frozenset({"executor:chat"})
    local = tuple(ModelReport(name=name, size_bytes=size) for name, size in (("small", 2), ("large", 20)))
    agent.endpoints = (
        EndpointReport(id="box", kind=EndpointKind.OLLAMA, url="", local=True, models=local),
        EndpointReport(id="claude", kind=EndpointKind.ANTHROPIC, url="", local=False, default_model="claude"),
    )
    return made


def known(**rates: float) -> Outcomes:
    """Forty outcomes of each model, with this share of passes; a try takes 10 s and Claude's costs 20 cents."""
    made = Outcomes()
    for model, rate in rates.items():
        record = Record(topic=TOPIC, model=model, stage=FIRST)
        usd = 0.2 if model == "claude" else 0.0
        for number in range(40):
            record = record.plus(Outcome(passed=(number * rate) % 1.0 < rate, seconds=10.0, usd=usd, tokens=1), 0)
        made.put(record)
    return made


def advisor(outcomes: Outcomes, mode: LearningMode = LearningMode.ON, bounds: Bounds = NO_TRYING) -> Advisor:
    return Advisor(fleet(), outcomes, DEFAULT_CHAINS, now_ms=lambda: DAY_MS, mode=mode, bounds=bounds)


def way(model: str) -> Way:
    strategy = Strategy.CLOUD_LLM if model == "claude" else Strategy.LOCAL_LLM
    return Way(agent="one", strategy=strategy, endpoint="claude" if model == "claude" else "box", model=model)


def terms(price_s: float = 0.0) -> Terms:
    return Terms(wait_s=0.0, evict_s=0.0, load_s=0.0, prefill_s=0.0, decode_s=10.0, price_s=price_s)


def cost_s(asked: Advisor, model: str) -> float:
    spent = terms(72.0 if model == "claude" else 0.0)
    return spent.total_s + asked.risk_s(DEMAND, way(model), spent)


def test_a_model_that_fails_costs_what_follows() -> None:
    asked = advisor(known(small=0.05, large=0.95, claude=0.99))

    assert cost_s(asked, "large") < cost_s(asked, "small")
    assert cost_s(asked, "large") < cost_s(asked, "claude")


def test_where_no_local_model_passes_claude_is_cheapest() -> None:
    asked = advisor(known(small=0.01, large=0.01, claude=0.99))
    learnt = asked.choice(OPEN, way("large"))

    assert learnt is not None
    assert learnt.estimates[0].success > 0.0
    assert cost_s(asked, "claude") < cost_s(asked, "small")


def test_in_shadow_it_tells_and_decides_nothing() -> None:
    asked = advisor(known(small=0.05, large=0.95, claude=0.99), LearningMode.SHADOW)
    learnt = asked.choice(OPEN, way("small"))

    assert asked.risk_s(DEMAND, way("small"), terms()) == 0.0
    assert learnt is not None
    assert (learnt.mode, learnt.topic, learnt.model, learnt.explores) == ("shadow", TOPIC, "large", False)
    assert learnt.estimates[0].model == "large"
    assert {each.model for each in learnt.estimates} == {"small", "large", "claude"}


@pytest.mark.parametrize(
    "requirements",
    [
        Requirements(executor="chat", strategies=OPEN.strategies),
        Requirements(executor="chat", strategies=OPEN.strategies, topic=TOPIC, model="small"),
        Requirements(
            executor="chat",
            strategies=OPEN.strategies,
            topic=TOPIC,
            model="small",
            rung=Rung(number=1, tier=Tier.STANDARD, model="small", effort=Effort.HIGH),
        ),
    ],
    ids=["not to be learnt", "a model that is pinned", "a rung"],
)
def test_where_there_is_nothing_to_choose_nothing_is_said(requirements: Requirements) -> None:
    assert advisor(known(small=0.5)).choice(requirements, way("small")) is None


def test_switched_off_it_knows_nothing() -> None:
    asked = advisor(known(small=0.05), LearningMode.OFF)

    assert asked.choice(OPEN, way("small")) is None
    assert asked.risk_s(DEMAND, way("small"), terms()) == 0.0


def test_a_model_that_is_little_known_is_tried_as_long_as_the_share_allows() -> None:
    outcomes = known(large=0.9)
    bold = advisor(outcomes, bounds=Bounds(share=0.1))
    shy = advisor(outcomes)

    assert cost_s(bold, "small") < cost_s(shy, "small")
    explored = [bool((learnt := bold.choice(OPEN, way("small"))) and learnt.explores) for _ in range(40)]
    assert 1 <= sum(explored) <= 5
    assert outcomes.record(TOPIC, "large", FIRST).weight > WELL_KNOWN


def test_money_for_trying_is_bounded_by_the_day() -> None:
    asked = advisor(known(small=0.9, large=0.9), bounds=Bounds(share=1.0, usd_a_day=0.05))
    explored = [bool((learnt := asked.choice(OPEN, way("claude"))) and learnt.explores) for _ in range(10)]

    assert explored == [True, True, *[False] * 8]


def test_a_wide_match_has_every_model_of_the_chain() -> None:
    found = match(fleet(), OPEN, is_wide=True)
    narrow = match(fleet(), OPEN)

    assert [each.model for each in found.ways] == ["small", "large", "claude"]
    assert [each.model for each in narrow.ways] == ["small"]
    assert all(candidate.feasible for candidate in found.candidates)


class Counted(Outcomes):
    """Outcomes that count how often they are asked."""

    asked = 0

    def odds(self, topic: str, one: Try, now_ms: int) -> Odds:
        self.asked += 1
        return super().odds(topic, one, now_ms)


def test_hundreds_of_models_cost_no_more_than_some() -> None:
    made, outcomes = fleet(), Counted()
    many = tuple(ModelReport(name=f"m{number:03}", size_bytes=1_000 + number) for number in range(400))
    made.agents["one"].endpoints += (
        EndpointReport(id="many", kind=EndpointKind.OLLAMA, url="", local=True, models=many),
    )
    outcomes.put(Record(topic=TOPIC, model="m377", stage=FIRST, passes=9.0, seconds=1.0))
    asked = Advisor(made, outcomes, DEFAULT_CHAINS, now_ms=lambda: DAY_MS, mode=LearningMode.ON, bounds=NO_TRYING)
    learnt = asked.choice(OPEN, way("m000"))
    first = outcomes.asked
    asked.choice(OPEN, way("m000"))

    assert learnt is not None
    assert learnt.model == "m377"  # what is known of is always compared
    assert first <= (MAX_COMPARED + 1) * 2 * (MAX_CLIMBS + 2)
    assert outcomes.asked == first
    assert all(asked.risk_s(DEMAND, way(f"m{number:03}"), terms()) > 0 for number in (1, 200, 399))
