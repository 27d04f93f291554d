"""Which model a task should begin with, by what outcomes have taught: for each, what a verified result would cost.

In shadow the answer is only kept beside the decision; if it is on, it is a term of what each way costs (the ``risk`` of
``hub/core/terms.py``), and every model that the tier's chain allows is a way. A model of which little is known counts
as better than it was seen to be, so that it is tried, as long as trying stays below a share of the tasks and an amount
of money a day. Pure memory; callers: ``hub/services/dispatch.py`` and the board.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from hub.core.fleet import Fleet
from hub.core.ladder import MAX_CLIMBS, Chains, Offer, offers_of, tier_of, tries
from hub.core.outcomes import FIRST, LEAST_SUCCESS, Odds, Outcomes, ToResult, Try, risk_s
from hub.core.routing import Requirements, Way
from hub.core.speeds import Demand
from hub.core.terms import Terms
from protocol.choice import SECONDS_PER_USD, Choice, Escalation, Estimate, LearningMode
from protocol.model import Tier

DAY_MS: Final = 86_400_000
FRESH_MS: Final = 60_000
"""How long what was worked out stays, if nothing new is learnt."""
SUREST: Final = 0.99
MAX_SHOWN: Final = 6
MAX_COMPARED: Final = 32
"""Models that are compared to tell which one to begin with: a fleet may offer hundreds, and this is asked a task."""
MAX_TOPICS: Final = 10_000
WELL_KNOWN: Final = 20.0
"""Outcomes from which on trying a model teaches little."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be spent on trying: of the tasks of a topic (a share), and money a day in all."""

    share: float = 0.05
    usd_a_day: float = 1.0


@dataclass(frozen=True, slots=True)
class _Plan:
    """All tries that begin with one model, and what they are expected to cost."""

    tries: tuple[Try, ...]
    first: Odds
    rest: ToResult
    whole: ToResult


@dataclass(slots=True)
class _Topic:
    """The models for one class of tasks, weakest first, and what was worked out of them."""

    tier: Tier
    offers: tuple[Offer, ...]
    firsts: dict[str, int]
    """Where each model that a task may begin with stands in ``offers``."""
    plans: dict[str, _Plan]


