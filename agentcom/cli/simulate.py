"""``agentcom simulate``: try the scheduler on a fleet and a trace, in virtual time."""

from pathlib import Path

import click

from agentcom.cli import output

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(name="simulate")
@click.option("--fleet", required=True, type=_FILE, help="Machines and models (TOML).")
@click.option("--trace", required=True, type=_FILE, help="Requests (CSV or JSON lines).")
@click.option(
    "--policy", "policies", multiple=True, metavar="NAME", help="ours, or a rule to compare with; repeatable; 'all'."
)
@click.option(
    "--load", type=click.FloatRange(0.01, 5.0), metavar="X", help="Stretch arrivals to this share of capacity."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N requests.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the models that requests draw.")
@click.option("--deadline-s", type=click.FloatRange(min=0.0), default=0.0, help="Count the requests that took longer.")
@click.option("--json", "as_json", is_flag=True, help="A list of reports instead of a table.")
def command(
    fleet: Path,
    trace: Path,
    policies: tuple[str, ...],
    load: float | None,
    limit: int | None,
    seed: int,
    deadline_s: float,
    as_json: bool,  # noqa: FBT001 - click calls it
) -> None:
    """Run requests through the hub's own scheduler on machines that do not exist.

    \b
    Policies: ours, round_robin, random, least_busy, power_of_two, warm_first,
    earliest_completion. Examples of fleets are in docs/examples/fleets.
    """  # noqa: D301 - click wants the backspace character itself
    from hub.simulate import OURS, POLICIES, simulate

    wanted = POLICIES if "all" in policies else policies or (OURS,)
    reports = [
        simulate(fleet, trace, policy, seed=seed, limit=limit, load=load, deadline_s=deadline_s) for policy in wanted
    ]
    if as_json:
        output.say_json(reports[0] if len(reports) == 1 else reports)
        return
    rows = [
        (
            each.policy,
            f"{each.jobs:,}",
            f"{each.mean_completion_s:,.1f}",
            f"{each.p95_completion_s:,.1f}",
            f"{each.p99_completion_s:,.1f}",
            f"{each.makespan_s:,.0f}",
            f"{each.makespan_s / each.lower_bound_s:.2f}",
            f"{each.model_loads:,}",
            f"{each.deadline_misses:,}",
            f"{each.cost_usd:.2f}",
        )
        for each in reports
    ]
    head = ("policy", "jobs", "mean s", "p95 s", "p99 s", "makespan s", "x bound", "loads", "late", "usd")
    output.table(head, rows, empty="")
