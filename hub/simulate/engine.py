"""Virtual time: requests come, a rule places them, machines load models and answer.

What happens on a machine is here and is the same for every rule: models come into memory when they are needed, idle
ones that were used longest ago go, a busy one never does, a machine answers ``parallel`` requests at a time. A rule
(``rules.py``, ``ours.py``) only says where a request goes. It does not know how long an answer will be; it may learn
from those that have ended.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from hub.core.prefixes import BLOCK_TOKENS, Blocks, keep
from hub.simulate.fleet import OVERHEAD, HostPlan, ModelPlan
from hub.simulate.trace import Job

_COMES, _ENDS = 0, 1
NEW_WEIGHT: Final = 0.1


@dataclass(slots=True, eq=False)
class Request:
    """A job on its way."""

    job: Job
    begun_at: float = 0.0
    load_s: float = 0.0
    cached_tokens: int = 0
    """Of its prompt, that the machine had read before."""
    prefill_s: float = 0.0
    decode_s: float = 0.0
    ended_at: float = 0.0

    @property
    def completion_s(self) -> float:
        """From its arrival to its answer."""
        return self.ended_at - self.job.at_s


@dataclass(slots=True, eq=False)
class Machine:
    """A host: what is in its memory, what it answers, what waits for it."""

    plan: HostPlan
    residents: dict[str, ModelPlan] = field(default_factory=dict)
    """Least recently used first."""
    running: list[Request] = field(default_factory=list)
    waiting: deque[Request] = field(default_factory=deque)
    loads: int = 0
    busy_s: float = 0.0
    usd: float = 0.0
    _prompts: dict[str, list[Blocks]] = field(default_factory=dict)
    """By model: the last prompts that it has read, one for each request that it answers at a time."""

    @property
    def has_turn(self) -> bool:
        """Whether a request could begin now."""
        return len(self.running) < self.plan.parallel

    def can_hold(self, model: ModelPlan) -> bool:
        """Whether ``model`` is in memory, or room can be made for it without touching a model in use."""
        busy = {request.job.model.name for request in self.running}
        fixed_gb = sum(OVERHEAD * each.size_gb for name, each in self.residents.items() if name in busy)
        return model.name in self.residents or fixed_gb + OVERHEAD * model.size_gb <= self.plan.vram_gb

    def begin(self, request: Request, now: float) -> float:
        """Start to answer; when the answer is there."""
        job, model = request.job, request.job.model
        request.begun_at = now
        if model.name not in self.residents:
            self._make_room(model)
            request.load_s = self.plan.load_s(model)
            self.loads += request.load_s > 0
        self.residents.pop(model.name, None)
        self.residents[model.name] = model  # now the most recently used
        known = keep(self._prompts.setdefault(model.name, []), job.blocks, self.plan.parallel)
        request.cached_tokens = min(job.input_tokens - 1, known * BLOCK_TOKENS)
        request.prefill_s = (job.input_tokens - request.cached_tokens) / self.plan.prefill_tokens_per_s(model)
        request.decode_s = job.output_tokens / self.plan.decode_tokens_per_s(model)
        self.running.append(request)
        took_s = request.load_s + request.prefill_s + request.decode_s
        self.busy_s += took_s
        self.usd += self.plan.usd(took_s, job.input_tokens, job.output_tokens)
        return now + took_s

    def _make_room(self, model: ModelPlan) -> None:
        busy = {request.job.model.name for request in self.running}
        for name in [name for name in self.residents if name not in busy]:
            if OVERHEAD * (model.size_gb + sum(each.size_gb for each in self.residents.values())) <= self.plan.vram_gb:
                return
            del self.residents[name]
            self._prompts.pop(name, None)


class Rule(Protocol):
    """Where requests go."""

    def came(self, request: Request, machines: Sequence[Machine], now: float) -> Iterable[tuple[Request, Machine]]:
        """A request is here: what goes where now (perhaps nothing yet)."""
        ...

    def ended(
        self, request: Request, machine: Machine, machines: Sequence[Machine], now: float
    ) -> Iterable[tuple[Request, Machine]]:
        """An answer is there, and its place is free."""
        ...


def run(jobs: Sequence[Job], hosts: Sequence[HostPlan], rule: Rule) -> tuple[list[Request], list[Machine]]:
    """All attempts in the order in which they ended, and the machines that have made them.

    A rule may place a job again that has ended, as another request.
    """
    machines = [Machine(host) for host in hosts]
    done: list[Request] = []
    happens: list[tuple[float, int, int, Request, Machine | None]] = [
        (job.at_s, _COMES, number, Request(job), None) for number, job in enumerate(jobs)
    ]
    heapq.heapify(happens)
    count = len(happens)
    while happens:
        now, kind, _, request, machine = heapq.heappop(happens)
        if kind == _COMES or machine is None:
            placed = rule.came(request, machines, now)
        else:
            request.ended_at = now
            machine.running.remove(request)
            done.append(request)
            placed = rule.ended(request, machine, machines, now)
        touched = [machine] if machine is not None else []
        for chosen, target in placed:
            target.waiting.append(chosen)
            touched.append(target)
        for each in touched:
            while each.waiting and each.has_turn and each.can_hold(each.waiting[0].job.model):
                begun = each.waiting.popleft()
                count += 1
                heapq.heappush(happens, (each.begin(begun, now), _ENDS, count, begun, each))
    assert {request.job.number for request in done} == {job.number for job in jobs}, "every request has an answer"
    return done, machines


class Means:
    """Mean length of answers by model, learned as they come: all that a rule may know of the future."""

    def __init__(self, first: float = 100.0) -> None:
        self._first = first
        self._means: dict[str, float] = {}

    def of(self, model: ModelPlan) -> float:
        """Tokens to expect."""
        return self._means.get(model.name, self._first)

    def learn(self, request: Request) -> None:
        """An answer is there."""
        was = self.of(request.job.model)
        self._means[request.job.model.name] = was + NEW_WEIGHT * (request.job.output_tokens - was)
