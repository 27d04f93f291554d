"""Make a routing decision again from what was kept of it, and tell whether the answer is the same.

Pure. The choice itself (:func:`choose`) is the one that the scheduler makes; a decision that was kept has everything it
depended on: the task as it was submitted, and of every way its terms, the share of the agent's slots in use and its
turn. So a difference is a change of the rules since, or somebody who was at the rows.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import astuple

from hub.core.routing import DEFAULT_CHAINS, PROOF, Placement, Seen, requirements_of, route
from hub.core.terms import Terms
from protocol.events import Event, EventKind
from protocol.model import Strategy, TaskSpec, TaskState, Tier, TierDecision

MAX_SEEN: Final = 16
"""Ways that are kept of a decision."""
Rank = tuple[float, float, int]
"""What is compared: cost in seconds, share of the slots in use, turn."""
Chains = Mapping[Tier, Sequence[Strategy]]

_STATES: Final = {
    EventKind.TASK_BLOCKED: TaskState.BLOCKED,
    EventKind.TASK_QUEUED: TaskState.QUEUED,
    EventKind.TASK_READY: TaskState.QUEUED,
    EventKind.TASK_REQUEUED: TaskState.QUEUED,
    EventKind.TASK_ASSIGNED: TaskState.ASSIGNED,
    EventKind.TASK_STARTED: TaskState.RUNNING,
    EventKind.TASK_WAITING: TaskState.WAITING,
    EventKind.TASK_COMPLETED: TaskState.COMPLETED,
    EventKind.TASK_FAILED: TaskState.FAILED,
    EventKind.TASK_CANCELLED: TaskState.CANCELLED,
    EventKind.TASK_DEAD: TaskState.DEAD,
}
"""The state that a task has after an event about it; others leave it as it is."""


def choose(ranks: Sequence[Rank], waits: Sequence[float], firsts: int, patience_s: float) -> int | None:
    """Which of the ways is taken: the one with the least rank; ``None`` if there is none.

    The ``firsts`` ways at the beginning are the first choice. The others count only if the best of the first choice
    would wait longer than ``patience_s`` seconds, and another one less long than that.
    """
    best = min(range(firsts), key=ranks.__getitem__, default=None)
    other = min(range(firsts, len(ranks)), key=ranks.__getitem__, default=None)
    if other is None or (best is not None and waits[best] <= patience_s):
        return best
    return other if best is None or waits[other] < waits[best] else best


class Again(Struct, frozen=True, kw_only=True):
    """A decision made again: ``then`` and ``now`` in words, and what is different; nothing, if it is the same."""

    then: str
    now: str
    differences: tuple[str, ...] = ()
    ways: int = 0
    """Ways that were weighed again; 0: nothing was weighed for this task, the agent was one of equals."""


def again(
    spec: TaskSpec, tier: TierDecision, class_text: str, placement: Placement, chains: Chains = DEFAULT_CHAINS
) -> Again:
    """Make the decision of an attempt again.

    Args:
        spec, tier: the task as it was submitted, and how hard it counted as.
        class_text: the class of the task; its chain may have become another one since (it has climbed).
        placement: the decision, as it was kept.
        chains: the hub's chains now.
    """
    differences: list[str] = []
    inferred, wanted = route(spec, chains)
    if (inferred.effective, inferred.inferred) != (tier.effective, tier.inferred):
        differences.append(f"tier: {tier.effective} then, {inferred.effective} now")
    was = requirements_of(class_text)
    if placement.executor not in {PROOF, wanted.executor}:
        differences.append(f"executor: {placement.executor} then, {wanted.executor} now")
    is_plain = placement.rung is None and placement.learnt is None and placement.executor != PROOF
    if is_plain and placement.strategy not in wanted.strategies:
        differences.append(f"strategy: {placement.strategy} then, one of {', '.join(wanted.strategies)} now")
    then = _way(placement.strategy, placement.agent, placement.endpoint, placement.model)
    chosen = _chosen(placement.seen, was.patience_s)
    if chosen is None:
        return Again(then=then, now=then, differences=tuple(differences))
    now = _way(chosen.strategy, chosen.agent, chosen.endpoint, chosen.model)
    if now != then:
        differences.append(f"way: {then} then, {now} now")
    return Again(then=then, now=now, differences=tuple(differences), ways=len(placement.seen))


def _way(strategy: Strategy, agent: str, endpoint: str, model: str) -> str:
    where = f", {model or 'its model'} on {endpoint}" if endpoint else ""
    return f"{strategy} by {agent}{where}"


def _chosen(seen: Sequence[Seen], patience_s: float) -> Seen | None:
    ways = sorted(seen, key=lambda way: way.is_second)
    terms = [terms_of(way) for way in ways]
    ranks = [(round(t.total_s, 3), way.share, way.turn) for t, way in zip(terms, ways, strict=True)]
    firsts = sum(not way.is_second for way in ways)
    best = choose(ranks, [t.wait_s for t in terms], firsts, patience_s)
    return None if best is None else ways[best]


def terms_of(way: Seen) -> Terms:
    """The terms of a way; those that an older hub did not know are nothing."""
    known = len(astuple(Terms(0.0, 0.0, 0.0, 0.0, 0.0)))
    return Terms(*way.terms[:known])


def state_after(events: Sequence[Event]) -> TaskState | None:
    """The state that the events of a task lead to; ``None``: none of them says."""
    state: TaskState | None = None
    for event in events:
        state = next_state(state, event)
    return state


def next_state(state: TaskState | None, event: Event) -> TaskState | None:
    """The state of a task after one more event about it."""
    if event.kind is EventKind.TASK_PAUSED:
        return TaskState.WAITING
    if event.kind is EventKind.TASK_RESUMED and state is TaskState.WAITING:
        return TaskState.QUEUED
    if event.kind is EventKind.TASK_PROVING:
        return TaskState.QUEUED
    return _STATES.get(event.kind, state)