class Advisor:
    """What was learnt, asked about the tasks and models that there are.

    Args:
        fleet, outcomes: who offers which model, and how they have done.
        chains, escalation: the hub's settings.
        mode: ``off``: it knows nothing; ``shadow``: it only tells; ``on``: it adds to what ways cost.
        bounds: of trying what is little known.
        usd_s: seconds that a dollar counts as.
        now_ms: the time, Unix milliseconds.
    """

    def __init__(
        self,
        fleet: Fleet,
        outcomes: Outcomes,
        chains: Chains,
        *,
        now_ms: Callable[[], int],
        mode: LearningMode = LearningMode.SHADOW,
        escalation: Escalation = Escalation.TIER,
        bounds: Bounds = Bounds(),
        usd_s: float = SECONDS_PER_USD,
    ) -> None:
        self._fleet, self.outcomes, self._chains, self._escalation = fleet, outcomes, chains, escalation
        self.mode, self._bounds, self._usd_s, self._now_ms = mode, bounds, usd_s, now_ms
        self._topics: dict[str, _Topic] = {}
        self._offers: tuple[int, tuple[Offer, ...]] = (-1, ())
        self._known: tuple[int, int, int] = (-1, -1, -1)
        self._counts: dict[str, tuple[float, float]] = {}
        self._day, self._spent_usd = 0, 0.0

    @property
    def is_on(self) -> bool:
        """Whether it decides."""
        return self.mode is LearningMode.ON

    def risk_s(self, demand: Demand, way: Way, terms: Terms) -> float:
        """What is expected to follow a way that fails, in seconds; see :class:`hub.core.terms.Rates`."""
        if not self.is_on or not demand.topic:
            return 0.0
        plan = self._plan(demand.topic, way.model)
        if plan is None:
            return 0.0
        success = plan.first.success
        if self._may_explore(demand.topic, plan):
            success = min(SUREST, success + plan.first.spread)
        return risk_s(terms.attempt_s + terms.price_s, success, plan.rest, self._usd_s)

    def choice(self, requirements: Requirements, way: Way) -> Choice | None:
        """What was learnt about a task that begins ``way``; ``None``: nothing is to be said.

        To be asked once a task: it counts what may be spent on trying.
        """
        told = self.told(requirements)
        if told is None:
            return None
        topic, chosen = told.topic, self._plan(told.topic, way.model)
        explores = self.is_on and way.model != told.model and chosen is not None and self._may_explore(topic, chosen)
        self._count(topic, chosen.first.usd if explores and chosen else 0.0, explores=explores)
        return replace(told, explores=explores)

    def told(self, requirements: Requirements) -> Choice | None:
        """What a verified result is expected to cost with each model; ``None``: nothing is to be said."""
        topic = requirements.topic
        if self.mode is LearningMode.OFF or not requirements.is_open:
            return None
        plans = {name: plan for name in self._compared(topic) if (plan := self._plan(topic, name)) is not None}
        if not plans:
            return None
        ranked = sorted(plans.items(), key=lambda item: item[1].whole.cost_s(self._usd_s))
        shown = tuple(
            Estimate(
                model=name,
                strategy=plan.tries[0].strategy,
                success=round(plan.first.success, 4),
                seconds=round(plan.whole.seconds / max(LEAST_SUCCESS, plan.whole.success), 3),
                usd=round(plan.whole.usd / max(LEAST_SUCCESS, plan.whole.success), 6),
                outcomes=round(plan.first.weight, 2),
            )
            for name, plan in ranked[:MAX_SHOWN]
        )
        return Choice(mode=self.mode, topic=topic, model=ranked[0][0], estimates=shown)

    # --- trying -------------------------------------------------------------------------------------------------------

    def _may_explore(self, topic: str, plan: _Plan) -> bool:
        if plan.first.weight >= WELL_KNOWN or self._bounds.share <= 0:
            return False
        tasks, tried = self._counts.get(topic, (0.0, 0.0))
        self._new_day()
        return tried < self._bounds.share * (tasks + 1.0) and (
            plan.first.usd == 0 or self._spent_usd + plan.first.usd <= self._bounds.usd_a_day
        )

    def _count(self, topic: str, usd: float, *, explores: bool) -> None:
        tasks, tried = self._counts.pop(topic, (0.0, 0.0))
        self._counts[topic] = tasks + 1.0, tried + explores
        if len(self._counts) > MAX_TOPICS:
            del self._counts[next(iter(self._counts))]
        self._new_day()
        self._spent_usd += usd

    def _new_day(self) -> None:
        day = self._now_ms() // DAY_MS
        if day != self._day:
            self._day, self._spent_usd = day, 0.0

    # --- what each model would lead to --------------------------------------------------------------------------------

    def _of(self, topic: str) -> _Topic:
        """The models of a topic; kept until something changes."""
        known = (self._fleet.generation, self.outcomes.generation, self._now_ms() // FRESH_MS)
        if known != self._known or len(self._topics) > MAX_TOPICS:
            self._known, self._topics = known, {}
        if self._offers[0] != self._fleet.generation:
            self._offers = self._fleet.generation, offers_of(self._fleet)
        found = self._topics.get(topic)
        if found is None:
            tier = Tier(topic.split("/")[1])
            offers = tuple(each for each in self._offers[1] if tier_of(each, tier, self._chains) is not None)
            allowed = self._chains[tier]
            firsts = {each.model: place for place, each in enumerate(offers) if each.strategy in allowed}
            found = self._topics[topic] = _Topic(tier, offers, firsts, {})
        return found

    def _compared(self, topic: str) -> list[str]:
        """Models to compare: all; of very many those with outcomes, and some of the others, from weak to strong."""
        names = list(self._of(topic).firsts)
        if len(names) <= MAX_COMPARED:
            return names
        known = [name for name in names if self.outcomes.record(topic, name, FIRST).weight]
        known.sort(key=lambda name: -self.outcomes.record(topic, name, FIRST).weight)
        known = known[: MAX_COMPARED // 2]
        others = [name for name in names if name not in known]
        left = MAX_COMPARED - len(known) - 1
        return [*known, *(others[place * (len(others) - 1) // left] for place in range(left + 1))]

    def _plan(self, topic: str, model: str) -> _Plan | None:
        """What follows if a task of the topic begins with a model; ``None``: it may not."""
        found = self._of(topic)
        plan, place = found.plans.get(model), found.firsts.get(model)
        if plan is None and place is not None:
            # A ladder is climbed so many rungs at most: what stands higher cannot come up.
            near = found.offers[place : place + MAX_CLIMBS + 1]
            plan = found.plans[model] = self._made(topic, near[0], found.tier, near)
        return plan

    def _made(self, topic: str, first: Offer, tier: Tier, offers: tuple[Offer, ...]) -> _Plan:
        now_ms = self._now_ms()
        made = tries(first, tier, self._chains, offers, self._escalation)
        odds = self.outcomes.odds(topic, made[0], now_ms)
        rest, whole = (self.outcomes.to_result(topic, part, now_ms) for part in (made[1:], made))
        return _Plan(made, odds, rest, whole)
