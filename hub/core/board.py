"""What a task would cost, in seconds, on each LLM server, as things stand and with all that is planned before it.

One sum (:class:`hub.core.terms.Terms`) decides where work for a model goes: the wait for a turn, the reload of what is
pushed out of memory, the load, the reading of the prompt and the writing of the answer, the repository, the checks, the
price and the risk. A warm server that is busy and a cold one that is idle are thus compared in
the same unit. Pure: made from a snapshot of the fleet for one plan, and changed by what the plan reserves.
Caller: ``hub/core/scheduling.py``.
"""

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from typing import Final

from msgspec.structs import replace

from hub.core.agent import Agent, Held
from hub.core.fleet import Fleet
from hub.core.hosts import gpu_silence
from hub.core.prefixes import Blocks, Prefixes
from hub.core.quotas import Quota
from hub.core.routing import Way
from hub.core.speeds import Demand, ServerKey, Speeds
from hub.core.terms import Rates, Terms, Weighed
from hub.core.vram import SPLIT_BYTES, needed_bytes, overflow, room
from protocol.machine import HostReport
from protocol.model import EndpointKind, EndpointReport, ModelReport, Residency

OVERDUE: Final = 0.25
"""A request that takes longer than expected is expected to take this share of its whole time more."""
UNKNOWN_REST_S: Final = 30.0
"""Rest of an attempt that nothing is known of."""
KEEP: Final = 20.0
"""A model that was used within so many times its load counts as wanted: pushing it out costs its reload."""
SOON: Final = 0.3
"""Share of its reload that pushing out any other one costs."""
CROWD: Final = 0.5
MAX_CROWD: Final = 8.0
"""A load costs those who wait for other models: this share of it for each such task a server, up to so many."""
CLONE_S: Final = 12.0
FETCH_S: Final = 1.5
"""Until a repository is there: from its origin, and on a host that had it before."""


@dataclass(slots=True)
class Resident:
    """A model in a server's memory (or on its way there)."""

    size_bytes: float
    until: float = 0.0
    """When the last request that needs it will have ended; it stays until then."""
    used: int = 0
    """Grows with every use, so that the one used longest ago goes first."""
    tokens: int = 0
    """Context it was loaded with, where more means a load; 0: any will do."""

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
    """Requests that it is given at a time; ``proved``: that it is known to answer at a time, each with a cache."""
    proved: int
    rooms: tuple[float, ...] | None
    """Memory for models, GPU by GPU; ``None``: unknown, so nothing is ever pushed out."""
    residents: dict[str, Resident] = field(default_factory=dict)
    ends: list[float] = field(default_factory=list)
    """When each request that runs or is reserved will end, soonest first."""
    weighed: dict[tuple[str, str, Demand], Weighed | str] = field(default_factory=dict)
    """What was worked out since something was last reserved here."""

    @property
    def has_turn(self) -> bool:
        """Whether a request could begin now."""
        return len(self.ends) < self.parallel

    def has_ready(self, name: str, tokens: int) -> bool:
        """Whether the model is in memory (or on its way there), with room for so many tokens."""
        resident = self.residents.get(name)
        return resident is not None and (not resident.tokens or tokens <= resident.tokens)

    def free_at(self, now: float) -> float:
        """When the next request can begin."""
        return now if self.has_turn else max(now, self.ends[len(self.ends) - self.parallel])


