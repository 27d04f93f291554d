"""What a task would cost, in seconds, on each LLM server, as things stand and with all that is planned before it.

One sum decides where work for a model goes: the wait for a turn, the reload of what is pushed out of memory, the load,
the reading of the prompt and the writing of the answer. A warm server that is busy and a cold one that is idle are thus
compared in the same unit. Pure: made from a snapshot of the fleet for one plan, and changed by what the plan reserves.
Caller: ``hub/core/scheduling.py``.
"""

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct
from msgspec.structs import asdict

from hub.core.agent import Agent, Held
from hub.core.fleet import Fleet
from hub.core.hosts import room_for_models
from hub.core.routing import Way
from hub.core.speeds import Demand, ServerKey, Speeds
from protocol.machine import HostReport
from protocol.model import EndpointReport, ModelReport, Residency

CLOUD_PARALLEL: Final = 16
LOCAL_PARALLEL: Final = 1
"""Requests that are answered at a time, where the endpoint does not say: Ollama's default is one a model."""
WAIT_RISK: Final = 1.3
"""What a second of waiting counts: it is a guess about somebody else's answer, which may take longer."""
OVERDUE: Final = 0.25
"""A request that takes longer than expected is expected to take this share of its whole time more."""
UNKNOWN_REST_S: Final = 30.0
"""Rest of an attempt that nothing is known of."""
OVERHEAD: Final = 1.15
"""What a model takes in memory over its size on disk, before it was measured: cache and buffers."""
LEAST_SHOWN_S: Final = 0.05
KEEP: Final = 20.0
"""A model that was used within so many times its load counts as wanted: pushing it out costs its reload."""
SOON: Final = 0.3
"""Share of its reload that pushing out any other one costs."""
CROWD: Final = 0.5
MAX_CROWD: Final = 8.0
"""A load costs everybody who waits meanwhile: this share of it for each task a server that waits, up to so many."""


class Terms(Struct, frozen=True):
    """What a way costs, in seconds."""

    wait_s: float
    evict_s: float
    load_s: float
    prefill_s: float
    decode_s: float
    crowd_s: float = 0.0
    """What the load costs those who wait meanwhile."""

    @property
    def work_s(self) -> float:
        """Reading and writing, once the model is there."""
        return self.prefill_s + self.decode_s

    @property
    def service_s(self) -> float:
        """How long the server is taken."""
        return self.load_s + self.work_s

    @property
    def in_words(self) -> str:
        """The sum and its parts, as a person reads them."""
        named = (("wait", self.wait_s), ("load", self.load_s), ("reading", self.prefill_s), ("writing", self.decode_s))
        parts = [f"{name} {seconds:.1f}" for name, seconds in named if seconds >= LEAST_SHOWN_S]
        whole_s = self.wait_s + self.service_s
        return f"after {whole_s:.1f} s" + (f" ({', '.join(parts)})" if parts else "")

    @property
    def shown(self) -> dict[str, float]:
        """The terms that are not nothing, for people, and their sum."""
        terms = {name: round(value, 3) for name, value in asdict(self).items() if value}
        return {**terms, "total_s": round(self.total_s, 3)}

    @property
    def total_s(self) -> float:
        """What is compared."""
        return WAIT_RISK * self.wait_s + self.evict_s + self.crowd_s + self.service_s


@dataclass(slots=True)
class Weighed:
    """A way with its terms, and the models that it pushes out of memory."""

    way: Way
    terms: Terms
    evicted: tuple[str, ...] = ()


@dataclass(slots=True)
class Resident:
    """A model in a server's memory (or on its way there)."""

    size_bytes: float
    until: float = 0.0
    """When the last request that needs it will have ended; it stays until then."""
    used: int = 0
    """Grows with every use, so that the one used longest ago goes first."""

    def turn(self, now: float) -> tuple[bool, float, int]:
        """Its place among those that may have to go: idle ones first, then those that end soonest."""
        return self.until > now, max(self.until, now), self.used


