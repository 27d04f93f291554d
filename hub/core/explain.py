"""Why a task stands where it stands: the scheduler's own reasons, in words, with what would change them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from hub.core.agent import Agent
from hub.core.board import Board
from hub.core.fleet import Fleet
from hub.core.matching import Match, failed_at, match, reasons_against, way_of
from hub.core.prefixes import Blocks
from hub.core.routing import Requirements, Way
from hub.core.speeds import OTHER_DEMAND, Demand
from hub.core.terms import Weighed
from protocol.api import HostExplanation
from protocol.checks import GENERATION_2, GENERATION_3, GENERATION_4, JUDGE, OPENS_PORTS, PLUGIN
from protocol.keystore import SECRETS
from protocol.model import Strategy, TaskState

SIDECAR: Final = "agentcom sidecar --hub URL --token-file FILE"
MAX_NAMED: Final = 3
"""Agents and endpoints that a way out names."""


def waiting(
    fleet: Fleet,
    requirements: Requirements,
    board: Board | None = None,
    demand: Demand = OTHER_DEMAND,
    known: Match | None = None,
    blocks: Blocks = (),
) -> tuple[str, tuple[str, ...], tuple[HostExplanation, ...]]:
    """Why a ready task of this class is not running: a sentence, what would unblock it, and each agent's reasons.

    Args:
        fleet, requirements: who is there, and what the task needs.
        board, demand: for work that needs a model: the servers, and what it asks of them.
        known: who can do it, if that was found out already.
        blocks: how its prompt begins.
    """
    if requirements.proof is not None:
        return _for_proof(fleet, requirements, known or match(fleet, requirements))
    return _waiting(fleet, requirements, board, demand, known or match(fleet, requirements), blocks)


def _for_proof(
    fleet: Fleet, requirements: Requirements, found: Match
) -> tuple[str, tuple[str, ...], tuple[HostExplanation, ...]]:
    """The same for work that is done, and that another machine has to prove."""
    summary, unblock, agents = _waiting(fleet, requirements, None, OTHER_DEMAND, found, ())
    host = requirements.proof.host if requirements.proof else ""
    if not found.ways:
        unblock = (f"start a sidecar on a machine other than {host}: {SIDECAR}", *unblock)
    return f"its checks passed on {host}, and another machine has to prove it: {summary}", unblock, agents


def _waiting(
    fleet: Fleet, requirements: Requirements, board: Board | None, demand: Demand, found: Match, blocks: Blocks
) -> tuple[str, tuple[str, ...], tuple[HostExplanation, ...]]:
    weighed = _weighed(found.ways, board, demand, blocks) if board and requirements.needs_model else {}
    agents = tuple(
        _agent(fleet, agent, requirements, found, weighed.get(name)) for name, agent in sorted(fleet.agents.items())
    )
    if said := _by_cost(weighed, requirements) or _by_slots(fleet, found, requirements):
        return *said, agents
    if not any(fleet.online()):
        return "no agent is online", (f"start a sidecar: {SIDECAR}",), agents
    return f"no agent that is online can do it: {found.reason}", tuple(_ways_out(fleet, requirements, agents)), agents


def _by_slots(fleet: Fleet, found: Match, requirements: Requirements) -> tuple[str, tuple[str, ...]] | None:
    """Why a task waits although there are agents that can do it; ``None``: there are none."""
    names = sorted({way.agent for way in found.ways})
    if not names:
        return None
    listed = _listed(names, 20)
    if requirements.alone:
        return (
            f"sidecars died while they ran it, so it waits for an agent without other work: {listed}",
            ("wait until one of them has nothing else to do", f"add an agent: {SIDECAR}"),
        )
    if any(fleet.agents[name].free_slots for name in names):
        return "it is about to be assigned", ()
    return (
        f"all agents that can do it are busy: {listed}",
        ("wait for a free slot", f"add an agent: {SIDECAR}", f"give one more slots: {SIDECAR} --slots N"),
    )


def _by_cost(weighed: Mapping[str, Weighed | str], requirements: Requirements) -> tuple[str, tuple[str, ...]] | None:
    """Why work for a model waits although its class has ways: it fits nowhere, or its turn comes elsewhere."""
    best = min((each for each in weighed.values() if isinstance(each, Weighed)), key=_total, default=None)
    if best is not None and best.terms.wait_s > 0:
        told = f"its turn comes on {best.way.agent} in about {best.terms.wait_s:.0f} s"
        if best.quota:
            told = f"endpoint {best.way.endpoint} has no room: {best.quota}; {told}"
        model = f"load it on another host, too: ollama pull {best.way.model}"
        ways_out = ("wait for it", model) if best.way.strategy is Strategy.LOCAL_LLM else ("wait for it",)
        if requirements.fallback is not None:
            told += f" (after {requirements.patience_s:.0f} s it may go to {requirements.strategies[1].value})"
        return f"{told}, where it is expected to end first, {best.terms.in_words}", ways_out
    if weighed and best is None:
        return (
            "its model fits on no server that could answer",
            ("submit it for a smaller model: agentcom submit --model NAME", "free GPU memory: agentcom hosts ls"),
        )
    return None


def _total(weighed: Weighed) -> float:
    return weighed.terms.total_s


def _weighed(ways: Iterable[Way], board: Board, demand: Demand, blocks: Blocks) -> dict[str, Weighed | str]:
    """The best way of each agent, or why its server can never do it."""
    best: dict[str, Weighed | str] = {}
    for way in ways:
        found, known = board.weigh(way, demand, blocks), best.get(way.agent)
        is_better = isinstance(found, Weighed) and (not isinstance(known, Weighed) or _total(found) < _total(known))
        if known is None or is_better:
            best[way.agent] = found
    return best


def _agent(
    fleet: Fleet, agent: Agent, requirements: Requirements, found: Match, weighed: Weighed | str | None
) -> HostExplanation:
    reasons = reasons_against(agent, requirements)
    ways = [way_of(fleet, agent, strategy, requirements) for strategy in requirements.strategies]
    if all(isinstance(way, str) for way in ways):
        reasons.extend(str(way) for way in ways)
    elif not reasons and found.ways and all(way.agent != agent.name for way in found.ways):
        reasons.append(_left_out(fleet, found, [way for way in ways if isinstance(way, Way)], requirements))
    if not reasons and not agent.free_slots:
        behind = "has not yet received what it was sent"
        reasons.append(behind if agent.is_behind else f"all {agent.slots} slots are in use")
    if isinstance(weighed, str):
        reasons.append(weighed)
    cost = weighed.terms.shown if isinstance(weighed, Weighed) else {}
    return HostExplanation(agent=agent.name, host=agent.host, state=agent.state, reasons=tuple(reasons), cost=cost)


def _left_out(fleet: Fleet, found: Match, ways: Sequence[Way], requirements: Requirements) -> str:
    """Why an agent that could do it is none of those that may."""
    used = found.ways[0].strategy
    if any(way.strategy is used and failed_at(fleet, way, requirements) for way in ways):
        return "has failed this task before, and others are left"
    return f"offers {ways[0].strategy.value} only, and {used.value} comes first"


def _listed(names: Sequence[str], most: int = MAX_NAMED) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


_PLAIN: Final = {
    "of disk free": "free some disk on a host: agentcom hosts ls",
    "is in cooldown": "wait until the cooldown is over: agentcom endpoints ls",
    "the task needs more than": "submit it for a model with more context: agentcom submit --model NAME",
    "has no sandbox": "install bubblewrap on the agent's host (apt install bubblewrap) and start the agent again",
}
"""What helps, by a piece of the reason."""


def _ways_out(fleet: Fleet, requirements: Requirements, agents: Iterable[HostExplanation]) -> Iterable[str]:
    texts = " ".join(reason for agent in agents for reason in agent.reasons)
    # First what stands alone between the task and an agent.
    if offline := _only(agents, "is offline"):
        yield f"start {_listed(offline)} again: {SIDECAR} --name {offline[0]}"
    if draining := _only(agents, "is draining"):
        yield from (f"let it take work again: agentcom agents resume {name}" for name in draining[:MAX_NAMED])
    yield from (way_out for piece, way_out in _PLAIN.items() if piece in texts)
    if "LLM endpoint" in texts:
        yield from (f"bring endpoint {name} back: it does not answer" for name in fleet.endpoints_down)
    if Strategy.LOCAL_LLM in requirements.strategies and "LLM endpoint" in texts:
        yield "start Ollama beside a sidecar, or add an endpoint: agentcom endpoints add KIND URL"
    if Strategy.CLOUD_LLM in requirements.strategies and "LLM endpoint" in texts:
        yield "give a sidecar a key: ANTHROPIC_API_KEY or OPENAI_API_KEY in its environment"
    if requirements.model and "has no model" in texts:
        yield f"pull the model on a host: ollama pull {requirements.model}"
    yield from (_brings(name) for name in requirements.needs if f"lacks {name!r}" in texts)


def _brings(capability: str) -> str:
    """How an agent comes to what it lacks."""
    if capability in {GENERATION_2, GENERATION_3, GENERATION_4}:
        return "upgrade a sidecar: it does not know all checks of the task"
    if capability == SECRETS:
        return "upgrade a sidecar: it does not know how to ask for secrets, and to hide them"
    if capability == OPENS_PORTS:
        return "install bubblewrap on an agent's host: elsewhere no program may be a server to itself"
    if capability == JUDGE:
        return "name a model that judges work in a sidecar's settings: agentcom sidecar --judge ENDPOINT/MODEL"
    if capability.startswith(PLUGIN):
        name = capability.removeprefix(PLUGIN)
        return f"name the program of the check in a sidecar's settings file: [[plugins]] name = {name!r}"
    return f"give an agent the capability: agentcom sidecar --capability {capability}"


def _only(agents: Iterable[HostExplanation], reason: str) -> list[str]:
    """Agents that nothing but this keeps from the task."""
    return [agent.agent for agent in agents if agent.reasons == (reason,)]


def standing(state: TaskState, *, agent: str | None, reason: str, ready_in_s: float | None) -> str:
    """One sentence about a task that is not waiting for an agent."""
    if state is TaskState.BLOCKED:
        return f"it waits for other tasks{f': {reason}' if reason else ''}"
    if state is TaskState.QUEUED and ready_in_s is not None:
        return f"it may start in {ready_in_s:.0f} s{f' ({reason})' if reason else ''}"
    if state is TaskState.WAITING:
        return f"it waits for a person{f': {reason}' if reason else ''}"
    if state in {TaskState.ASSIGNED, TaskState.RUNNING}:
        return f"it is {state.value} on {agent}"
    return f"it is {state.value}{f': {reason}' if reason else ''}"