class Board:
    """The servers of a fleet at one moment.

    Args:
        wanted: how many tasks wait for a model; a model that is wanted costs its reload when it is pushed out.
        waiting: tasks for models that wait, for whichever model.
        rates: what money and failures count.
    """

    def __init__(
        self,
        fleet: Fleet,
        speeds: Speeds,
        now: float,
        wanted: Callable[[str], int] = lambda _model: 0,
        waiting: int = 0,
        rates: Rates = Rates(),  # noqa: B008 - frozen
    ) -> None:
        self._fleet, self._speeds, self._now, self._wanted = fleet, speeds, now, wanted
        self._waiting, self._rates = waiting, rates
        self._seats = 0  # servers that agents online have; counted when it is asked for, with the copies of models
        self._copies: dict[str, int] = {}
        self._servers: dict[ServerKey, Server] = {}
        self._uses = 0
        self._running: dict[ServerKey, list[Held]] = {}
        for held in fleet.held.values():
            if held.server is not None:
                self._running.setdefault(held.server, []).append(held)

    # --- what a way costs ---------------------------------------------------------------------------------------------

    def weigh(self, way: Way, demand: Demand, blocks: Blocks = ()) -> Weighed | str:
        """The terms of a way for a task that asks for so much, or why it can never work there.

        ``blocks``: how its prompt begins (``hub/core/prefixes.py``), so that a server which knows that reads less.
        """
        agent = self._fleet.agents[way.agent]
        try:
            server = self.server(agent, way.endpoint)
        except LookupError:
            return f"endpoint {way.endpoint} is gone"
        key = (way.agent, way.model, demand)
        found = server.weighed.get(key)
        if found is None:
            found = server.weighed[key] = self._weigh(way, demand, agent, server)
        return self._less_known(found, server, blocks) if blocks and isinstance(found, Weighed) else found

    def _less_known(self, found: Weighed, server: Server, blocks: Blocks) -> Weighed:
        """The same for a prompt whose beginning the server may have read."""
        terms, tokens = found.terms, found.input_tokens
        if terms.load_s or not tokens:
            return found  # what it had read went with the model
        known = self._fleet.prefixes.known_tokens(blocks, server.key, found.way.model)
        share = self._speeds.reuse(server.key, server.endpoint) * min(1.0, known / tokens)
        if not share:
            return replace_fields(found, known_tokens=known)
        cached_s = share * terms.prefill_s
        less = replace(terms, prefill_s=terms.prefill_s - cached_s, cached_s=cached_s)
        return replace_fields(found, terms=less, known_tokens=known)

    def has_turn(self, way: Way) -> bool:
        """Whether something could begin this way now."""
        agent = self._fleet.agents[way.agent]
        try:
            server = self.server(agent, way.endpoint)
            return agent.free_slots > 0 and server.has_turn and not self._quota(server, 0.0)[0]
        except LookupError:
            return False

    def _weigh(self, way: Way, demand: Demand, agent: Agent, server: Server) -> Weighed | str:
        model = model_of(server.endpoint, way.model)
        speed = self._speeds.of(server.key, server.endpoint, model, server.host)
        begins = max(server.free_at(self._now), self._agent_free_at(agent))
        tokens = demand.input_tokens + demand.output_tokens
        quota_s, quota = self._quota(server, tokens)
        begins = max(begins, self._now + quota_s)
        size_bytes, load_s, evict_s = 0.0, 0.0, 0.0
        evicted: tuple[str, ...] = ()
        if server.endpoint.local and not server.has_ready(way.model, demand.context):
            size_bytes = needed_bytes(model, demand.context, server.proved)
            made = self._make_room(server, way.model, size_bytes)
            if isinstance(made, str):
                return made
            load_s = speed.load_s
            begins, evict_s, evicted = max(begins, made[0]), made[1], made[2]
        terms = Terms(
            wait_s=begins - self._now,
            evict_s=evict_s,
            load_s=load_s,
            crowd_s=self._crowd(way.model) * load_s if load_s else 0.0,
            prefill_s=demand.input_tokens / speed.prefill_tokens_per_s,
            decode_s=demand.output_tokens / speed.decode_tokens_per_s,
            workspace_s=self._workspace_s(agent, demand),
            verify_s=demand.verify_s,
            price_s=self._rates.s_per_usd * self._speeds.usd(server.key, server.endpoint, way.model, demand),
        )
        whole = replace(terms, risk_s=self._risk_s(terms, way, demand, server, model))
        turns = server.proved
        return Weighed(way, whole, evicted, size_bytes, demand.context, tokens, quota, turns, demand.input_tokens)

    def _quota(self, server: Server, tokens: float) -> tuple[float, str]:
        """How long the quota of an endpoint lets an attempt of so many tokens wait, and why."""
        limits = Quota(server.endpoint.rpm, server.endpoint.tpm)
        return self._fleet.quotas.wait(server.key, limits, tokens, self._now)

    def _crowd(self, model: str) -> float:
        """Share of its load that a model costs those who wait for others; who waits for this one is glad of it."""
        others = self._waiting - max(1, self._wanted(model))
        if others <= 0:
            return 0.0
        self._count()
        return CROWD * min(MAX_CROWD, others / self._seats)

    def _copies_of(self, model: str) -> int:
        """Servers that have it in memory: where it is pushed out, others still answer."""
        self._count()
        return max(1, self._copies.get(model, 0))

    def _count(self) -> None:
        if self._seats:
            return
        for agent in self._fleet.online():
            self._seats += max(1, len(agent.endpoints))
            for model in (model for endpoint in agent.endpoints for model in endpoint.models):
                if model.residency is Residency.WARM or model.residency is Residency.LOADING:
                    self._copies[model.name] = self._copies.get(model.name, 0) + 1
        self._seats = max(1, self._seats)

    def _risk_s(self, terms: Terms, way: Way, demand: Demand, server: Server, model: ModelReport | None) -> float:
        """What failures are expected to cost: the prompt may be too long after all, and models fail at some work."""
        in_vain = overflow(model, demand.bucket, grows=server.endpoint.kind is EndpointKind.OLLAMA)
        return in_vain * (terms.attempt_s + terms.price_s) + self._rates.risk(demand, way, terms)

    def _workspace_s(self, agent: Agent, demand: Demand) -> float:
        if not demand.repo:
            return 0.0
        return FETCH_S if self._fleet.has_repo(agent.host or agent.name, demand.repo) else CLONE_S

    def _make_room(self, server: Server, model: str, needed: float) -> tuple[float, float, tuple[str, ...]] | str:
        """When there is room for so many bytes of a model, what the reloads will cost, and what has to go."""
        if server.rooms is None:
            return self._now, 0.0, ()
        whole = sum(server.rooms)
        if needed > max(server.rooms, default=0.0):
            needed += SPLIT_BYTES * (len(server.rooms) - 1)
        if needed > whole:
            why = f" (its GPU: {silence})" if (silence := gpu_silence(server.host)) else ""
            return f"has {whole / 1e9:.1f} GB for models, it needs {needed / 1e9:.1f} GB{why}"
        free = whole - sum(each.size_bytes for each in server.residents.values())
        begins, cost_s = self._now, 0.0
        if own := server.residents.get(model):  # in memory with too little context: it makes room for itself
            free, begins = free + own.size_bytes, max(begins, own.until)
        evicted: list[str] = []
        for name, resident in sorted(server.residents.items(), key=lambda item: item[1].turn(self._now)):
            if free >= needed:
                break
            if name == model:
                continue
            free += resident.size_bytes
            begins = max(begins, resident.until)  # a model that is busy is never pushed out: wait for its end
            speed = self._speeds.of(server.key, server.endpoint, model_of(server.endpoint, name), server.host)
            is_fresh = self._now - speed.used_at < KEEP * speed.load_s
            # With copies elsewhere it is missed more seldom.
            cost_s += speed.load_s * (1.0 if self._wanted(name) or is_fresh else SOON) / self._copies_of(name)
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
        self._use(server, chosen.way.model, ends, chosen.size_bytes, chosen.context)
        insort(server.ends, ends)
        server.weighed.clear()

    def _use(self, server: Server, name: str, ends: float, size_bytes: float = 0.0, tokens: int = 0) -> None:
        if not server.endpoint.local:
            return
        resident = server.residents.get(name)
        if resident is None or size_bytes:
            size_bytes = size_bytes or needed_bytes(model_of(server.endpoint, name))
            until = resident.until if resident else 0.0
            resident = server.residents[name] = Resident(size_bytes, until, tokens=tokens)
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
        turns = self._speeds.turns(key, report)
        parallel = turns.most
        health = self._fleet.health.get(key)
        if health is not None and health.is_on_trial:
            parallel = 1
        server = Server(key, report, host, parallel, turns.proved, room(report, host) if report.local else None)
        if report.local:
            for number, model in enumerate(report.models):
                if model.residency in {Residency.WARM, Residency.LOADING}:
                    tokens = model.context or 0 if report.kind is EndpointKind.OLLAMA else 0
                    server.residents[model.name] = Resident(needed_bytes(model), used=-number, tokens=tokens)
        for held in self._running.get(key, ()):
            ends = self._rest(held)
            self._use(server, held.model, ends)
            insort(server.ends, ends)
        return server


