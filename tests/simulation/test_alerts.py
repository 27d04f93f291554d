"""The promises of alerts on a whole hub in simulated time, with the times that everybody has."""

import pytest
from msgspec import json

from protocol.model import TaskSpec
from tests.simulation.plan import Fault, Order, Plan, Seat
from tests.simulation.run import Outcome, run

SEATS = tuple(
    Seat(name=name, slots=2, capabilities=(), rate=1.0, wall_ms=0, joins_at=0.0) for name in ("s0", "s1", "s2")
)
HOUR_S = 3_600


def work(number: int) -> TaskSpec:
    """One attempt in ten fails, as work does, and is made again."""
    command = json.encode({"seconds": 4.0, "fails": 0.1, "how": "agent"}).decode()
    return TaskSpec(title=f"t{number}", executor="shell", command=command, max_retries=3)


def day(seconds: float, *faults: Fault, seats: int = 3, every_s: float = 60.0) -> Outcome:
    """Steady work for so long, and then until all of it is done."""
    orders = tuple(
        Order(5.0 + every_s * number, f"k{number}", (work(number),)) for number in range(int(seconds / every_s))
    )
    return run(Plan(seed=1, seconds=seconds, seats=SEATS[:seats], orders=orders, wishes=(), faults=faults))


def alerts(outcome: Outcome) -> list[str]:
    """What was told, sorted; all reports of these machines are of one moment, so of their clocks nothing is meant."""
    words = [what.split() for _, who, what in outcome.lines if who == "hub"]
    told = [" ".join(found[1:]) for found in words if len(found) > 2 and found[1].startswith("alert_")]
    return sorted(line for line in told if "clock_skew" not in line)


def test_half_an_hour_of_steady_work_raises_no_alert() -> None:
    outcome = day(HOUR_S / 2, seats=2)

    assert outcome.violations == ()
    assert alerts(outcome) == []


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_soak_hours_of_steady_work_raise_no_alert() -> None:
    outcome = day(4 * HOUR_S, every_s=5.0)

    assert outcome.violations == ()
    assert alerts(outcome) == []


def test_a_machine_that_is_killed_one_that_is_cut_off_and_a_hub_that_is_killed_are_each_told_once() -> None:
    faults = (
        Fault(30.0, "hub_kill"),
        Fault(60.0, "gone", "s1", seconds=120.0),
        Fault(60.0, "block", "s2", seconds=120.0),
        Fault(300.0, "block", "s1", seconds=45.0),  # too short to be told
    )
    outcome = day(720.0, *faults)

    assert outcome.violations == ()
    assert [line for line in alerts(outcome) if "agent_lost" in line] == [
        "alert_fired agent_lost s1",
        "alert_fired agent_lost s2",
        "alert_resolved agent_lost s1",
        "alert_resolved agent_lost s2",
    ]
    others = [line.rpartition(" ")[0] for line in alerts(outcome) if "agent_lost" not in line]
    assert others == ["alert_fired hub_lost", "alert_resolved hub_lost"]
