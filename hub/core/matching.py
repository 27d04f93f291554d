"""Who could do a class of tasks, and why the others could not.

Hard gates only: capabilities, executor, disk, an endpoint with the model, drain. Who of them *should* is
:mod:`hub.core.scheduling`. The same reasons feed ``explain``, so what it says is what was decided.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from hub.core.agent import Agent
from hub.core.fleet import Fleet
from hub.core.lines import Line
from hub.core.routing import ANSWER_TOKENS, EXTERNAL, Requirements, Way, model_on
from hub.core.vram import most_tokens, overflow
from protocol.endpoints import EndpointState
from protocol.model import AgentState, Candidate, EndpointKind, EndpointReport, Strategy
from protocol.progress import RECLAIMED


@dataclass(frozen=True, slots=True)
class Match:
    """Everyone who can do a class, by the first strategy that anyone online offers."""

    ways: tuple[Way, ...]
    candidates: tuple[Candidate, ...]
    reason: str


NO_SANDBOX: Final = "sandbox:none"
"""What an agent says that can confine no program."""


def place_of(agent: str) -> str:
    """What a task needs that is to run on this agent and no other; a label, which names of agents need not be."""
    return f"machine:{agent.replace(' ', '-')[:56]}"


def reasons_against(agent: Agent, requirements: Requirements) -> list[str]:
    """What keeps ``agent`` from this class whatever the strategy; empty: nothing does."""
    reasons = []
    if agent.state is AgentState.OFFLINE:
        reasons.append("is offline")
    if agent.is_draining:
        reasons.append("is draining")
    if agent.is_leaving:
        reasons.append("is about to leave")
    if agent.quarantine:
        reasons.append("is in quarantine, because its key is in use twice")
    if agent.state is AgentState.BLOCKED:
        reasons.append("is blocked")
    if agent.cramped and requirements.executor != "noop":
        reasons.append(agent.cramped)
    if requirements.proof is not None and agent.host == requirements.proof.host:
        reasons.append("is on the machine that did the work, and another one has to prove it")
    wanted = {f"executor:{requirements.executor}", *requirements.needs}
    reasons.extend(f"lacks {name!r}" for name in sorted(wanted - agent.capabilities - {place_of(agent.name)}))
    if NO_SANDBOX in agent.capabilities and f"executor:{requirements.executor}" not in agent.capabilities:
        reasons.append("has no sandbox, so it runs no commands")
    return reasons


def way_of(fleet: Fleet, agent: Agent, strategy: Strategy, requirements: Requirements) -> Way | str:
    """How ``agent`` would follow ``strategy``, or why it cannot."""
    if strategy is Strategy.TRIVIAL:
        return Way(agent=agent.name, strategy=strategy)
    wants_local = strategy is Strategy.LOCAL_LLM
    fitting = _offered(fleet, agent, strategy)
    if not fitting and wants_local and (whose := _owner_of(fleet, agent)):
        return f"the owner of {whose} has taken the GPU back"
    if not fitting:
        return f"has no {'local' if wants_local else 'cloud'} LLM endpoint"
    against = ""
    for endpoint in fitting:
        if model := model_on(endpoint, requirements.model):
            against = _shut(fleet, agent, endpoint) or _too_small(endpoint, model, requirements)
            if not against:
                return Way(agent=agent.name, strategy=strategy, endpoint=endpoint.id, model=model)
    return against or _no_model(fitting, requirements.model)


def _offered(fleet: Fleet, agent: Agent, strategy: Strategy) -> list[EndpointReport]:
    """Endpoints for this strategy that ``agent`` may use: not those whose GPU its owner has taken back."""
    wants_local = strategy is Strategy.LOCAL_LLM
    own = () if wants_local and RECLAIMED in agent.capabilities else agent.endpoints
    added = (endpoint for endpoint in fleet.endpoints if not fleet.is_taken_back(endpoint, agent.name))
    return [endpoint for endpoint in (*own, *added) if endpoint.local == wants_local]


def _owner_of(fleet: Fleet, agent: Agent) -> str:
    """Whose owner keeps local models from ``agent``; empty: nobody's."""
    if RECLAIMED in agent.capabilities:
        return "its machine"
    taken = (endpoint.id for endpoint in fleet.endpoints if fleet.is_taken_back(endpoint, agent.name))
    return next((f"the machine of LLM endpoint {name}" for name in taken), "")


def _shut(fleet: Fleet, agent: Agent, endpoint: EndpointReport) -> str:
    """Why an endpoint is given no work now; empty: it may be."""
    health = fleet.health_of(agent, endpoint)
    if health is None or health.takes_work:
        return ""
    until = ""
    if health.until_ms is not None and health.state is EndpointState.COOLDOWN:
        until = f" until {datetime.fromtimestamp(health.until_ms / 1000, UTC):%H:%M:%S} UTC"
    return f"its LLM endpoint {endpoint.id} is in {health.state.value}{until}: {health.problem}"


