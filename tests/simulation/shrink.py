"""Make a plan that fails smaller, until nothing can be left out: the trace that a person reads is the shortest."""

import re
from dataclasses import replace
from typing import Final

from tests.simulation.plan import Plan
from tests.simulation.plants import NONE, Plant
from tests.simulation.run import Outcome, run

MOST_RUNS: Final = 150
_PARTICULAR: Final = re.compile(r"\b01[0-9a-z]{24}\b|\b[ske]?\d+(\.\d+)*\b|\S+/\d+")


def kind_of(violation: str) -> str:
    """A violation without what differs from run to run."""
    return _PARTICULAR.sub("#", violation)[:60]


def shrink(failed: Outcome, plant: Plant = NONE, most_runs: int = MOST_RUNS) -> Outcome:
    """The smallest plan found in ``most_runs`` that shows the same kind of violation as ``failed``, run."""
    wanted = {kind_of(violation) for violation in failed.violations}
    best, runs = failed, 0

    def attempt(plan: Plan) -> bool:
        nonlocal best, runs
        runs += 1
        found = run(plan, plant)
        if not wanted & {kind_of(violation) for violation in found.violations}:
            return False
        best = found
        return True

    for kind in ("faults", "wishes", "orders", "faults"):
        size = max(1, len(getattr(best.plan, kind)) // 2)
        while size and runs < most_runs:
            place = 0
            while place < len(getattr(best.plan, kind)) and runs < most_runs:
                if not attempt(_without(best.plan, kind, place, size)):
                    place += size
            size //= 2
    last = max([fault.at for fault in best.plan.faults], default=1.0) + 1.0
    for seconds in (last, last + 30.0):
        if seconds < best.plan.seconds and attempt(replace(best.plan, seconds=seconds)):
            break
    return best


def _without(plan: Plan, kind: str, place: int, size: int) -> Plan:
    if kind != "orders":
        return plan.without(kind, frozenset(range(place, place + size)))
    # Orders name one another by place: an order that is left out stays as an empty hole.
    orders = tuple(
        replace(order, specs=order.specs[:0]) if place <= number < place + size else order
        for number, order in enumerate(plan.orders)
    )
    return replace(plan, orders=orders)
