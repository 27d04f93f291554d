"""Try the scheduler, and others, on a fleet and a trace in virtual time: ``agentcom simulate``.

The rule ``ours`` is the production code (``hub/core/scheduling.py`` and what it uses), not a copy of it. Nothing here
is used by a running hub.
"""

from pathlib import Path
from typing import Final

from hub.simulate.checked import ALWAYS_HOSTED, AlwaysHosted, Checked, Checking
from hub.simulate.engine import Rule, run
from hub.simulate.fleet import FleetPlan, read_fleet
from hub.simulate.ours import Ours
from hub.simulate.report import Report, report
from hub.simulate.rules import RULES
from hub.simulate.trace import read_trace
from protocol.errors import BadInput, Problem

OURS: Final = "ours"
POLICIES: Final = (OURS, *RULES)
CHECKED: Final = (OURS, ALWAYS_HOSTED)
"""Policies for work whose answers are checked."""


def simulate(
    fleet: Path,
    trace: Path,
    policy: str,
    *,
    seed: int = 1,
    limit: int | None = None,
    load: float | None = None,
    deadline_s: float = 0.0,
    checking: Checking | None = None,
) -> Report:
    """Run a trace on a fleet; the same arguments give the same report.

    Args:
        fleet, trace: files; their forms are in ``fleet.py`` and ``trace.py``.
        policy: one of :data:`POLICIES`.
        seed: of the models that requests draw, and of rules that draw lots.
        limit: only the first so many requests.
        load: stretch the arrivals to this share of the fleet's capacity.
        deadline_s: count the requests that took longer.
        checking: requests name no model, answers are checked, and what fails climbs (``checked.py``).
    Raises:
        BadInput: a file or the policy is wrong.
    """
    known = POLICIES if checking is None else CHECKED
    if policy not in known:
        raise BadInput([Problem("policy", f"{policy!r}; one of {', '.join(known)}")], "simulation")
    plan = read_fleet(fleet)
    if checking is not None and not plan.hosted:
        raise BadInput([Problem("hosted", "none; checked work needs at least one [[hosted]] table")], "fleet")
    jobs = read_trace(trace, plan, seed=seed, limit=limit, load=load)
    hosts = plan.hosts if checking is None else (*plan.hosts, *plan.makers)
    done, machines = run(jobs, hosts, _rule(policy, plan, seed, checking))
    return report(policy, plan, done, machines, deadline_s=deadline_s, is_checked=checking is not None)


def _rule(policy: str, plan: FleetPlan, seed: int, checking: Checking | None) -> Rule:
    if policy == ALWAYS_HOSTED:
        return AlwaysHosted(plan, seed)
    if policy != OURS:
        return RULES[policy](seed)
    return Ours(plan) if checking is None else Checked(plan, seed, checking)


__all__ = ["CHECKED", "OURS", "POLICIES", "Checking", "FleetPlan", "Report", "simulate"]