def _too_small(endpoint: EndpointReport, name: str, requirements: Requirements) -> str:
    """Why a model certainly cannot read the prompt; empty: it may."""
    model = next((model for model in endpoint.models if model.name == name), None)
    grows = endpoint.kind is EndpointKind.OLLAMA
    if overflow(model, requirements.context, grows=grows) < 1:
        return ""
    least, most = requirements.context // 2 + ANSWER_TOKENS, most_tokens(model, grows=grows)
    return f"{name} on {endpoint.id} takes {most} tokens, the task needs more than {least} with its answer"


def _no_model(endpoints: list[EndpointReport], wanted: str) -> str:
    offered = sorted({model.name for endpoint in endpoints for model in endpoint.models})
    listed = ", ".join(offered[:8]) or "none"
    return f"has no model {wanted!r} (offers {listed})" if wanted else "its LLM endpoints offer no model"


Looks = dict[str, tuple[Candidate, Way | None]]
"""What was found out about each agent online for one strategy, by its name."""


def match(
    fleet: Fleet,
    requirements: Requirements,
    look: Callable[[Strategy], Looks] | None = None,
    *,
    is_wide: bool = False,
) -> Match:
    """Who online can do this class: the first strategy of the chain that anyone offers wins.

    Args:
        fleet: who there is.
        requirements: of the class.
        look: what is known of the agents for a strategy; left out: it is found out now.
        is_wide: where the model is open, every model of every strategy of the chain is a way, and cost decides.
    """
    if is_wide and requirements.is_open:
        return _widely(fleet, requirements)
    candidates: list[Candidate] = []
    skipped: list[str] = []
    for strategy in requirements.strategies:
        found = look(strategy) if look else _look(fleet, strategy, requirements)
        candidates.extend(candidate for candidate, _ in found.values())
        if ways := [way for _, way in found.values() if way is not None]:
            ways = _elsewhere(fleet, ways, requirements)
            return Match(tuple(ways), tuple(candidates), _reason(requirements, strategy, skipped))
        is_plain = strategy is Strategy.TRIVIAL
        skipped.append("none has all it needs" if is_plain else f"no agent online offers {strategy.value}")
    return Match((), tuple(candidates), " and ".join(skipped) or "no strategy is configured")


def _look(fleet: Fleet, strategy: Strategy, requirements: Requirements) -> Looks:
    return {agent.name: _candidate(fleet, agent, strategy, requirements) for agent in fleet.online()}


def _widely(fleet: Fleet, requirements: Requirements) -> Match:
    ways: list[Way] = []
    candidates: list[Candidate] = []
    for strategy in requirements.strategies:
        for agent in fleet.online():
            against = tuple(reasons_against(agent, requirements))
            found = _ways_of(fleet, agent, strategy, requirements)
            if isinstance(found, str):
                candidates.append(Candidate(strategy=strategy, agent=agent.name, reasons=(*against, found)))
                continue
            candidates.extend(_as_candidate(way, against) for way in found)
            ways.extend(() if against else found)
    reason = f"{requirements.executor} work goes where a verified result is expected to cost least"
    ways = _elsewhere(fleet, ways, requirements)
    return Match(tuple(ways), tuple(candidates), reason if ways else "no agent online offers a model")


def _ways_of(fleet: Fleet, agent: Agent, strategy: Strategy, requirements: Requirements) -> list[Way] | str:
    """Every way in which ``agent`` could follow ``strategy``, or why there is none."""
    first = way_of(fleet, agent, strategy, requirements)
    if isinstance(first, str):
        return first
    found = [first]
    for endpoint in _offered(fleet, agent, strategy):
        if _shut(fleet, agent, endpoint):
            continue
        for model in endpoint.models:
            way = Way(agent=agent.name, strategy=strategy, endpoint=endpoint.id, model=model.name)
            if way != first and not _too_small(endpoint, model.name, requirements):
                found.append(way)
    return found


def _as_candidate(way: Way, against: tuple[str, ...]) -> Candidate:
    return Candidate(
        strategy=way.strategy,
        agent=way.agent,
        endpoint=way.endpoint,
        model=way.model,
        feasible=not against,
        reasons=against,
    )


def _elsewhere(fleet: Fleet, ways: list[Way], requirements: Requirements) -> list[Way]:
    """The ways without those where it has failed; all, if there are no others: a task is never without any place."""
    if not requirements.avoid:
        return ways
    return [way for way in ways if not failed_at(fleet, way, requirements)] or ways


