"""When a task that waits will probably begin, by what stands before it and how long such work takes.

An estimate for people, never a promise: what comes before it is spread evenly over the places where it could go. Pure;
its cost grows with the classes that wait, not with their tasks. Caller: ``hub/services/insight.py``.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from hub.core.agent import Held
from hub.core.board import Board
from hub.core.fleet import Fleet
from hub.core.matching import Match, Matcher
from hub.core.routing import Requirements, requirements_of
from hub.core.speeds import Speeds
from hub.core.terms import Weighed

DONE: Final = 0.5
"""Share of an attempt that is over on average, where nobody knows."""


class Outlook:
    """The fleet as it is now, asked when something will begin.

    Args:
        fleet, matcher, speeds: who is there, who can do what, and how long it takes.
        board: the servers for work that needs a model.
        now: seconds of the hub's monotonic clock.
    """

    def __init__(self, fleet: Fleet, matcher: Matcher, speeds: Speeds, board: Board, now: float) -> None:
        self._fleet, self._matcher, self._speeds, self._board, self._now = fleet, matcher, speeds, board, now

    def starts_in(self, requirements: Requirements, ahead: Mapping[str, int]) -> float | None:
        """Seconds until a task will probably begin; ``None``: nobody who is online can do it.

        Args:
            requirements: of the task.
            ahead: how many tasks go before it, by the text of their class.
        """
        found = self._matcher.match(requirements.place)
        free = sorted(self._servers(found, requirements) if requirements.needs_model else self._slots(found))
        if not free:
            return None
        able = {way.agent for way in found.ways}
        return level(free, sum(self._work_s(text, tasks, able, requirements) for text, tasks in ahead.items()))

    def _slots(self, found: Match) -> Iterable[float]:
        """When each slot of those who can will be free, in seconds from now."""
        for way in found.ways:
            agent = self._fleet.agents[way.agent]
            yield from (self._rest(held) for held in agent.held.values())
            yield from [0.0] * agent.free_slots

    def _rest(self, held: Held) -> float:
        if held.ends_at is None:
            return DONE * self._speeds.lasts(held.kind)
        return max(0.0, held.ends_at - self._now)

    def _servers(self, found: Match, requirements: Requirements) -> Iterable[float]:
        """When each place on the LLM servers of those who can will be free."""
        demand = self._speeds.asked(requirements, requirements.kind)
        seen = set()
        for way in found.ways:
            server = self._board.server(self._fleet.agents[way.agent], way.endpoint)
            weighed = self._board.weigh(way, demand)
            if isinstance(weighed, str) or server.key in seen:
                continue
            seen.add(server.key)
            taken = server.ends[-server.parallel :]
            # Its agent may be full, or a model that is in use stand where its own would go: no place is free before.
            least_s = weighed.terms.wait_s
            yield from (max(least_s, ends - self._now) for ends in taken)
            yield from [least_s] * (server.parallel - len(taken))

    def _work_s(self, text: str, tasks: int, able: set[str], requirements: Requirements) -> float:
        """Seconds of work that tasks of a class will probably put on these agents."""
        theirs = requirements_of(text)
        if requirements.needs_model and not theirs.needs_model:
            return 0.0  # it takes slots, which LLM servers seldom wait for
        found = self._matcher.match(theirs.place)
        names = {way.agent for way in found.ways}
        if not (shared := names & able):
            return 0.0
        return tasks * self._lasts(theirs, found) * len(shared) / len(names)

    def _lasts(self, requirements: Requirements, found: Match) -> float:
        if not requirements.needs_model:
            return self._speeds.lasts(requirements.kind)
        demand = self._speeds.asked(requirements, requirements.kind)
        ways = [self._board.weigh(way, demand) for way in found.ways]
        return min((each.terms.work_s + each.terms.verify_s for each in ways if isinstance(each, Weighed)), default=0.0)


def level(free: list[float], work_s: float) -> float:
    """When the first place is free after so much work was spread over all of them, each used as soon as it can be.

    Args:
        free: when each place will be free, soonest first; at least one.
    """
    taken_s = 0.0
    for number, at in enumerate(free, start=1):
        taken_s += at
        ends = (work_s + taken_s) / number
        if number == len(free) or ends <= free[number]:
            return max(free[0], ends)
    raise AssertionError("the last place ends the loop")
