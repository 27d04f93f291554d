"""Whose turn it is among those who can do a class of tasks.

The one with the smallest share of its slots in use, among equals the one that has waited longest. A line stands for as
long as the fleet's generation: an agent that has got busier is put where it belongs when it comes to the head, and one
that has got freer is told of by the fleet. So a decision costs the logarithm of the number of agents, and a plan that
makes one decision costs no more than one of many. Pure; callers: ``matching.py``, ``scheduling.py``.
"""

import heapq
from collections.abc import Collection, Sequence
from typing import Any, Final

from hub.core.agent import Agent
from hub.core.fleet import Fleet
from hub.core.routing import Way

Rank = tuple[float, int]
"""Share of the slots in use, and number of the last assignment."""
_SLACK: Final = 64


class Line:
    """Those who can do a class of tasks, the one that should take the next task first.

    Args:
        ways: those that can, and how.
        fleet: everyone.
    """

    __slots__ = ("_fleet", "_heap", "_numbers", "_ranks", "_seen", "_ways")

    def __init__(self, ways: Sequence[Way], fleet: Fleet) -> None:
        self._ways, self._fleet = ways, fleet
        self._heap: list[tuple[float, int, int]] = []  # rank and number of the way; some are out of date
        self._ranks: dict[int, Rank] = {}  # the entry of each way that counts
        self._numbers: dict[str, int] | None = None  # of the ways, by agent; made when the first task comes
        self._seen = 0

    def first(self, emptying: Collection[str] = (), *, alone: bool = False) -> tuple[Agent, Way] | None:
        """Who should take the next task, and how; ``None`` if all are busy.

        Args:
            emptying: agents that get nothing, until something that must run alone can run there.
            alone: the task must.
        """
        self._catch_up()
        aside = []
        found = None
        while found is None and self._settle():
            share, _, number = self._heap[0]
            way = self._ways[number]
            if alone and share:
                break  # those behind it hold something, too
            if way.agent in emptying:
                aside.append(heapq.heappop(self._heap))
            else:
                found = self._fleet.agents[way.agent], way
        for entry in aside:
            heapq.heappush(self._heap, entry)
        return found

    def several(self, count: int, emptying: Collection[str] = ()) -> list[tuple[Agent, Way]]:
        """As :meth:`first`, for so many tasks of which each is given away before the next; fewer if slots run out.

        The line is left as it is when they have been: whoever asks has to :meth:`Fleet.take` all of them, in this
        order and before anything else, or call :meth:`begin_anew`.
        """
        self._catch_up()
        heap, last_given = self._heap, self._fleet.given
        found: list[tuple[Agent, Way]] = []
        seats: dict[int, list[Any]] = {}  # who was chosen, with attempts in hand by now, and slots
        aside = []
        while heap and len(found) < count:
            share, given, number = heap[0]
            seat = seats.get(number)
            if seat is None:
                if not self._is_right():
                    continue
                way = self._ways[number]
                if way.agent in emptying:
                    aside.append(heapq.heappop(heap))
                    continue
                agent = self._fleet.agents[way.agent]
                seat = seats[number] = [(agent, way), len(agent.held), agent.slots]
            elif self._ranks.get(number) != (share, given):
                heapq.heappop(heap)  # from before it was chosen
                continue
            chosen, held, slots = seat
            found.append(chosen)
            seat[1], last_given = held + 1, last_given + 1
            if held + 1 < slots:
                rank = self._ranks[number] = (held + 1) / slots, last_given
                heapq.heapreplace(heap, (*rank, number))
            else:
                heapq.heappop(heap)
                del self._ranks[number]
        for entry in aside:
            heapq.heappush(heap, entry)
        return found

    def begin_anew(self) -> None:
        """Look at everybody again."""
        self._numbers = None

    def _settle(self) -> bool:
        """Have an entry at the head that is right; ``False`` if there is none."""
        while self._heap:
            if self._is_right():
                return True
        return False

    def _is_right(self) -> bool:
        """Whether the entry at the head is right; else it is gone now, or stands where it belongs."""
        heap = self._heap
        share, last_given, number = heap[0]
        if self._ranks.get(number) != (share, last_given):
            heapq.heappop(heap)  # it was freed since, or given something: another entry counts
            return False
        agent = self._fleet.agents[self._ways[number].agent]
        if not agent.free_slots:
            heapq.heappop(heap)
            del self._ranks[number]
            return False
        if (rank := _rank(agent)) != (share, last_given):
            self._ranks[number] = rank
            heapq.heapreplace(heap, (*rank, number))
            return False
        return True

    def _catch_up(self) -> None:
        """Queue up those that were freed since the last look."""
        if self._seen == self._fleet.freeings and self._numbers is not None:
            return
        freed = self._fleet.freed_since(self._seen) if self._numbers is not None else None
        self._seen = self._fleet.freeings
        if freed is None or len(self._heap) > 4 * len(self._ways) + _SLACK:
            self._begin()
            return
        assert self._numbers is not None, "it has begun"
        for name in freed:
            number = self._numbers.get(name)
            if number is None or not (agent := self._fleet.agents[name]).free_slots:
                continue
            rank = _rank(agent)
            if self._ranks.get(number) != rank:
                self._ranks[number] = rank
                heapq.heappush(self._heap, (*rank, number))

    def _begin(self) -> None:
        agents = self._fleet.agents
        self._numbers = {way.agent: number for number, way in enumerate(self._ways)}
        self._ranks = {
            number: _rank(agent) for name, number in self._numbers.items() if (agent := agents[name]).free_slots
        }
        self._heap = [(*rank, number) for number, rank in self._ranks.items()]
        heapq.heapify(self._heap)


def _rank(agent: Agent) -> Rank:
    return len(agent.held) / agent.slots, agent.last_given
