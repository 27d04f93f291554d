"""The rules that ours is measured against: each decides when a request comes, as the routers that use it do.

``round_robin`` and ``random`` are what proxies do by default, ``least_busy`` and ``power_of_two`` what load balancers
do, ``warm_first`` what front ends for local models do. ``earliest_completion`` adds up what waits, the load if it is
needed, and the work: the strongest simple rule (ServerlessLLM's startup-time optimised scheduling, arXiv 2401.14351).
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from hub.simulate.engine import Machine, Means, Request


class Immediate(ABC):
    """A rule that picks a machine for each request as it comes."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._means = Means()
        self._turn = 0

    def came(self, request: Request, machines: Sequence[Machine], now: float) -> Iterable[tuple[Request, Machine]]:
        """See :class:`hub.simulate.engine.Rule`."""
        able = [machine for machine in machines if machine.plan.holds(request.job.model)]
        self._turn += 1
        return [(request, self.pick(request, able, now))]

    def ended(
        self, request: Request, machine: Machine, machines: Sequence[Machine], now: float
    ) -> Iterable[tuple[Request, Machine]]:
        """See :class:`hub.simulate.engine.Rule`."""
        del machine, machines, now
        self._means.learn(request)
        return ()

    @abstractmethod
    def pick(self, request: Request, able: list[Machine], now: float) -> Machine:
        """The machine for a request, of those that can hold its model."""

    def _least(self, able: list[Machine], rank: Callable[[Machine], float]) -> Machine:
        return min(able, key=lambda machine: (rank(machine), self._chance.random()))


class RoundRobin(Immediate):
    """One after the other."""

    def pick(self, request: Request, able: list[Machine], now: float) -> Machine:
        """The next one."""
        del request, now
        return able[self._turn % len(able)]


class Random(Immediate):
    """Any."""

    def pick(self, request: Request, able: list[Machine], now: float) -> Machine:
        """Any of them."""
        del request, now
        return self._chance.choice(able)


class LeastBusy(Immediate):
    """The one with the fewest requests."""

    def pick(self, request: Request, able: list[Machine], now: float) -> Machine:
        """The one with the fewest requests, waiting or running."""
        del request, now
        return self._least(able, _count)


class PowerOfTwo(Immediate):
    """The better one of two that are drawn."""

    def pick(self, request: Request, able: list[Machine], now: float) -> Machine:
        """The one with fewer requests, of two."""
        del request, now
        return self._least(self._chance.sample(able, min(2, len(able))), _count)


class WarmFirst(Immediate):
    """The least busy one that has the model in memory, else the least busy one."""

    def pick(self, request: Request, able: list[Machine], now: float) -> Machine:
        """A warm one, if there is any."""
        del now
        name = request.job.model.name
        warm = [
            machine
            for machine in able
            if name in machine.residents or any(each.job.model.name == name for each in machine.waiting)
        ]
        return self._least(warm or able, _count)


class EarliestCompletion(Immediate):
    """The one where the request is expected to end first."""

    def pick(self, request: Request, able: list[Machine], now: float) -> Machine:
        """The one with the smallest sum of what waits, load and work."""
        return self._least(able, lambda machine: self._ends(machine, request, now))

    def _ends(self, machine: Machine, request: Request, now: float) -> float:
        there = set(machine.residents)
        seconds = sum(
            max(0.0, each.begun_at + each.load_s + self._service(machine, each) - now) for each in machine.running
        )
        for each in (*machine.waiting, request):
            if each.job.model.name not in there:
                seconds += machine.plan.load_s(each.job.model)
                there.add(each.job.model.name)
            seconds += self._service(machine, each)
        return seconds / machine.plan.parallel

    def _service(self, machine: Machine, request: Request) -> float:
        job = request.job
        return machine.plan.service_s(job.model, job.input_tokens, self._means.of(job.model))


def _count(machine: Machine) -> float:
    return float(len(machine.running) + len(machine.waiting))


RULES: Final[dict[str, type[Immediate]]] = {
    "round_robin": RoundRobin,
    "random": Random,
    "least_busy": LeastBusy,
    "power_of_two": PowerOfTwo,
    "warm_first": WarmFirst,
    "earliest_completion": EarliestCompletion,
}
