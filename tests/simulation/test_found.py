"""What the simulation has found, each as a plan of its own: the few faults that matter, in their order."""

from dataclasses import replace

from msgspec import json

from protocol.model import TaskSpec
from tests.simulation.plan import Fault, Order, Plan, Seat
from tests.simulation.run import run


def seat(name: str, joins_at: float = 0.0) -> Seat:
    return Seat(name=name, slots=1, capabilities=(), rate=1.0, wall_ms=0, joins_at=joins_at)


def work(seconds: float, **more: object) -> TaskSpec:
    return TaskSpec(title="t", executor="shell", command=json.encode({"seconds": seconds, **more}).decode())


def plan(*faults: Fault, spec: TaskSpec, seats: tuple[Seat, ...] = (seat("s0"),), seconds: float = 60.0) -> Plan:
    return Plan(
        seed=1, seconds=seconds, seats=seats, orders=(Order(1.0, "k0", (spec,)),), wishes=(), faults=faults, loses=0.0
    )


def test_a_retry_does_not_wait_a_day_because_the_clock_was_set_back_by_one() -> None:
    # Found by seeds 58, 68 and 143: the task waits after its first failure when the clock of the hub goes back.
    outcome = run(plan(Fault(1.8, "hub_wall", amount=-86_400_000), spec=work(0.3, fails=1.0)))

    assert outcome.violations == ()
    assert outcome.seconds < 120.0


def test_an_attempt_that_was_rejected_is_not_taken_up_after_all() -> None:
    # Found by seed 2341: the sidecar stands still, finds the assignment too late and rejects it; before the hub hears
    # that it is another one, which sends the assignment again. Taken up now, it would run beside the next attempt.
    faults = (Fault(3.0, "stop", "s0", 37.0), Fault(30.0, "hub_kill"))
    seats = (replace(seat("s0"), slots=2),)
    outcome = run(replace(plan(*faults, spec=work(8.0), seats=seats), orders=(Order(12.0, "k0", (work(8.0),)),)))

    assert outcome.violations == ()


def test_an_assignment_that_a_broken_line_kept_back_begins_nothing_after_its_lease() -> None:
    # Found by seed 29: it went out again with the next connection, while another sidecar was at the task.
    islands = (Fault(0.9, "block_down", "s0", 33.0),)
    outcome = run(plan(*islands, spec=work(20.0), seats=(seat("s0"), seat("s1", joins_at=5.0))))

    assert outcome.violations == ()
    assert {"states": outcome.figures["states"]} == {"states": {"completed": 1}}
