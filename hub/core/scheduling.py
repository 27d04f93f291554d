"""Decide which queued task goes to which agent.

Pure: takes the window and the fleet, returns decisions; reads no clock, opens no connection, stores nothing, so a
decision can be replayed. The loop that feeds it is ``hub/services/dispatch.py``.

Order: the most urgent lane first, within a lane the oldest task, over all classes that somebody free can serve. Of the
agents that can, the one with the smallest share of its slots in use gets it, among equals the one that has waited
longest, so that equal agents get equal shares.

A task that is suspected of killing its agents runs alone. While no agent is empty the least busy one gets nothing that
comes later in the order, so that it will be.
"""

import heapq
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from hub.core.agent import Agent
from hub.core.fleet import Fleet
from hub.core.matching import Match, Matcher
from hub.core.routing import Way
from hub.core.window import ClassQueue, Place, Window


@dataclass(frozen=True, slots=True)
class Assignment:
    """Task ``place[1]`` of ``queue`` goes to ``agent`` in this ``way``."""

    queue: ClassQueue
    place: Place
    agent: Agent
    way: Way
    match: Match


def plan(window: Window, fleet: Fleet, matcher: Matcher) -> Iterator[Assignment]:
    """Assignments to make now, best first.

    Each task is taken from the window as it is yielded; the caller must :meth:`Fleet.take` the attempt before asking
    for the next one, so that the slot counts as used.
    """
    if not fleet.has_free_slot:
        return
    heads: list[tuple[Place, str]] = []
    for text, queue in window.classes.items():
        if (head := queue.head) is not None and matcher.match(queue.requirements).ways:
            heads.append((head, text))
    heapq.heapify(heads)
    emptying: set[str] = set()
    while heads:
        _, text = heads[0]
        queue = window.classes[text]
        found = matcher.match(queue.requirements)
        chosen = choose(found, fleet, emptying, alone=queue.requirements.alone)
        if chosen is None:
            if queue.requirements.alone:
                emptying |= {agent.name for agent in _least_busy(found, fleet, emptying)}
            heapq.heappop(heads)  # everyone who could is busy; the next class may have others
            continue
        agent, way = chosen
        place = queue.take()
        # A task can come into the window twice: by a refill and by whoever made it ready. Nobody may get it twice.
        if place[1] not in fleet.held:
            yield Assignment(queue, place, agent, way, found)
        head = queue.head
        if head is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (head, text))


def choose(
    found: Match, fleet: Fleet, emptying: Collection[str] = (), *, alone: bool = False
) -> tuple[Agent, Way] | None:
    """Who of those that can should take the next task; ``None`` if all are busy.

    Args:
        emptying: agents that get nothing, until something that must run alone can run there.
        alone: this is such a task.
    """
    best: tuple[float, int] | None = None
    chosen: tuple[Agent, Way] | None = None
    for way in found.ways:
        agent = fleet.agents[way.agent]
        if not agent.free_slots or agent.name in emptying or (alone and agent.held):
            continue
        rank = (len(agent.held) / agent.slots, agent.last_given)
        if best is None or rank < best:
            best, chosen = rank, (agent, way)
    return chosen


def _least_busy(found: Match, fleet: Fleet, emptying: Collection[str]) -> list[Agent]:
    """The agent that will be empty soonest, as far as anybody can tell; none if one is being emptied already."""
    able = {way.agent for way in found.ways}
    if able & {*emptying} or any(fleet.agents[name].runs_alone for name in able):
        return []
    return sorted((fleet.agents[name] for name in able), key=lambda agent: (len(agent.held), agent.name))[:1]
