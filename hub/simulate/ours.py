"""The scheduler of the hub itself as a rule: the same window, fleet, matcher, board and plan as in production.

Requests are queued tasks, machines are agents with one LLM endpoint each; what the endpoints report (what is in memory)
and what attempts have used is fed back as it is from real sidecars.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from hub.core.agent import Held
from hub.core.board import find, model_of, take_turn
from hub.core.fleet import Fleet
from hub.core.hosts import USABLE
from hub.core.matching import Matcher
from hub.core.routing import Requirements, context_bucket
from hub.core.scheduling import Assignment, plan
from hub.core.speeds import Speeds
from hub.core.terms import Rates
from hub.core.window import Window
from hub.simulate.engine import Machine, Request
from hub.simulate.fleet import OVERHEAD, FleetPlan, HostPlan, ModelPlan
from protocol.ids import encode
from protocol.machine import CpuReport, GpuReport, HostReport, SpaceReport
from protocol.model import AgentState, EndpointKind, EndpointReport, ModelReport, Residency, Strategy

ENDPOINT: Final = "llm"
_GB: Final = 10**9
EPOCH_MS: Final = 1_700_000_000_000
_RANDOM_BITS: Final = 80


class Ours:
    """The plan, asked whenever something has changed."""

    def __init__(self, fleet: FleetPlan, *, is_wide: bool = False) -> None:
        self._models = fleet.models
        self._fleet, self._window, self._speeds = Fleet(), Window(limit=10**9), Speeds()
        self._matcher, self._rates = Matcher(self._fleet, is_wide=is_wide), Rates()
        self._waiting: dict[str, Request] = {}
        self._classes: dict[tuple[str, int], Requirements] = {}
        self._placed: dict[Request, tuple[str, str]] = {}
        for host in fleet.hosts:
            agent = self._fleet.agent(host.name)
            agent.host, agent.slots, agent.state = host.name, max(8, 4 * host.parallel), AgentState.IDLE
            agent.capabilities = frozenset({"executor:chat"})
            agent.report = _host(host)

    def came(self, request: Request, machines: Sequence[Machine], now: float) -> Iterable[tuple[Request, Machine]]:
        """See :class:`hub.simulate.engine.Rule`."""
        self._queue(request, self._class_of(request).text)
        return self._planned(machines, now)

    def _queue(self, request: Request, text: str) -> None:
        task = encode(((EPOCH_MS + int(request.job.at_s * 1000)) << _RANDOM_BITS) | request.job.number)
        self._waiting[task] = request
        self._fleet.prefixes.expect(task, request.job.blocks)
        self._window.add(text, (2, task))

    def ended(
        self, request: Request, machine: Machine, machines: Sequence[Machine], now: float
    ) -> Iterable[tuple[Request, Machine]]:
        """See :class:`hub.simulate.engine.Rule`."""
        del machine
        task, _ = self._placed.pop(request)
        held = self._fleet.release(task, 1)
        self._learn(request, held, ENDPOINT, self._class_of(request).kind, now)
        return self._planned(machines, now)

    def _learn(self, request: Request, held: Held | None, endpoint_id: str, kind: str, now: float) -> None:
        """What a sidecar would report of an attempt of ``kind``."""
        job = request.job
        assert held is not None, "it was placed"
        self._speeds.used(kind, job.input_tokens, job.output_tokens)
        server, endpoint, host = find(self._fleet, self._fleet.agents[held.agent], endpoint_id)
        if held.known_tokens:
            self._speeds.reused(server, endpoint, held.known_tokens, request.cached_tokens)
        self._speeds.took(
            server,
            job.model.name,
            self._speeds.of(server, endpoint, model_of(endpoint, job.model.name), host),
            at=now,
            size_bytes=job.model.size_gb * _GB,
            load_s=request.load_s or None,
            prefill=(job.input_tokens - request.cached_tokens, request.prefill_s),
            decode=(job.output_tokens, request.decode_s),
        )

    def _class_of(self, request: Request) -> Requirements:
        key = request.job.model.name, context_bucket(request.job.input_tokens)
        found = self._classes.get(key)
        if found is None:
            found = self._classes[key] = Requirements(
                executor="chat", strategies=(Strategy.LOCAL_LLM,), model=key[0], context=key[1]
            )
        return found

    def _planned(self, machines: Sequence[Machine], now: float) -> Iterator[tuple[Request, Machine]]:
        by_name = {machine.plan.name: machine for machine in machines}
        self._report(machines)
        for chosen in plan(self._window, self._fleet, self._matcher, self._speeds, now, self._rates):
            task, weighed = chosen.place[1], chosen.weighed
            assert weighed is not None, "every request needs a model"
            held = Held(task, 1, chosen.agent.name, 1, now, is_committed=True)
            server = find(self._fleet, chosen.agent, chosen.way.endpoint)[0]
            take_turn(held, weighed, server, now, self._fleet.prefixes)
            self._fleet.take(held)
            request, where = self._placement(chosen, self._waiting.pop(task))
            self._placed[request] = (task, chosen.agent.name)
            yield request, by_name[where]

    def _placement(self, chosen: Assignment, request: Request) -> tuple[Request, str]:
        """The request as it is made, and the host that it goes to."""
        return request, chosen.agent.name

    def _report(self, machines: Sequence[Machine]) -> None:
        """What the endpoints would say of themselves now."""
        for machine in machines:
            agent = self._fleet.agents.get(machine.plan.name)
            if agent is None:
                continue  # hosted: it says nothing of itself
            models = tuple(_model(machine, model) for model in self._models if machine.plan.holds(model))
            report = EndpointReport(
                id=ENDPOINT,
                kind=EndpointKind.OLLAMA,
                url="",
                local=True,
                models=models,
                parallel=machine.plan.parallel,
            )
            if not agent.endpoints:
                self._fleet.changed()
            agent.endpoints = (report,)


def _host(plan: HostPlan) -> HostReport:
    nothing = SpaceReport(total_bytes=0, used_bytes=0)
    room = int(plan.vram_gb * _GB / USABLE)
    return HostReport(
        cpu=CpuReport(percent=0.0, cores=1),
        ram=nothing,
        disk=nothing,
        gpus=(GpuReport(name="simulated", vram_total_bytes=room, vram_used_bytes=0),),
        at=datetime.fromtimestamp(0, UTC),
    )


def _model(machine: Machine, model: ModelPlan) -> ModelReport:
    is_warm = model.name in machine.residents
    return ModelReport(
        name=model.name,
        residency=Residency.WARM if is_warm else Residency.COLD,
        size_bytes=int(model.size_gb * _GB),
        vram_bytes=int(OVERHEAD * model.size_gb * _GB),
        tokens_per_s=machine.plan.decode_tokens_per_s(model),
    )
