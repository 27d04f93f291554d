"""What a seed means: machines, people, tasks and faults, as data that can be shrunk.

:func:`make` draws all of it before anything runs, each kind from its own source, so a fault that is left out
(:meth:`Plan.without`) changes no other one.
"""

from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from msgspec import json

from protocol.model import Priority, TaskSpec

MARGIN_S: Final = 3.0
"""A process that stands still for longer may outlive its leases."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something bad that happens at ``at`` to ``who``; what ``seconds`` and ``amount`` mean depends on the kind."""

    at: float
    kind: str
    who: str = "hub"
    seconds: float = 0.0
    amount: float = 0.0

    def __str__(self) -> str:
        return f"{self.at:7.2f} s  {self.kind} {self.who} for {self.seconds:.2f} s ({self.amount:.3g})"


@dataclass(frozen=True, slots=True)
class Seat:
    """A sidecar."""

    name: str
    slots: int
    capabilities: tuple[str, ...]
    rate: float
    wall_ms: int
    joins_at: float


@dataclass(frozen=True, slots=True)
class Order:
    """One submission: specs under one key; those that depend on others name them by their place among all orders."""

    at: float
    key: str
    specs: tuple[TaskSpec, ...]
    needs: tuple[int, ...] = ()
    again_at: float = 0.0
    """When the client sends it once more, though it was answered; 0: never."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person does to a task (``cancel``) or an agent (``drain`` for ``seconds``)."""

    at: float
    verb: str
    what: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a seed decides before it runs."""

    seed: int
    seconds: float
    """When faults end."""
    seats: tuple[Seat, ...]
    orders: tuple[Order, ...]
    wishes: tuple[Wish, ...]
    faults: tuple[Fault, ...]
    delay_s: float = 0.001
    jitter_s: float = 0.005
    loses: float = 0.0

    def without(self, kind: str, places: frozenset[int]) -> "Plan":
        """The plan without some of its ``faults``, ``wishes`` or ``orders``."""
        kept = tuple(each for place, each in enumerate(getattr(self, kind)) if place not in places)
        return replace(self, **{kind: kept})


def make(seed: int) -> Plan:
    """The plan of a seed."""
    shape = Random(f"{seed}/shape")
    seconds = shape.uniform(30.0, 100.0)
    seats = tuple(_seat(shape, number) for number in range(shape.randint(2, 4)))
    return Plan(
        seed=seed,
        seconds=seconds,
        seats=seats,
        orders=tuple(_orders(Random(f"{seed}/orders"), seconds)),
        wishes=tuple(_wishes(Random(f"{seed}/wishes"), seconds, len(seats))),
        faults=tuple(_faults(Random(f"{seed}/faults"), seconds, seats)),
        delay_s=shape.choice([0.0005, 0.005, 0.08]),
        jitter_s=shape.choice([0.001, 0.02, 0.4]),
        loses=shape.choice([0.0, 0.05, 0.3]),
    )


def _seat(chance: Random, number: int) -> Seat:
    return Seat(
        name=f"s{number}",
        slots=chance.randint(1, 4),
        capabilities=("gpu",) if number == 0 or chance.random() < 0.3 else (),
        rate=1.0 + chance.uniform(-1e-3, 1e-3),
        wall_ms=chance.choice([0, 0, 0, -3_600_000, 86_400_000]),
        joins_at=0.0 if number == 0 else chance.choice([0.0, 0.0, chance.uniform(0, 20)]),
    )


# --- people -----------------------------------------------------------------------------------------------------------


def _orders(chance: Random, seconds: float) -> list[Order]:
    orders: list[Order] = []
    # Often a few at once, so that classes are longer than the window and clients meet one another.
    for _ in range(chance.randint(8, 22)):
        at = chance.choice([0.5, chance.uniform(0.5, seconds * 0.8), seconds * 0.3])
        specs = tuple(_spec(chance, f"t{len(orders)}.{place}") for place in range(chance.choice([1, 1, 1, 2, 4])))
        needs = (chance.randrange(len(orders)),) if orders and chance.random() < 0.12 else ()
        again_at = at + chance.uniform(0.1, 30.0) if chance.random() < 0.2 else 0.0
        orders.append(Order(at, f"k{len(orders)}", specs, needs, again_at))
    return orders


def _spec(chance: Random, title: str) -> TaskSpec:
    kind = chance.random()
    common: dict[str, Any] = {
        "title": title,
        "priority": chance.choice([Priority.NORMAL, *Priority]),
        "max_retries": chance.choice([0, 1, 3]),
        "labels": {},
    }
    if chance.random() < 0.06:
        common["ttl_s"] = chance.uniform(1.0, 60.0)
    if kind < 0.12:
        return TaskSpec(executor="noop", **common)
    if kind < 0.2:
        common["needs"] = ("gpu",)
    elif kind < 0.23:
        common["needs"] = ("moon",)  # nobody has that: it must not stand in anybody's way
    work = {
        "seconds": chance.choice([0.05, 0.5, 3.0, 8.0, 20.0, 45.0, 60.0]),
        "rounds": chance.choice([1, 1, 1, 2]),
        "says": chance.choice([1, 1, 3]),
        "fails": chance.choice([0.0, 0.0, 0.0, 0.3, 1.0]),
        "how": chance.choice(["agent", "agent", "verify", "infra", "quota", "budget"]),
        "stubborn": chance.choice([0, 0, 1]),
    }
    if work["how"] == "quota":
        work["fails"] = min(work["fails"], 0.3)  # its retries could take an hour
    return TaskSpec(executor="shell", command=json.encode(work).decode(), **common)


def _wishes(chance: Random, seconds: float, seats: int) -> list[Wish]:
    cancels = [Wish(chance.uniform(1, seconds), "cancel", chance.randrange(1_000)) for _ in range(chance.randint(0, 5))]
    drains = [
        Wish(chance.uniform(1, seconds), "drain", chance.randrange(seats), chance.uniform(0.5, 30.0))
        for _ in range(chance.choice([0, 0, 1, 2]))
    ]
    return sorted([*cancels, *drains], key=lambda wish: wish.at)


# --- faults -----------------------------------------------------------------------------------------------------------

KINDS: Final[dict[str, float]] = {
    "hub_kill": 2.0,
    "hub_off": 0.5,
    "hub_stop": 1.0,
    "hub_disk_before": 0.5,
    "hub_disk_after": 0.5,
    "hub_slow_disk": 1.0,
    "hub_full": 0.5,
    "hub_wall": 0.5,
    "kill": 2.0,
    "off": 0.7,
    "wipe": 0.5,
    "stop": 1.5,
    "sleep": 0.7,
    "disk": 0.7,
    "wall": 0.5,
    "leave": 1.0,
    "clone": 0.3,
    "cut": 3.0,
    "block_up": 1.5,
    "block_down": 1.5,
    "block": 1.5,
    "refuse": 0.7,
    "slow": 0.7,
}
"""Kinds of faults, and how often each is drawn."""


def _faults(chance: Random, seconds: float, seats: tuple[Seat, ...]) -> list[Fault]:
    # A seed has a mood: some kinds happen often in it, others never, so that rare ones meet.
    mood = chance.sample(sorted(KINDS), k=chance.randint(2, 8))
    weights = [KINDS[kind] for kind in mood]
    found = []
    for _ in range(chance.choice([0, 2, 4, 6, 8, 12, 16])):
        kind = chance.choices(mood, weights)[0]
        who = "hub" if kind.startswith("hub_") else chance.choice(seats).name
        lasts_s = chance.choice([chance.uniform(0.05, 2), chance.uniform(1, 12), chance.uniform(10, 50)])
        if kind.startswith("block") and chance.random() < 0.4:
            lasts_s = chance.uniform(26, 60)  # about as long as a lease, and longer
        amount = chance.choice([-1, 1]) * chance.choice([1e3, 6e4, 3.6e6, 8.64e7]) if kind.endswith("wall") else lasts_s
        if kind == "slow":
            amount = chance.uniform(0.05, 3.0)
        if kind == "hub_slow_disk":
            amount = chance.uniform(0.01, 0.6)
        found.append(Fault(chance.uniform(0.1, seconds), kind, who, lasts_s, amount))
    return sorted(found, key=lambda fault: fault.at)
