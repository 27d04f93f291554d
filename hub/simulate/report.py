"""What came out of a simulation, and the least that any rule could have needed."""

from collections.abc import Sequence

from msgspec import Struct

from hub.simulate.engine import Machine, Request
from hub.simulate.fleet import FleetPlan, HostedPlan, MakerPlan
from hub.simulate.trace import Job, ideal_s


class Report(Struct, frozen=True, kw_only=True):
    """Figures of one run; seconds are virtual.

    Attributes:
        lower_bound_s: no rule ends all requests earlier than this (see :func:`lower_bound_s`); where work is checked
            and any model may do it, only the last arrival bounds it.
        deadline_misses: requests whose answer took longer than the deadline that was asked for; 0 without one.
        verified_rate: share of the answers that pass their checks, by the success of the models (drawn a request).
        busy: share of the machines' time up to the last answer in which they loaded, read or wrote.
        attempts: requests that were made; more than jobs where work is checked and tried again.
        hosted: attempts that went to hosted models.
        usd_per_verified: what was spent for each answer that has passed; ``None`` if none has.
        reused: share of the prompt tokens that were in a machine's memory already and were not read again.
    """

    policy: str
    jobs: int
    makespan_s: float
    lower_bound_s: float
    mean_completion_s: float
    p50_completion_s: float
    p95_completion_s: float
    p99_completion_s: float
    deadline_misses: int
    model_loads: int
    cost_usd: float
    busy: float
    verified_rate: float
    attempts: int
    hosted: int
    usd_per_verified: float | None
    reused: float = 0.0


def report(
    policy: str,
    fleet: FleetPlan,
    done: Sequence[Request],
    machines: Sequence[Machine],
    *,
    deadline_s: float,
    is_checked: bool,
) -> Report:
    """The figures of a run in which every job was answered; of several attempts at a job the last one counts."""
    last = {request.job.number: request for request in done}.values()
    jobs = sorted((request.job for request in last), key=lambda job: (job.at_s, job.number))
    took = sorted(request.completion_s for request in last)
    makespan_s = max(request.ended_at for request in done)
    ours = [machine for machine in machines if not isinstance(machine.plan, MakerPlan)]
    usd, good = sum(machine.usd for machine in machines), sum(job.is_good for job in jobs)
    places = sum(machine.plan.parallel for machine in ours)
    return Report(
        policy=policy,
        jobs=len(jobs),
        makespan_s=makespan_s,
        lower_bound_s=jobs[-1].at_s if is_checked else lower_bound_s(jobs, fleet),
        mean_completion_s=sum(took) / len(took),
        p50_completion_s=_at(took, 0.50),
        p95_completion_s=_at(took, 0.95),
        p99_completion_s=_at(took, 0.99),
        deadline_misses=sum(seconds > deadline_s for seconds in took) if deadline_s else 0,
        model_loads=sum(machine.loads for machine in machines),
        cost_usd=usd,
        busy=sum(machine.busy_s for machine in ours) / (makespan_s * places),
        verified_rate=good / len(jobs),
        attempts=len(done),
        hosted=sum(isinstance(request.job.model, HostedPlan) for request in done),
        usd_per_verified=usd / good if good else None,
        reused=sum(each.cached_tokens for each in done) / max(1, sum(each.job.input_tokens for each in done)),
    )


def lower_bound_s(jobs: Sequence[Job], fleet: FleetPlan) -> float:
    """A time before which not all requests can have an answer, whatever the rule.

    What comes from some moment on cannot begin before that moment, and all machines together need at least the ideal
    time for it; and no request ends before it has come and the fastest machine has answered it alone. Loads are left
    out: the bound is what a fleet with all models in memory could reach.
    """
    best = 0.0
    each_s = [ideal_s([job], fleet) for job in jobs]
    rest_s = sum(each_s)
    for job, own_s in zip(jobs, each_s, strict=True):
        best = max(best, job.at_s + rest_s)
        rest_s -= own_s
    return max(best, *(job.at_s + _alone_s(job, fleet) for job in jobs))


def _alone_s(job: Job, fleet: FleetPlan) -> float:
    able = [host for host in fleet.hosts if host.holds(job.model)]
    return min(host.service_s(job.model, job.input_tokens, job.output_tokens) for host in able)


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
