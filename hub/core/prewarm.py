"""Which model to load before its work comes: for tasks that wait for a turn, or for one last task before them.

A model is loaded ahead only where its work would go as things stand, only one at a time on a server, and never at the
cost of a model that is in use or that other tasks wait for. Pure: decides from a snapshot. The caller, which keeps what
was asked for and takes it back, is ``hub/services/prewarming.py``.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from hub.core.board import Board, find
from hub.core.fleet import Fleet
from hub.core.loads import USUAL_S, load_plan
from hub.core.matching import Match
from hub.core.routing import Requirements
from hub.core.speeds import ServerKey, Speeds
from hub.core.terms import Weighed
from hub.core.window import Window
from protocol.endpoints import EndpointKind
from protocol.messages import PREWARM

MAX_WAYS: Final = 64
"""Ways that are looked at: among so many servers one is soon free, and a load ahead saves little."""
LOAD_WORTH_S: Final = 0.5
"""A shorter load is not worth a word."""


class Wish(Struct, frozen=True):
    """A model that is being loaded for a task; ``until`` is in seconds of the hub's monotonic clock."""

    task: str
    agent: str
    boot: int
    server: ServerKey
    endpoint: str
    model: str
    context: int
    keep_alive_s: float
    until: float
    reason: str


def best_way(found: Match, requirements: Requirements, kind: str, board: Board, speeds: Speeds) -> Weighed | None:
    """The way that a task of these requirements would go, if it were ready now."""
    demand = speeds.asked(requirements, kind)
    weighed = (board.weigh(way, demand) for way in found.ways[:MAX_WAYS])
    return min((w for w in weighed if isinstance(w, Weighed)), key=lambda w: w.terms.total_s, default=None)


@dataclass(frozen=True, slots=True)
class Near:
    """A task whose turn is near.

    Attributes:
        reason: how that is known, for people.
        may_evict: models that nobody uses or waits for may leave for its own.
    """

    task: str
    requirements: Requirements
    reason: str
    may_evict: bool = False


def wish_for(
    near: Near,
    chosen: Weighed,
    window: Window,
    fleet: Fleet,
    *,
    now: float,
    taken: Collection[ServerKey] = (),
    wanted: Callable[[str], int] = lambda _model: 0,
) -> Wish | None:
    """What to load for a task that would go the way ``chosen``; ``None``: nothing.

    Args:
        near, chosen: for whom, and where.
        window, fleet: what waits, and who is there.
        now: seconds of the hub's monotonic clock.
        taken: servers that load something ahead already.
        wanted: how many tasks wait for a model.
    """
    agent = fleet.agents[chosen.way.agent]
    server, endpoint, _ = find(fleet, agent, chosen.way.endpoint)
    if endpoint.kind is not EndpointKind.OLLAMA or not endpoint.local or PREWARM not in agent.capabilities:
        return None
    if chosen.terms.load_s < LOAD_WORTH_S or server in taken:
        return None
    busy = {held.model for held in fleet.held.values() if held.server == server}
    if chosen.way.model in busy or busy.intersection(chosen.evicted):
        return None
    if chosen.evicted and (not near.may_evict or any(wanted(model) for model in chosen.evicted)):
        return None
    plan = load_plan(chosen, near.requirements, window, fleet)
    stays_s = max(USUAL_S, plan.keep_alive_s or 0.0) if plan else USUAL_S
    return Wish(
        near.task,
        agent.name,
        agent.boot,
        server,
        chosen.way.endpoint,
        chosen.way.model,
        plan.context if plan else 0,
        stays_s,
        now + chosen.terms.load_s + stays_s,
        near.reason,
    )
