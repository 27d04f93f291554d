"""The promises of the ladder: more effort, then a stronger model, then the next tier; bounded, and never down."""

from typing import Final

import pytest
from msgspec.structs import replace

from hub.core.fleet import Fleet
from hub.core.ladder import MAX_CLIMBS, Climber, Offer, Step, climb, ladder_of, offers_of, tier_of, tries
from hub.core.outcomes import CLIMBED, FIRST, HARDER
from hub.core.routing import DEFAULT_CHAINS
from protocol.choice import Effort, Escalation, Rung
from protocol.model import AgentState, Budget, EndpointKind, EndpointReport, ModelReport, Strategy, Tier

NORMAL, HIGH = Effort.NORMAL, Effort.HIGH
SMALL: Final = Offer(model="small", strategy=Strategy.LOCAL_LLM, size_bytes=2)
LARGE: Final = Offer(model="large", strategy=Strategy.LOCAL_LLM, size_bytes=20)
CLAUDE: Final = Offer(model="claude", strategy=Strategy.CLOUD_LLM)
OFFERS: Final = (CLAUDE, LARGE, SMALL)


def climber(*tried: tuple[str, Effort], tier: Tier = Tier.STANDARD, **rest: object) -> Climber:
    """A task whose attempts with these models have failed."""
    return Climber(tier=tier, tried=tried, climbs=len(tried) - 1, **rest)  # type: ignore[arg-type]  # any of its fields


def test_a_task_climbs_effort_then_model_then_tier() -> None:
    tried, taken = [("small", NORMAL)], []
    while isinstance(step := climb(climber(*tried), DEFAULT_CHAINS, OFFERS), Step):
        taken.append((step.rung.number, step.rung.tier, step.rung.model, step.rung.effort, step.strategy))
        tried.append((step.rung.model, step.rung.effort))

    assert taken == [
        (1, "standard", "small", HIGH, Strategy.LOCAL_LLM),
        (2, "standard", "large", NORMAL, Strategy.LOCAL_LLM),
        (3, "standard", "large", HIGH, Strategy.LOCAL_LLM),
        (4, "complex", "claude", NORMAL, Strategy.CLOUD_LLM),
        (5, "complex", "claude", HIGH, Strategy.CLOUD_LLM),
    ]
    assert step == "there is no stronger model"


def test_nothing_weaker_is_tried() -> None:
    assert climb(climber(("large", NORMAL), ("large", HIGH)), DEFAULT_CHAINS, OFFERS) == Step(
        rung=Rung(number=2, tier="complex", model="claude"),
        strategy=Strategy.CLOUD_LLM,
        why="claude is the next tier, complex",
    )
    assert climb(climber(("claude", HIGH), tier=Tier.COMPLEX), DEFAULT_CHAINS, OFFERS) == "there is no stronger model"


def test_a_model_that_is_gone_is_climbed_from_all_the_same() -> None:
    step = climb(climber(("gone", NORMAL)), DEFAULT_CHAINS, (SMALL,))

    assert isinstance(step, Step)
    assert step.rung.model == "small"


def test_a_chain_that_uses_no_cloud_is_obeyed() -> None:
    chains = dict.fromkeys(Tier, (Strategy.LOCAL_LLM,))

    assert climb(climber(("large", HIGH)), chains, OFFERS) == "there is no stronger model"
    assert tier_of(CLAUDE, Tier.STANDARD, chains) is None


def test_complex_work_on_a_local_model_stays_in_its_tier() -> None:
    step = climb(climber(("small", HIGH), tier=Tier.COMPLEX), DEFAULT_CHAINS, (SMALL, LARGE))

    assert isinstance(step, Step)
    assert (step.rung.tier, step.rung.model) == ("complex", "large")


@pytest.mark.parametrize(
    "found, why",
    [
        (climber(("small", NORMAL), escalation=Escalation.OFF), "escalation is off"),
        (climber(("small", HIGH), escalation=Escalation.EFFORT), "only more effort is allowed, and that was tried"),
        (climber(("large", HIGH), escalation=Escalation.MODEL), "only models of the tier standard are allowed"),
        (climber(("small", HIGH), pinned=True), "the submitter has chosen small"),
        (climber(("small", NORMAL), budget=Budget(usd=0.5), spent_usd=0.5), "$0.5000 of $0.5000 are spent"),
        (climber(*[("small", NORMAL)] * (MAX_CLIMBS + 1)), f"it has climbed {MAX_CLIMBS} times, which is the most"),
    ],
)
def test_what_forbids_a_climb_is_said(found: Climber, why: str) -> None:
    assert climb(found, DEFAULT_CHAINS, OFFERS) == why


