"""Decide which queued task goes to which agent.

Pure: takes the window, the fleet and a time, returns decisions; reads no clock, opens no connection, stores nothing, so
a decision can be replayed. The loop that feeds it is ``hub/services/dispatch.py``.

Order: the most urgent lane first, within a lane the submitter who has had the least (``hub/core/shares.py``), of its
tasks the oldest, over all classes that somebody free can serve. Of the
agents that can, the one with the smallest share of its slots in use gets it, among equals the one that has waited
longest, so that equal agents get equal shares.

Work for a model goes where it is expected to *end* first (``hub/core/board.py``): that may be a warm server that is
busy, and then the task waits for it while a colder one stays idle; what is behind it reckons with that. Within a lane,
work that needs a model to be loaded counts as younger by a few times the load, and long work as younger than short: so
models are not swapped for every task, the mean wait is short, and nobody waits for ever, because the handicap is
bounded. (Measured against other rules: docs/decisions/0011.)

A task that is suspected of killing its agents runs alone. While no agent is empty the least busy one gets nothing that
comes later in the order, so that it will be.
"""

import heapq
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import astuple

from hub.core.agent import Agent
from hub.core.board import Board
from hub.core.fleet import Fleet
from hub.core.lines import Line
from hub.core.matching import Match, Matcher
from hub.core.prefixes import Blocks
from hub.core.replay import MAX_SEEN, choose
from hub.core.routing import Requirements, Seen, Way
from hub.core.shares import Shares
from hub.core.speeds import Demand, Speeds
from hub.core.terms import Rates, Weighed
from hub.core.window import ClassQueue, Place, Window
from protocol.ids import made_ms

LOAD_HANDICAP: Final = 3.0
WORK_HANDICAP: Final = 0.1
"""By how many times its load, and its work, a task for a model counts as younger than it is."""
MAX_HANDICAP_S: Final = 600.0
"""No task is overtaken by one that came later than this after it."""
LOOK_AHEAD: Final = 64
"""Tasks for models that one plan may leave to servers which are busy."""


class Assignment(Struct, frozen=True):
    """Task ``place[1]`` of ``queue`` goes to ``agent`` in this ``way``; ``weighed``: what it costs on its server."""

    queue: ClassQueue
    place: Place
    agent: Agent
    way: Way
    match: Match
    weighed: Weighed | None = None
    others: tuple[Weighed, ...] = ()
    """The other ways that were weighed for it."""
    seen: tuple[Seen, ...] = ()
    """All of them as they were when it was chosen, for a replay (``hub/core/replay.py``)."""


class Several(Struct, frozen=True):
    """Tasks of ``queue`` that nothing was weighed for, and who takes each of them in which way."""

    queue: ClassQueue
    match: Match
    given: list[tuple[Place, tuple[Agent, Way]]]


Turn = tuple[int, str, str, int]
"""Time in the queue's order (ms), task, class, and how many of the class stand before it in this plan."""
Chosen = tuple[Agent, Way, Weighed]
"""Who does a task for a model, how, and what it costs."""
Group = tuple[int, str]
"""Lane and submitter."""


def plan(*parts: Any, **more: Any) -> Iterator[Assignment]:
    """As :func:`decisions`, all of them one by one."""
    for decided in decisions(*parts, **more):
        if isinstance(decided, Several):
            for place, chosen in decided.given:
                yield Assignment(decided.queue, place, *chosen, decided.match)
        else:
            yield decided


def decisions(
    window: Window,
    fleet: Fleet,
    matcher: Matcher,
    speeds: Speeds | None = None,
    now: float = 0.0,
    rates: Rates = Rates(),  # noqa: B008 - frozen
    shares: Shares | None = None,
    may_spend: Callable[[Requirements, Way, str], bool] | None = None,
) -> Iterator[Assignment | Several]:
    """Assignments to make now, best first.

    Each task is taken from the window as it is yielded; the caller must :meth:`Fleet.take` the attempt before asking
    for the next one, so that the slot counts as used: of :class:`Several` all of them, in their order.

    Args:
        window, fleet, matcher: what waits, who is there, and who can do what.
        speeds: what is known of models and tasks.
        now: seconds of the hub's monotonic clock.
        rates: what money and failures count.
        shares: what each submitter has had so far; takes note of what is given away now.
        may_spend: whether budgets allow an attempt of a task of a class; left out: there are none.
    """
    if not fleet.has_free_slot:
        return iter(())
    speeds, shares = speeds or Speeds(), shares or Shares()
    if may_spend is None and (only := window.only) is not None and _is_plain(only.requirements):
        found, line = matcher.look(only.sought)
        several = _at_once(only, found, line, fleet, speeds, shares) if found.ways else None
        return iter(() if several is None else (several,))
    planned = _Plan(window, fleet, matcher, speeds, now, rates, shares)
    planned.may_spend = may_spend
    return planned.assignments()


