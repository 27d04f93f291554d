"""The ladder that a task climbs while its checks keep failing: what was tried goes in, the next rung comes out.

From the bottom: the same model with more effort, then each stronger model of the same tier, then the models of the next
tiers; each model twice, the second time with more effort. Nothing is climbed twice, and nothing weaker than what has
failed is tried. Pure; the verb that asks is in ``hub/store/climbing.py``, inside the transaction that ends the failed
attempt.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from hub.core.fleet import Fleet
from hub.core.outcomes import CLIMBED, FIRST, HARDER, Try
from hub.core.speeds import named_size
from protocol.choice import Effort, Escalation, Rung
from protocol.endpoints import EndpointReport
from protocol.model import AgentState, Budget, Strategy, Tier

MAX_CLIMBS: Final = 8
"""Rungs that a task may climb, however many models there are."""
ORDER: Final = tuple(Tier)
HIGH: Final = Effort.HIGH
Chains = Mapping[Tier, Sequence[Strategy]]
"""Strategies by tier, in order of preference (``hub.core.routing.DEFAULT_CHAINS``)."""


class Offer(Struct, frozen=True, kw_only=True):
    """A model that somebody who is online offers; ``size_bytes`` is 0 where nobody knows."""

    model: str
    strategy: Strategy
    size_bytes: int = 0
    place: int = 0
    """Where its endpoint lists it: tells models apart whose size nobody knows."""

    @property
    def strength(self) -> tuple[bool, int, int, str]:
        """Orders models from weak to strong: hosted ones above local ones, large ones above small ones."""
        return self.strategy is Strategy.CLOUD_LLM, self.size_bytes, self.place, self.model


class Ladder(Struct, frozen=True, kw_only=True):
    """What there is to climb on: ``ceiling`` counts for tasks that do not say how far they may.

    ``gone`` are models that were offered before: what has failed there is not forgotten.
    """

    chains: Chains
    offers: tuple[Offer, ...]
    ceiling: Escalation = Escalation.TIER
    gone: tuple[Offer, ...] = ()


class Climber(Struct, frozen=True, kw_only=True):
    """What the ladder has to know of a task.

    ``tried`` are the models of its attempts whose work was checked and did not pass, oldest first, with their efforts;
    ``spent_usd`` is the money of all its attempts.
    """

    tier: Tier
    tried: tuple[tuple[str, Effort], ...]
    hosted: frozenset[str] = frozenset()
    """Those of them that others host: of a model that is gone nobody else can tell."""
    pinned: bool = False
    """The submitter has named the model."""
    escalation: Escalation = Escalation.TIER
    budget: Budget = Budget()
    spent_usd: float = 0.0
    climbs: int = 0


class Step(Struct, frozen=True, kw_only=True):
    """The next rung, and the strategy that leads to it."""

    rung: Rung
    strategy: Strategy
    why: str


def offers_of(fleet: Fleet) -> tuple[Offer, ...]:
    """The models that agents online, and the endpoints that people have added, offer; the weakest first."""
    endpoints = [each for agent in fleet.agents.values() if _is_there(agent.state) for each in agent.endpoints]
    return _offered((*endpoints, *fleet.endpoints))


def ladder_of(fleet: Fleet, chains: Chains, ceiling: Escalation) -> Ladder:
    """What there is to climb on in a fleet, and what there was."""
    offers, seen = offers_of(fleet), _offered(fleet.seen.values())
    here = {(each.model, each.strategy) for each in offers}
    gone = tuple(each for each in seen if (each.model, each.strategy) not in here)
    return Ladder(chains=chains, offers=offers, ceiling=ceiling, gone=gone)


def _offered(endpoints: Iterable[EndpointReport]) -> tuple[Offer, ...]:
    found: dict[tuple[str, Strategy], Offer] = {}
    for endpoint in endpoints:
        strategy = Strategy.LOCAL_LLM if endpoint.local else Strategy.CLOUD_LLM
        sizes = {model.name: model.size_bytes or 0 for model in endpoint.models}
        if endpoint.default_model:
            sizes.setdefault(endpoint.default_model, 0)
        for place, (name, size_bytes) in enumerate(sizes.items()):
            known = found.get((name, strategy))
            if known is None or size_bytes > known.size_bytes:
                found[name, strategy] = Offer(model=name, strategy=strategy, size_bytes=size_bytes, place=place)
    return tuple(sorted(found.values(), key=lambda each: each.strength))


def _is_there(state: AgentState) -> bool:
    return state is not AgentState.OFFLINE and state is not AgentState.DRAINING


def tier_of(offer: Offer, tier: Tier, chains: Chains) -> Tier | None:
    """The tier, from ``tier`` on, whose model this is; ``None``: no such tier uses it."""
    from_here = ORDER[ORDER.index(tier) :]
    firsts = [each for each in from_here if chains[each][0] is offer.strategy]
    others = [each for each in from_here if offer.strategy in chains[each]]
    return next(iter((*firsts, *others)), None)


def rungs(climber: Climber, chains: Chains, offers: Sequence[Offer], gone: Sequence[Offer] = ()) -> Iterator[Step]:
    """Every rung above the one where the task stands, in order."""
    last, effort = climber.tried[-1]
    seen = {model for model, _ in climber.tried}
    tried = [each for each in offers if each.model in seen]
    number = climber.climbs + 1
    for offer in tried:
        if offer.model == last and effort is Effort.NORMAL:
            rung = Rung(
                number=number, tier=tier_of(offer, climber.tier, chains) or climber.tier, model=last, effort=HIGH
            )
            yield Step(rung=rung, strategy=offer.strategy, why=f"{last} tries again with more effort")
            number += 1
            break
    missing = seen - {each.model for each in tried}
    floor = max(each.strength for each in (*tried, *(_last_known(name, climber, gone) for name in missing)))
    for offer in sorted(offers, key=lambda each: each.strength):
        tier = tier_of(offer, climber.tier, chains)
        if tier is None or offer.strength <= floor:
            continue
        word = "the next model" if tier is climber.tier else f"the next tier, {tier}"
        for harder in Effort:
            more = ", with more effort" if harder is HIGH else ""
            rung = Rung(number=number, tier=tier, model=offer.model, effort=harder)
            yield Step(rung=rung, strategy=offer.strategy, why=f"{offer.model} is {word}{more}")
            number += 1


def _last_known(name: str, climber: Climber, gone: Sequence[Offer]) -> Offer:
    """A model that nobody offers now: as it was seen last, else what its name says."""
    strategy = Strategy.CLOUD_LLM if name in climber.hosted else Strategy.LOCAL_LLM
    guess = Offer(model="", strategy=strategy, size_bytes=int(named_size(name)), place=-1)
    return max((each for each in gone if each.model == name), key=lambda each: each.strength, default=guess)


def climb(climber: Climber, chains: Chains, offers: Sequence[Offer], gone: Sequence[Offer] = ()) -> Step | str:
    """The next rung, or why there is none."""
    step = next(rungs(climber, chains, offers, gone), None)
    if step is None:
        return "there is no stronger model"
    return _against(climber, step) or step


def _against(climber: Climber, step: Step) -> str:
    """What forbids a step; empty: nothing."""
    usd, spent_usd = climber.budget.usd, climber.spent_usd
    is_other = step.rung.model != climber.tried[-1][0]
    reasons = (
        (climber.escalation is Escalation.OFF, "escalation is off"),
        (climber.climbs >= MAX_CLIMBS, f"it has climbed {climber.climbs} times, which is the most"),
        (usd is not None and spent_usd > 0 and spent_usd >= usd, f"${spent_usd:.4f} of ${usd or 0:.4f} are spent"),
        (is_other and climber.pinned, f"the submitter has chosen {climber.tried[0][0]}"),
        (is_other and climber.escalation is Escalation.EFFORT, "only more effort is allowed, and that was tried"),
        (
            step.rung.tier != climber.tier and climber.escalation is Escalation.MODEL,
            f"only models of the tier {climber.tier} are allowed",
        ),
    )
    return next((why for is_so, why in reasons if is_so), "")


def tries(
    first: Offer,
    tier: Tier,
    chains: Chains,
    offers: Sequence[Offer],
    escalation: Escalation = Escalation.TIER,
) -> tuple[Try, ...]:
    """All that a task of this tier would try, one after the other, if it began with ``first``."""
    made = [Try(model=first.model, strategy=first.strategy, tier=tier, stage=FIRST)]
    begun = Climber(tier=tier, tried=((first.model, Effort.NORMAL),), escalation=escalation)
    for climbs, step in enumerate(rungs(begun, chains, offers)):
        if _against(replace(begun, climbs=climbs), step):
            break
        stage = HARDER if step.rung.effort is Effort.HIGH else CLIMBED
        made.append(Try(model=step.rung.model, strategy=step.strategy, tier=tier, stage=stage))
    return tuple(made)