@dataclass(slots=True)
class Server:
    """An LLM endpoint on one host, as the plan sees it."""

    key: ServerKey
    endpoint: EndpointReport
    host: HostReport | None
    parallel: int
    room_bytes: float | None
    """Memory for models; ``None``: unknown, so nothing is ever pushed out."""
    residents: dict[str, Resident] = field(default_factory=dict)
    ends: list[float] = field(default_factory=list)
    """When each request that runs or is reserved will end, soonest first."""
    weighed: dict[tuple[str, str, Demand], "Weighed | str"] = field(default_factory=dict)
    """What was worked out since something was last reserved here."""

    @property
    def has_turn(self) -> bool:
        """Whether a request could begin now."""
        return len(self.ends) < self.parallel

    def free_at(self, now: float) -> float:
        """When the next request can begin."""
        return now if self.has_turn else max(now, self.ends[len(self.ends) - self.parallel])


class Board:
    """The servers of a fleet at one moment.

    Args:
        wanted: how many tasks wait for a model; a model that is wanted costs its reload when it is pushed out.
    """

    def __init__(
        self,
        fleet: Fleet,
        speeds: Speeds,
        now: float,
        wanted: Callable[[str], int] = lambda _model: 0,
        crowd: float = 0.0,
    ) -> None:
        self._fleet, self._speeds, self._now, self._wanted = fleet, speeds, now, wanted
        self._crowd = crowd
        self._servers: dict[ServerKey, Server] = {}
        self._uses = 0
        self._running: dict[ServerKey, list[Held]] = {}
        for held in fleet.held.values():
            if held.server is not None:
                self._running.setdefault(held.server, []).append(held)

    # --- what a way costs ---------------------------------------------------------------------------------------------

    def weigh(self, way: Way, demand: Demand) -> Weighed | str:
        """The terms of a way for a task that asks for so much, or why it can never work there."""
        agent = self._fleet.agents[way.agent]
        server = self.server(agent, way.endpoint)
        key = (way.agent, way.model, demand)
        found = server.weighed.get(key)
        if found is None:
            found = server.weighed[key] = self._weigh(way, demand, agent, server)
        return found

    def has_turn(self, way: Way) -> bool:
        """Whether something could begin this way now."""
        agent = self._fleet.agents[way.agent]
        return agent.free_slots > 0 and self.server(agent, way.endpoint).has_turn

    def _weigh(self, way: Way, demand: Demand, agent: Agent, server: Server) -> Weighed | str:
        model = model_of(server.endpoint, way.model)
        speed = self._speeds.of(server.key, server.endpoint, model, server.host)
        begins = max(server.free_at(self._now), self._agent_free_at(agent))
        load_s = evict_s = 0.0
        evicted: tuple[str, ...] = ()
        if server.endpoint.local and way.model not in server.residents:
            made = self._make_room(server, needed_bytes(model))
            if isinstance(made, str):
                return made
            load_s = speed.load_s
            begins, evict_s, evicted = max(begins, made[0]), made[1], made[2]
        terms = Terms(
            wait_s=begins - self._now,
            evict_s=evict_s,
            load_s=load_s,
            crowd_s=CROWD * min(MAX_CROWD, self._crowd) * load_s,
            prefill_s=demand.input_tokens / speed.prefill_tokens_per_s,
            decode_s=demand.output_tokens / speed.decode_tokens_per_s,
        )
        return Weighed(way, terms, evicted)

    def _make_room(self, server: Server, needed: float) -> tuple[float, float, tuple[str, ...]] | str:
        """When there is room for so many bytes, what the reloads will cost, and what has to go."""
        if server.room_bytes is None:
            return self._now, 0.0, ()
        if needed > server.room_bytes:
            return f"has {server.room_bytes / 1e9:.1f} GB for models, it needs {needed / 1e9:.1f} GB"
        free = server.room_bytes - sum(each.size_bytes for each in server.residents.values())
        begins, cost_s = self._now, 0.0
        evicted: list[str] = []
        for name, resident in sorted(server.residents.items(), key=lambda item: item[1].turn(self._now)):
            if free >= needed:
                break
            free += resident.size_bytes
            begins = max(begins, resident.until)  # a model that is busy is never pushed out: wait for its end
            speed = self._speeds.of(server.key, server.endpoint, model_of(server.endpoint, name), server.host)
            is_fresh = self._now - speed.used_at < KEEP * speed.load_s
            cost_s += speed.load_s * (1.0 if self._wanted(name) or is_fresh else SOON)
            evicted.append(name)
        return begins, cost_s, tuple(evicted)

    def _agent_free_at(self, agent: Agent) -> float:
        if agent.free_slots:
            return self._now
        return min((self._rest(held) for held in agent.held.values()), default=self._now + UNKNOWN_REST_S)

    def _rest(self, held: Held) -> float:
        """When an attempt will probably have ended."""
        if held.ends_at is None:
            return self._now + UNKNOWN_REST_S
        return max(held.ends_at, self._now + OVERDUE * held.service_s)

    # --- what the plan does -------------------------------------------------------------------------------------------

    def reserve(self, chosen: Weighed) -> None:
        """Count on it that a task goes this way, now or when its turn comes: what follows waits behind it."""
        server = self.server(self._fleet.agents[chosen.way.agent], chosen.way.endpoint)
        ends = self._now + chosen.terms.wait_s + chosen.terms.service_s
        for name in chosen.evicted:
            server.residents.pop(name, None)
        self._uses += 1
        self._use(server, chosen.way.model, ends)
        insort(server.ends, ends)
        server.weighed.clear()

    def _use(self, server: Server, name: str, ends: float) -> None:
        if not server.endpoint.local:
            return
        resident = server.residents.get(name)
        if resident is None:
            resident = server.residents[name] = Resident(needed_bytes(model_of(server.endpoint, name)))
        resident.until, resident.used = max(resident.until, ends), self._uses

    # --- servers ------------------------------------------------------------------------------------------------------

    def server(self, agent: Agent, endpoint: str) -> Server:
        """The server behind an endpoint that ``agent`` can use."""
        key, report, host = find(self._fleet, agent, endpoint)
        server = self._servers.get(key)
        if server is None:
            server = self._servers[key] = self._made(key, report, host)
        return server

    def _made(self, key: ServerKey, report: EndpointReport, host: HostReport | None) -> Server:
        parallel = report.parallel or (LOCAL_PARALLEL if report.local else CLOUD_PARALLEL)
        server = Server(key, report, host, parallel, _room(report, host) if report.local else None)
        if report.local:
            for number, model in enumerate(report.models):
                if model.residency in {Residency.WARM, Residency.LOADING}:
                    server.residents[model.name] = Resident(needed_bytes(model), used=-number)
        for held in self._running.get(key, ()):
            ends = self._rest(held)
            self._use(server, held.model, ends)
            insort(server.ends, ends)
        return server


