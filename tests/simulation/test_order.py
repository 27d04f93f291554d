"""The promises of the order in which tasks go, on a whole hub in simulated time: T40 and T41 of the fault matrix."""

import pytest
from msgspec import json

from protocol.model import Priority, TaskSpec
from tests.simulation.plan import Order, Plan, Seat
from tests.simulation.run import Outcome, run

SEAT = Seat(name="s0", slots=4, capabilities=(), rate=1.0, wall_ms=0, joins_at=5.0)


def plan(*orders: Order) -> Plan:
    return Plan(seed=1, seconds=20.0, seats=(SEAT,), orders=orders, wishes=(), faults=())


def work(title: str, **more: object) -> TaskSpec:
    command = json.encode({"seconds": 0.02}).decode()
    return TaskSpec(title=title, executor="shell", command=command, **more)  # type: ignore[arg-type]  # fields of a spec


def started(outcome: Outcome) -> list[str]:
    """Tasks in the order in which they were given out."""
    words = [what.split() for _, who, what in outcome.lines if who == "hub"]
    return [found[2] for found in words if found[1:2] == ["task_assigned"]]


def ids(outcome: Outcome, key: str) -> list[str]:
    """The tasks of an order."""
    return next(what.split()[2:] for _, who, what in outcome.lines if who == "people" and what.startswith(f"{key} is"))


def a_low_task_among_urgent_ones(urgent: int) -> None:
    batches = [
        Order(1.0 + n / 1000, f"k{n + 1}", tuple(work(f"h{n}.{i}", priority=Priority.HIGH) for i in range(100)))
        for n in range(urgent // 100)
    ]
    late = Order(40.0 + urgent / 20, "late", (work("late", priority=Priority.HIGH),))
    outcome = run(plan(Order(0.5, "k0", (work("low", priority=Priority.LOW),)), *batches, late))
    (low,), order = ids(outcome, "k0"), started(outcome)

    assert outcome.violations == ()
    # It was first in line and went last: every urgent task that waited went before it, in the order in which they came,
    # and nothing that came after that.
    assert order.index(low) == urgent
    assert order[:urgent] == sorted(order[:urgent])
    assert order[urgent + 1 :] == ids(outcome, "late")


def test_t40_a_low_task_runs_as_soon_as_no_urgent_one_waits() -> None:
    """T40: lanes are strict; what a lane has to wait for is the work above it, and never its own."""
    a_low_task_among_urgent_ones(1_000)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_t40_ten_thousand_urgent_tasks_and_a_low_one() -> None:
    a_low_task_among_urgent_ones(10_000)


def test_t41_tasks_that_nobody_can_do_stand_in_nobodys_way() -> None:
    """T41: urgent work for a machine that is not there waits, and all other work goes on at once."""
    stuck = tuple(work(f"m{n}", needs=("moon",), priority=Priority.URGENT) for n in range(30))
    outcome = run(plan(Order(0.5, "k0", stuck), Order(8.0, "k1", (work("ordinary", priority=Priority.LOW),))))
    (ordinary,) = ids(outcome, "k1")
    queued, assigned = (
        next(at for at, _, what in outcome.lines if f" {kind} {ordinary}" in what)
        for kind in ("task_queued", "task_assigned")
    )

    assert outcome.violations == ()
    assert assigned - queued < 0.1
