"""A decision as it is kept with its attempt: why this way, and what else was looked at. Pure, and compact.

Work without a model goes to whoever has the most room: of those that were looked at a few are kept. Work for a model
keeps the ways that were weighed with their terms, the best first, then why the others could not.
"""

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from hub.core.scheduling import Assignment
from hub.core.terms import Weighed
from protocol.model import Candidate, Strategy

MAX_WEIGHED: Final = 16
"""Candidates that are kept of a decision between ways with a cost."""
MAX_PLAIN: Final = 4
"""The same where nothing was weighed: they differ in name only."""


def why(chosen: Assignment) -> str:
    """Why this strategy and this agent, in a sentence."""
    name = chosen.agent.name
    if chosen.weighed is None:
        return f"{chosen.match.reason}; {name} had the most free room"
    terms = chosen.weighed.terms.in_words
    if chosen.queue.fallback is not None and chosen.way not in chosen.match.ways:
        first, patience_s = chosen.queue.requirements.strategies[0], chosen.queue.requirements.patience_s
        reason = f"{first.value} would take longer than {patience_s:.0f} s to begin, so it goes to"
        return f"{reason} {chosen.way.strategy.value}; on {name} it is expected to end first, {terms}"
    return f"{chosen.match.reason}; on {name} it is expected to end first, {terms}"


def is_lower(used: Strategy, first: Strategy) -> bool:
    """Whether the strategy is less than the first choice of the task's tier: a local model for a cloud model."""
    return first is Strategy.CLOUD_LLM and used is not first


def candidates(chosen: Assignment) -> tuple[Candidate, ...]:
    """What was looked at, the chosen way first where ways were weighed."""
    if chosen.weighed is None:
        return chosen.match.candidates[:MAX_PLAIN]
    return tuple(_weighed(chosen, chosen.weighed))[:MAX_WEIGHED]


def _weighed(chosen: Assignment, best: Weighed) -> Iterator[Candidate]:
    seen = set()
    others = sorted((each for each in chosen.others if each is not best), key=lambda each: each.terms.total_s)
    for each in (best, *others):
        way = each.way
        seen.add((way.agent, way.endpoint, way.model))
        yield Candidate(
            strategy=way.strategy,
            agent=way.agent,
            endpoint=way.endpoint,
            model=way.model,
            feasible=True,
            cost=each.terms.shown,
        )
    for known in chosen.match.candidates:
        if (known.agent, known.endpoint, known.model) not in seen:
            yield known if not known.feasible else replace(known, reasons=("was left out of this plan",))