def take_turn(held: Held, chosen: Weighed, server: ServerKey, now: float) -> None:
    """Note in the attempt which server it takes, and for how long."""
    held.server, held.model = server, chosen.way.model
    held.service_s = chosen.terms.service_s
    held.ends_at = now + chosen.terms.service_s


def find(fleet: Fleet, agent: Agent, endpoint: str) -> tuple[ServerKey, EndpointReport, HostReport | None]:
    """Where ``endpoint`` is for ``agent``: beside it, or one that people have added for all.

    Raises:
        LookupError: the agent cannot reach an endpoint of that name.
    """
    for report in agent.endpoints:
        if report.id == endpoint:
            return (agent.host or agent.name, endpoint), report, agent.report
    for report in fleet.endpoints:
        if report.id == endpoint:
            return ("", endpoint), report, None
    raise LookupError(endpoint)


def model_of(endpoint: EndpointReport, name: str) -> ModelReport | None:
    """The report of a model; ``None`` if the endpoint does not list it."""
    return next((model for model in endpoint.models if model.name == name), None)


def needed_bytes(model: ModelReport | None) -> float:
    """Memory that a model takes: as measured when it was last loaded, else its size and a bit; 0 if nobody knows."""
    if model is None:
        return 0.0
    return float(model.vram_bytes) if model.vram_bytes else OVERHEAD * (model.size_bytes or 0)


def _room(report: EndpointReport, host: HostReport | None) -> float | None:
    """Memory that the models of an endpoint can have; ``None`` if nobody knows."""
    if host is None:
        return None
    warm = (model for model in report.models if model.residency is Residency.WARM)
    return room_for_models(host, sum(map(needed_bytes, warm)))
