"""Try the scheduler, and others, on a fleet and a trace in virtual time: ``agentcom simulate``.

The rule ``ours`` is the production code (``hub/core/scheduling.py`` and what it uses), not a copy of it. Nothing here
is used by a running hub.
"""

from pathlib import Path
from typing import Final

from hub.simulate.engine import run
from hub.simulate.fleet import FleetPlan, read_fleet
from hub.simulate.ours import Ours
from hub.simulate.report import Report, report
from hub.simulate.rules import RULES
from hub.simulate.trace import read_trace
from protocol.errors import BadInput, Problem

OURS: Final = "ours"
POLICIES: Final = (OURS, *RULES)


def simulate(
    fleet: Path,
    trace: Path,
    policy: str,
    *,
    seed: int = 1,
    limit: int | None = None,
    load: float | None = None,
    deadline_s: float = 0.0,
) -> Report:
    """Run a trace on a fleet; the same arguments give the same report.

    Args:
        fleet, trace: files; their forms are in ``fleet.py`` and ``trace.py``.
        policy: one of :data:`POLICIES`.
        seed: of the models that requests draw, and of rules that draw lots.
        limit: only the first so many requests.
        load: stretch the arrivals to this share of the fleet's capacity.
        deadline_s: count the requests that took longer.
    Raises:
        BadInput: a file or the policy is wrong.
    """
    if policy not in POLICIES:
        raise BadInput([Problem("policy", f"{policy!r}; one of {', '.join(POLICIES)}")], "simulation")
    plan = read_fleet(fleet)
    jobs = read_trace(trace, plan, seed=seed, limit=limit, load=load)
    rule = Ours(plan) if policy == OURS else RULES[policy](seed)
    done, machines = run(jobs, plan.hosts, rule)
    return report(policy, plan, done, machines, deadline_s=deadline_s)


__all__ = ["OURS", "POLICIES", "FleetPlan", "Report", "simulate"]
