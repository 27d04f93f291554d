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
from hub.core.ladder import Chains, Offer, offers_of, tier_of, tries
from hub.core.outcomes import LEAST_SUCCESS, Odds, Outcomes, ToResult, Try, risk_s
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
        self._plans: dict[str, dict[str, _Plan]] = {}
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
        plan = self._of(demand.topic).get(way.model)
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
        topic, chosen = told.topic, self._of(told.topic).get(way.model)
        explores = self.is_on and way.model != told.model and chosen is not None and self._may_explore(topic, chosen)
        self._count(topic, chosen.first.usd if explores and chosen else 0.0, explores=explores)
        return replace(told, explores=explores)

    def told(self, requirements: Requirements) -> Choice | None:
        """What a verified result is expected to cost with each model; ``None``: nothing is to be said."""
        topic = requirements.topic
        if self.mode is LearningMode.OFF or not requirements.is_open:
            return None
        plans = self._of(topic)
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

    def _of(self, topic: str) -> dict[str, _Plan]:
        """By the model to begin with; kept until something changes."""
        now_ms = self._now_ms()
        known = (self._fleet.generation, self.outcomes.generation, now_ms // FRESH_MS)
        if known != self._known or len(self._plans) > MAX_TOPICS:
            self._known, self._plans = known, {}
        found = self._plans.get(topic)
        if found is None:
            found = self._plans[topic] = self._made(topic, now_ms)
        return found

    def _made(self, topic: str, now_ms: int) -> dict[str, _Plan]:
        tier = Tier(topic.split("/")[1])
        allowed = self._chains[tier]
        offers = tuple(each for each in offers_of(self._fleet) if tier_of(each, tier, self._chains) is not None)
        return {
            each.model: self._plan(topic, each, tier, offers, now_ms) for each in offers if each.strategy in allowed
        }

    def _plan(self, topic: str, first: Offer, tier: Tier, offers: tuple[Offer, ...], now_ms: int) -> _Plan:
        made = tries(first, tier, self._chains, offers, self._escalation)
        odds = self.outcomes.odds(topic, made[0], now_ms)
        rest, whole = (self.outcomes.to_result(topic, part, now_ms) for part in (made[1:], made))
        return _Plan(made, odds, rest, whole)