@pytest.mark.parametrize(
    "found",
    [
        climber(("small", NORMAL), escalation=Escalation.EFFORT),
        climber(("small", NORMAL), pinned=True),
        climber(("small", HIGH), escalation=Escalation.MODEL),
        climber(("small", NORMAL), budget=Budget(usd=0.0)),
        climber(("small", NORMAL), budget=Budget(usd=0.5), spent_usd=0.4),
    ],
)
def test_what_is_allowed_is_climbed(found: Climber) -> None:
    assert isinstance(climb(found, DEFAULT_CHAINS, OFFERS), Step)


def test_all_that_follows_a_first_model_is_known_beforehand() -> None:
    assert [(one.model, one.stage) for one in tries(LARGE, Tier.STANDARD, DEFAULT_CHAINS, OFFERS)] == [
        ("large", FIRST),
        ("large", HARDER),
        ("claude", CLIMBED),
        ("claude", HARDER),
    ]
    assert len(tries(SMALL, Tier.STANDARD, DEFAULT_CHAINS, OFFERS, Escalation.OFF)) == 1


def test_offers_are_the_models_of_those_who_are_there() -> None:
    fleet = Fleet()
    for name, state in (("here", AgentState.IDLE), ("gone", AgentState.OFFLINE)):
        agent = fleet.agent(name)
        agent.state = state
        agent.endpoints = (
            EndpointReport(
                id=f"ollama@{name}",
                kind=EndpointKind.OLLAMA,
                url="",
                local=True,
                models=(ModelReport(name="large", size_bytes=20), ModelReport(name=f"only-{name}", size_bytes=2)),
            ),
        )
    fleet.endpoints = (
        EndpointReport(id="claude", kind=EndpointKind.ANTHROPIC, url="", local=False, default_model="claude"),
    )

    assert [(each.model, each.strategy) for each in offers_of(fleet)] == [
        ("only-here", Strategy.LOCAL_LLM),
        ("large", Strategy.LOCAL_LLM),
        ("claude", Strategy.CLOUD_LLM),
    ]


@pytest.mark.parametrize(
    "name, hosted, seen, reaches",
    [
        ("gone:70b", False, (), "claude"),  # its name says that it was the largest
        ("gone", False, (replace(LARGE, model="gone", size_bytes=21),), "claude"),  # so it was when it was seen last
        ("gone", True, (), "claude"),  # a hosted one: no local model is stronger
        ("gone", False, (replace(LARGE, model="gone", size_bytes=3),), "large"),
    ],
    ids=["named", "seen", "hosted", "between"],
)
def test_nothing_weaker_than_a_model_that_is_gone_is_tried(
    name: str, hosted: bool, seen: tuple[Offer, ...], reaches: str
) -> None:
    tried = climber((name, NORMAL), (name, HIGH), hosted=frozenset({name} if hosted else ()))
    step = climb(tried, DEFAULT_CHAINS, OFFERS, seen)

    assert isinstance(step, Step)
    assert step.rung.model == reaches


def test_what_was_offered_before_is_known_to_the_ladder() -> None:
    fleet = Fleet()
    models = (ModelReport(name="m", size_bytes=5), ModelReport(name="here", size_bytes=3))
    fleet.seen["box", "o"] = EndpointReport(id="o", kind=EndpointKind.OLLAMA, url="", local=True, models=models)
    agent = fleet.agent("a")
    agent.state, agent.endpoints = AgentState.IDLE, (replace(fleet.seen["box", "o"], models=models[1:]),)
    made = ladder_of(fleet, DEFAULT_CHAINS, Escalation.TIER)

    assert [offer.model for offer in made.offers] == ["here"]
    assert [(offer.model, offer.size_bytes) for offer in made.gone] == [("m", 5)]