def failed_at(fleet: Fleet, way: Way, requirements: Requirements) -> str:
    """Where on this way such a task has failed before (an agent or an endpoint); empty: nowhere."""
    agent = fleet.agents[way.agent]
    own = (fleet.server_of(agent, each.id, each.url) for each in agent.endpoints if each.id == way.endpoint)
    host, name = next(own, ("", way.endpoint))
    places = f"agent:{way.agent}", f"endpoint:{host}/{name}"
    return next((place for place in places if place in requirements.avoid), "")


def _reason(requirements: Requirements, strategy: Strategy, skipped: list[str]) -> str:
    if strategy is Strategy.TRIVIAL and requirements.executor == EXTERNAL:
        return f"{requirements.executor} work is done by a program that asks models by itself"
    if strategy is Strategy.TRIVIAL:
        return f"{requirements.executor} work needs no model: {strategy.value}, zero tokens"
    if skipped:
        return f"{requirements.executor} work goes to {strategy.value}, since {' and '.join(skipped)}"
    return f"{requirements.executor} work goes to {strategy.value}, the first choice for its tier"


def _candidate(
    fleet: Fleet, agent: Agent, strategy: Strategy, requirements: Requirements
) -> tuple[Candidate, Way | None]:
    against = reasons_against(agent, requirements)
    way = way_of(fleet, agent, strategy, requirements)
    if isinstance(way, str):
        against.append(way)
        return Candidate(strategy=strategy, agent=agent.name, reasons=tuple(against)), None
    return _as_candidate(way, tuple(against)), None if against else way


MAX_CANDIDATES: Final = 200_000
"""Candidates in remembered matches: classes times agents, about 40 MB of them."""


MAX_MATCHES: Final = 2_000
"""Classes whose matches are remembered."""


class _Known:
    """A match, and what it was made of, so that a change of one agent costs one look."""

    __slots__ = ("_fleet", "_is_wide", "_looks", "_requirements", "generation", "line", "match")

    def __init__(self, fleet: Fleet, requirements: Requirements, *, is_wide: bool) -> None:
        self._fleet, self._requirements, self._is_wide = fleet, requirements, is_wide
        self._looks: dict[Strategy, tuple[int, Looks]] = {}
        self.renew()

    def renew(self) -> None:
        """Make the match of the fleet as it is now."""
        self.generation = self._fleet.generation
        self.match = match(self._fleet, self._requirements, self._look, is_wide=self._is_wide)
        self.line = Line(self.match.ways, self._fleet)

    def _look(self, strategy: Strategy) -> Looks:
        fleet = self._fleet
        generation, looks = self._looks.get(strategy, (-1, {}))
        names = fleet.changed_since(generation) if generation >= 0 else None
        if names is None:
            looks = _look(fleet, strategy, self._requirements)
        else:
            for name in names:
                agent = fleet.agents.get(name)
                if agent is None or agent.state is AgentState.OFFLINE:
                    looks.pop(name, None)
                else:
                    looks[name] = _candidate(fleet, agent, strategy, self._requirements)
        self._looks[strategy] = fleet.generation, looks
        return looks


class Matcher:
    """Matches by class, computed once per change of the fleet, of the agents that have changed."""

    def __init__(self, fleet: Fleet, *, is_wide: bool = False) -> None:
        self._fleet, self._is_wide = fleet, is_wide
        self._known: dict[Requirements, _Known] = {}
        self.candidates = 0
        """In all matches that are remembered, roughly."""

    def match(self, requirements: Requirements) -> Match:
        """As :func:`match`, remembered until the fleet's generation changes."""
        return self._knows(requirements).match

    def look(self, requirements: Requirements) -> tuple[Match, Line]:
        """As :meth:`match` and :meth:`line`."""
        known = self._knows(requirements)
        return known.match, known.line

    def line(self, requirements: Requirements) -> Line:
        """Those who can do the class, the one that should take the next task first."""
        return self._knows(requirements).line

    def _knows(self, requirements: Requirements) -> _Known:
        known = self._known.get(requirements)
        if known is not None and known.generation == self._fleet.generation:
            return known
        if known is None:
            known = _Known(self._fleet, requirements, is_wide=self._is_wide)
            if self.candidates + len(known.match.candidates) > MAX_CANDIDATES or len(self._known) >= MAX_MATCHES:
                self._known.clear()
                self.candidates = 0
            self.candidates += len(known.match.candidates)
            self._known[requirements] = known
        else:
            self.candidates -= len(known.match.candidates)
            known.renew()
            self.candidates += len(known.match.candidates)
        return known