def _is_plain(requirements: Requirements) -> bool:
    """Whether tasks that require this go to whoever is free, in their order."""
    return not requirements.needs_model and not requirements.alone


def _at_once(
    queue: ClassQueue,
    found: Match,
    line: Line,
    fleet: Fleet,
    speeds: Speeds,
    shares: Shares,
    emptying: Collection[str] = (),
) -> Several | None:
    """The tasks of a plain class while no other waits, where nothing but slots can run out; ``None``: they have."""
    chosen = line.several(len(queue), emptying)
    places: list[Place] = []
    tasks: set[str] = set()  # one may be here twice, under two priorities
    while len(places) < len(chosen) and len(queue):
        for place in queue.take_some(len(chosen) - len(places)):
            task = place[1]
            # One can come into the window twice: by a refill and by whoever made it ready. Nobody may get it twice.
            if task not in tasks and task not in fleet.held and task not in fleet.away:
                tasks.add(task)
                places.append(place)
    if len(places) < len(chosen):
        line.begin_anew()
    if not places:
        return None
    seconds, by = speeds.lasts(queue.kind), queue.requirements.by
    if len(places) == 1:
        shares.took(places[0][0], by, seconds)
        return Several(queue, found, [(places[0], chosen[0])])
    lanes = [lane for lane, _ in places]
    for lane in dict.fromkeys(lanes):
        shares.took(lane, by, seconds, lanes.count(lane))
    return Several(queue, found, list(zip(places, chosen, strict=False)))


