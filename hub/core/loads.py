"""How the model of an attempt is held in memory: with how much context, for how long afterwards, and what goes before.

A model stays long while more work for it waits, shortly while another one waits for its memory, and for the usual time
else. Pure: made from the queue and the fleet for one assignment. Caller: ``hub/services/dispatch.py``; the sidecar
obeys (``sidecar/executors/asking.py``).
"""

from typing import Final

from hub.core.board import find, model_of
from hub.core.fleet import Fleet
from hub.core.routing import Requirements, model_on
from hub.core.terms import Weighed
from hub.core.vram import needed_bytes, room
from hub.core.window import Window
from protocol.endpoints import EndpointKind, EndpointReport, Residency
from protocol.loads import LoadPlan
from protocol.machine import HostReport
from protocol.model import Strategy

USUAL_S: Final = 300.0
"""Ollama's own default: the next task of the kind often comes within minutes."""
SHORT_S: Final = 15.0
LONGEST_S: Final = 3_600.0
TURNS_S: Final = 300.0
"""Least time for work with tools: between two requests of one attempt the tests may run for minutes."""
AGENT_CONTEXT: Final = 16_384
"""Context that work with tools mostly stays below; loaded at once, so that a growing conversation needs no new load."""


def load_plan(chosen: Weighed, requirements: Requirements, window: Window, fleet: Fleet) -> LoadPlan | None:
    """How the model of an attempt is to be held; ``None`` where nobody can choose that: not in a cloud.

    Args:
        chosen: the way it goes, with the models that have no room beside.
        requirements: of its class.
        window: what still waits, without this task.
    """
    agent, model = fleet.agents[chosen.way.agent], chosen.way.model
    _, endpoint, host = find(fleet, agent, chosen.way.endpoint)
    if not endpoint.local:
        return None
    same, others = _waiting(window, endpoint, model)
    crowding = sorted(name for name in others if not _fits_beside(endpoint, host, model, name))
    if same:
        stays_s = min(LONGEST_S, max(USUAL_S, 2 * same * chosen.terms.service_s))
        reason = f"{same} more {'tasks wait' if same > 1 else 'task waits'} for it"
    elif crowding:
        stays_s, reason = SHORT_S, f"{crowding[0]} waits for its memory"
    else:
        stays_s, reason = USUAL_S, "nothing else waits for its memory"
    if requirements.executor == "agent":
        stays_s = max(TURNS_S, stays_s)
    return LoadPlan(
        context=_context(chosen, requirements, endpoint, host),
        keep_alive_s=round(stays_s, 1),
        unload=chosen.evicted if endpoint.kind is EndpointKind.OLLAMA else (),
        reason=reason,
    )


def _waiting(window: Window, endpoint: EndpointReport, model: str) -> tuple[int, set[str]]:
    """How many queued tasks ``endpoint`` could do with ``model``, and the models that it would use for the others."""
    same, others = 0, set[str]()
    for queue in window.classes.values():
        if queue.head is None or Strategy.LOCAL_LLM not in queue.requirements.strategies:
            continue
        wanted = model_on(endpoint, queue.requirements.model)
        if wanted == model:
            same += len(queue)
        elif wanted:
            others.add(wanted)
    return same, others


def _fits_beside(endpoint: EndpointReport, host: HostReport | None, model: str, other: str) -> bool:
    """Whether there is memory for both, as far as anybody knows."""
    found = model_of(endpoint, other)
    if found is not None and found.residency is Residency.WARM:
        return True
    rooms = room(endpoint, host)
    return rooms is None or needed_bytes(model_of(endpoint, model)) + needed_bytes(found) <= sum(rooms)


def _context(chosen: Weighed, requirements: Requirements, endpoint: EndpointReport, host: HostReport | None) -> int:
    """Context to load it with: what the task will need, and room to grow for work with tools where there is memory."""
    if requirements.executor != "agent" or chosen.context >= AGENT_CONTEXT:
        return chosen.context
    model, rooms = model_of(endpoint, chosen.way.model), room(endpoint, host)
    if rooms is not None and needed_bytes(model, AGENT_CONTEXT) > sum(rooms):
        return chosen.context
    return AGENT_CONTEXT
