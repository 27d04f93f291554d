"""Why a task stands where it stands: the scheduler's own reasons, in words, with what would change them."""

from collections.abc import Iterable

from hub.core.agent import Agent
from hub.core.fleet import Fleet
from hub.core.matching import match, reasons_against, way_of
from hub.core.routing import Requirements
from protocol.api import HostExplanation
from protocol.model import Strategy, TaskState


def waiting(fleet: Fleet, requirements: Requirements) -> tuple[str, tuple[str, ...], tuple[HostExplanation, ...]]:
    """Why a ready task of this class is not running: a sentence, what would unblock it, and each agent's reasons."""
    agents = tuple(_agent(fleet, agent, requirements) for agent in sorted(fleet.agents.values(), key=lambda a: a.name))
    found = match(fleet, requirements)
    if found.ways:
        names = sorted({way.agent for way in found.ways})
        if requirements.alone:
            return (
                f"sidecars died while they ran it, so it waits for an agent without other work: {', '.join(names)}",
                ("wait until one of them has nothing else to do", "add an agent"),
                agents,
            )
        if any(fleet.agents[name].free_slots for name in names):
            return "it is about to be assigned", (), agents
        return (
            f"all agents that can do it are busy: {', '.join(names)}",
            ("wait for a free slot", "add an agent or give one more slots"),
            agents,
        )
    if not any(fleet.online()):
        return "no agent is online", ("start a sidecar: agentcom sidecar --hub URL --token-file FILE",), agents
    return f"no agent that is online can do it: {found.reason}", tuple(_ways_out(fleet, requirements, agents)), agents


def _agent(fleet: Fleet, agent: Agent, requirements: Requirements) -> HostExplanation:
    reasons = reasons_against(agent, requirements)
    ways = [way_of(fleet, agent, strategy, requirements) for strategy in requirements.strategies]
    if all(isinstance(way, str) for way in ways):
        reasons.extend(str(way) for way in ways)
    if not reasons and not agent.free_slots:
        reasons.append(f"all {agent.slots} slots are in use")
    return HostExplanation(agent=agent.name, host=agent.host, state=agent.state, reasons=tuple(reasons))


def _ways_out(fleet: Fleet, requirements: Requirements, agents: Iterable[HostExplanation]) -> Iterable[str]:
    texts = " ".join(reason for agent in agents for reason in agent.reasons)
    if "is offline" in texts:
        yield "bring an offline agent back"
    if "is draining" in texts:
        yield "resume a draining agent: agentcom agents resume NAME"
    if "LLM endpoint" in texts:
        yield from (f"bring endpoint {name} back: it does not answer" for name in fleet.endpoints_down)
    if Strategy.LOCAL_LLM in requirements.strategies and "LLM endpoint" in texts:
        yield "start Ollama beside a sidecar, or add an endpoint: agentcom endpoints add KIND URL"
    if Strategy.CLOUD_LLM in requirements.strategies and "LLM endpoint" in texts:
        yield "give a sidecar a key: ANTHROPIC_API_KEY or OPENAI_API_KEY in its environment"
    if requirements.model and "has no model" in texts:
        yield f"pull the model on a host: ollama pull {requirements.model}"
    yield from (
        f"give an agent the capability: agentcom sidecar --capability {name}"
        for name in requirements.needs
        if f"lacks {name!r}" in texts
    )


def standing(state: TaskState, *, agent: str | None, reason: str, ready_in_s: float | None) -> str:
    """One sentence about a task that is not waiting for an agent."""
    if state is TaskState.BLOCKED:
        return f"it waits for other tasks{f': {reason}' if reason else ''}"
    if state is TaskState.QUEUED and ready_in_s is not None:
        return f"it may start in {ready_in_s:.0f} s{f' ({reason})' if reason else ''}"
    if state in {TaskState.ASSIGNED, TaskState.RUNNING}:
        return f"it is {state.value} on {agent}"
    return f"it is {state.value}{f': {reason}' if reason else ''}"