class _Plan:
    """One look at everything that waits."""

    def __init__(
        self, window: Window, fleet: Fleet, matcher: Matcher, speeds: Speeds, now: float, rates: Rates, shares: Shares
    ) -> None:
        self._window, self._fleet, self._matcher, self._speeds, self._now = window, fleet, matcher, speeds, now
        self._rates = rates
        self._demands: dict[str, Demand] = {}
        self._shares = shares
        self._turns: dict[Group, list[Turn]] = {}
        self._promised: dict[Group, float] = {}
        self._heads: list[tuple[int, float, str]] = []
        # Looked up once: the requirements are slow to hash.
        self._able: dict[str, tuple[ClassQueue, Match, bool, Line]] = {}
        self._emptying: set[str] = set()
        self._board: Board | None = None
        self._handicaps: dict[str, int] = {}
        self._left = LOOK_AHEAD
        self._looked_at: tuple[Weighed, ...] = ()
        self._firsts = 0
        self.may_spend: Callable[[Requirements, Way, str], bool] | None = None

    def assignments(self) -> Iterator[Assignment | Several]:
        for queue in self._window.classes.values():
            if queue.head is not None and (found := self._matcher.match(queue.sought)).ways:
                needs_model = queue.requirements.needs_model
                self._able[queue.text] = queue, found, needs_model, self._matcher.line(queue.sought)
        if len(self._able) == 1 and self._goes_in_order(only := next(iter(self._able))):
            yield from self._in_order(only)
            return
        for queue, _, _, _ in self._able.values():
            self._queue_up(queue, 0)
        # The most urgent lane; in it, the submitter who has had the least; of its tasks, the one whose turn it is.
        while self._heads:
            lane, _, by = heapq.heappop(self._heads)
            turns = self._turns[lane, by]
            _, _, text, ahead = heapq.heappop(turns)
            if not turns and not self._heads and self._goes_in_order(text):
                yield from self._in_order(text)
                return
            assignment = self._next(text, ahead)
            if assignment is not None:
                self._shares.took(lane, by, self._seconds(assignment))
                yield assignment
            if turns:
                self._line_up((lane, by))
            else:
                del self._turns[lane, by]

    def _goes_in_order(self, text: str) -> bool:
        return _is_plain(self._able[text][0].requirements)

    def _in_order(self, text: str) -> Iterator[Assignment | Several]:
        """The tasks of a plain class while no other waits: as :meth:`_next` would give them away, nothing compared."""
        queue, found, _, line = self._able[text]
        if self.may_spend is None:
            if several := _at_once(queue, found, line, self._fleet, self._speeds, self._shares, self._emptying):
                yield several
            return
        seconds = self._speeds.lasts(queue.kind)
        while (place := queue.head) is not None:
            chosen = line.first(self._emptying)
            if chosen is None or not self.may_spend(queue.requirements, chosen[1], place[1]):
                return
            queue.take()
            if not self._is_in_hand(place):
                self._shares.took(place[0], queue.requirements.by, seconds)
                yield Assignment(queue, place, *chosen, found)

    def _is_in_hand(self, place: Place) -> bool:
        """A task can come into the window twice: by a refill and by whoever made it ready. Nobody may get it twice."""
        return place[1] in self._fleet.held or place[1] in self._fleet.away

    def _next(self, text: str, ahead: int) -> Assignment | None:
        """Give away the task of a class whose turn it is, if somebody can take it now; the next one queues up."""
        queue, found, needs_model, _ = self._able[text]
        blocks = self._begins(queue, ahead) if needs_model else ()
        chosen = self._by_cost(queue, found, blocks) if needs_model else self._by_share(queue, found)
        if isinstance(chosen, Weighed):  # its turn comes on a server that is busy; the next one reckons with that
            if self._left > 0:
                self._promise(queue, ahead, chosen)
                self._queue_up(queue, ahead + 1)
            return None
        if chosen is None:
            return None  # everyone who could is busy; the next class may have others
        agent, way, weighed = chosen
        # Tasks of a class are alike, so the oldest goes; unless they begin differently, and this one belongs here.
        number = ahead if ahead and (blocks or self._begins(queue, 0)) else 0
        if self.may_spend is not None and not self.may_spend(queue.requirements, way, (queue.at(number) or (0, ""))[1]):
            return None  # equal tasks would not fit, either; other classes may
        others, seen = (self._looked_at, self._seen(weighed)) if weighed else ((), ())
        place = queue.take(number)
        self._queue_up(queue, ahead)
        if self._is_in_hand(place):
            return None
        return Assignment(queue, place, agent, way, found, weighed, others, seen)

    def _begins(self, queue: ClassQueue, number: int) -> Blocks:
        """How the prompt of the task begins that stands so far behind the head."""
        place = queue.at(number)
        return self._fleet.prefixes.of(place[1]) if place is not None else ()

    def _queue_up(self, queue: ClassQueue, ahead: int) -> None:
        place = queue.at(ahead)
        if place is None:
            return
        lane, task = place
        at_ms = self._handicap_ms(queue) if queue.requirements.needs_model else 0
        group = lane, queue.requirements.by
        if group not in self._turns:
            self._turns[group] = []
            self._line_up(group)
        heapq.heappush(self._turns[group], (made_ms(task) + at_ms, task, queue.text, ahead))

    def _line_up(self, group: Group) -> None:
        lane, by = group
        heapq.heappush(self._heads, (lane, self._shares.of(lane, by) + self._promised.get(group, 0.0), by))

    # --- shares -------------------------------------------------------------------------------------------------------

    def _seconds(self, assignment: Assignment) -> float:
        """What a task takes of the fleet."""
        weighed = assignment.weighed
        return weighed.terms.attempt_s if weighed else self._speeds.lasts(assignment.queue.kind)

    def _promise(self, queue: ClassQueue, ahead: int, chosen: Weighed) -> None:
        """A task that waits for its server counts too, in this plan."""
        place = queue.at(ahead)
        assert place is not None, "it had a turn"
        group = place[0], queue.requirements.by
        self._promised[group] = self._promised.get(group, 0.0) + chosen.terms.attempt_s

    # --- work without a model -----------------------------------------------------------------------------------------

    def _by_share(self, queue: ClassQueue, found: Match) -> tuple[Agent, Way, None] | None:
        alone = queue.requirements.alone
        chosen = self._able[queue.text][3].first(self._emptying, alone=alone)
        if chosen is None:
            if queue.requirements.alone:
                self._emptying |= {agent.name for agent in _least_busy(found, self._fleet, self._emptying)}
            return None
        return (*chosen, None)

    # --- work for a model ---------------------------------------------------------------------------------------------

    @property
    def board(self) -> Board:
        """The servers, looked at when the first task needs one."""
        if self._board is None:
            wanted = self._window.wanted()
            waiting = sum(wanted.values())
            self._board = Board(self._fleet, self._speeds, self._now, wanted.__getitem__, waiting, self._rates)
        return self._board

    def _demand(self, queue: ClassQueue) -> Demand:
        found = self._demands.get(queue.text)
        if found is None:
            found = self._demands[queue.text] = self._speeds.asked(queue.requirements, queue.kind)
        return found

    def _handicap_ms(self, queue: ClassQueue) -> int:
        """By how much later a task of this class counts as having come."""
        found = self._handicaps.get(queue.text)
        if found is None:
            weighed = self._weighed(queue, self._matcher.match(queue.sought))
            least = min(
                (LOAD_HANDICAP * each.terms.load_s + WORK_HANDICAP * each.terms.work_s for each in weighed), default=0.0
            )
            found = self._handicaps[queue.text] = int(1000 * min(MAX_HANDICAP_S, least))
        return found

    def _weighed(self, queue: ClassQueue, found: Match, blocks: Blocks = ()) -> list[Weighed]:
        demand = self._demand(queue)
        weighed = [self.board.weigh(way, demand, blocks) for way in found.ways if way.agent not in self._emptying]
        return [each for each in weighed if isinstance(each, Weighed)]

    def _by_cost(self, queue: ClassQueue, found: Match, blocks: Blocks) -> Chosen | Weighed | None:
        """The agent and way by which a task of the class ends first; only the way if it has to wait for it."""
        if queue.requirements.alone:
            chosen = self._by_share(queue, found)
            return None if chosen is None else self._alone(queue, *chosen[:2])
        if queue.fallback is None and not self._has_turn(found):
            return None
        weighed = self._weighed(queue, found, blocks)
        self._firsts, patience_s = len(weighed), queue.requirements.patience_s
        best = self._best(weighed, patience_s)
        if queue.fallback is not None and (best is None or best.terms.wait_s > patience_s):
            weighed += self._weighed(queue, self._matcher.match(queue.fallback), blocks)
            best = self._best(weighed, patience_s)
        if best is None:
            return None
        self._looked_at = tuple(weighed)
        self.board.reserve(best)
        agent = self._fleet.agents[best.way.agent]
        if best.terms.wait_s > 0 or not agent.free_slots:
            self._left -= 1
            return best
        return agent, best.way, best

    def _has_turn(self, found: Match) -> bool:
        return any(self.board.has_turn(way) for way in found.ways if way.agent not in self._emptying)

    def _best(self, weighed: list[Weighed], patience_s: float) -> Weighed | None:
        ranks = [self._rank(each) for each in weighed]
        best = choose(ranks, [each.terms.wait_s for each in weighed], self._firsts, patience_s)
        return None if best is None else weighed[best]

    def _rank(self, weighed: Weighed) -> tuple[float, float, int]:
        agent = self._fleet.agents[weighed.way.agent]
        return round(weighed.terms.total_s, 3), len(agent.held) / agent.slots, agent.last_given

    def _seen(self, chosen: Weighed) -> tuple[Seen, ...]:
        """What was looked at, as it was: the chosen way first, then the best ones."""
        order = sorted(range(len(self._looked_at)), key=lambda n: self._rank(self._looked_at[n]))
        chosen_first = sorted(order, key=lambda n: self._looked_at[n] is not chosen)[:MAX_SEEN]
        return tuple(self._see(self._looked_at[n], is_second=n >= self._firsts) for n in chosen_first)

    def _see(self, weighed: Weighed, *, is_second: bool) -> Seen:
        way, (_, share, turn) = weighed.way, self._rank(weighed)
        terms = astuple(weighed.terms)
        return Seen(way.agent, way.endpoint, way.model, way.strategy, terms, share, turn, is_second)

    def _alone(self, queue: ClassQueue, agent: Agent, way: Way) -> Chosen | None:
        weighed = self.board.weigh(way, self._demand(queue))
        if isinstance(weighed, str):
            return None
        self._looked_at, self._firsts = (weighed,), 1
        self.board.reserve(weighed)
        return agent, way, weighed


def _least_busy(found: Match, fleet: Fleet, emptying: Collection[str]) -> list[Agent]:
    """The agent that will be empty soonest, as far as anybody can tell; none if one is being emptied already."""
    able = {way.agent for way in found.ways}
    if able & {*emptying} or any(fleet.agents[name].runs_alone for name in able):
        return []
    return sorted((fleet.agents[name] for name in able), key=lambda agent: (len(agent.held), agent.name))[:1]