def take_turn(held: Held, chosen: Weighed, server: ServerKey, now: float, prefixes: Prefixes) -> None:
    """Note in the attempt which server it takes, and for how long; and that its prompt is read there."""
    held.server, held.model, held.known_tokens = server, chosen.way.model, chosen.known_tokens
    prefixes.read(held.task, server, held.model, chosen.turns, is_loaded=chosen.terms.load_s > 0)
    held.service_s = chosen.terms.service_s
    held.ends_at = now + chosen.terms.service_s


def find(fleet: Fleet, agent: Agent, endpoint: str) -> tuple[ServerKey, EndpointReport, HostReport | None]:
    """Where ``endpoint`` is for ``agent``: beside it, or one that people have added for all.

    Raises:
        LookupError: the agent cannot reach an endpoint of that name.
    """
    for report in agent.endpoints:
        if report.id == endpoint:
            return fleet.server_of(agent, endpoint, report.url), report, agent.report
    for report in fleet.endpoints:
        if report.id == endpoint:
            return ("", endpoint), report, None
    raise LookupError(endpoint)


def model_of(endpoint: EndpointReport, name: str) -> ModelReport | None:
    """The report of a model; ``None`` if the endpoint does not list it."""
    return next((model for model in endpoint.models if model.name == name), None)
