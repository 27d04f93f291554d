"""``agentcom simulate``: try the scheduler on a fleet and a trace, in virtual time."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentcom.cli import output
from protocol.choice import SECONDS_PER_USD, LearningMode

if TYPE_CHECKING:
    from hub.simulate import Report

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
@click.option("--checked", is_flag=True, help="Check the answers; what fails climbs.")
@click.option(
    "--learning",
    type=click.Choice([mode.value for mode in LearningMode]),
    help="With --checked: as the setting of a hub (shadow).",
)
@click.option(
    "--seconds-per-usd", type=click.FloatRange(0.0, 1e6), help="With --checked: as the setting of a hub (360)."
)
@click.option("--json", "as_json", is_flag=True, help="A list of reports instead of a table.")
def command(
    fleet: Path,
    trace: Path,
    policies: tuple[str, ...],
    checked: bool,  # noqa: FBT001 - click calls it
    learning: str | None,
    seconds_per_usd: float | None,
    as_json: bool,  # noqa: FBT001 - click calls it
    **given: Any,
) -> None:
    """Run requests through the hub's own scheduler on machines that do not exist.

    \b
    Policies: ours, round_robin, random, least_busy, power_of_two, warm_first,
    earliest_completion; with --checked: ours, always_hosted. Examples of
    fleets are in docs/examples/fleets.
    """  # noqa: D301 - click wants the backspace character itself
    from hub.simulate import CHECKED, OURS, POLICIES, Checking, simulate

    if not checked and (learning or seconds_per_usd is not None):
        raise click.UsageError("--learning and --seconds-per-usd need --checked")
    usd_s = SECONDS_PER_USD if seconds_per_usd is None else seconds_per_usd
    checking = Checking(learning=LearningMode(learning or "shadow"), usd_s=usd_s) if checked else None
    wanted = (CHECKED if checked else POLICIES) if "all" in policies else policies or (OURS,)
    reports = [simulate(fleet, trace, policy, checking=checking, **given) for policy in wanted]
    if as_json:
        output.say_json(reports[0] if len(reports) == 1 else reports)
        return
    if checked:
        _checked_table(reports)
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


def _checked_table(reports: "Sequence[Report]") -> None:
    rows = [
        (
            each.policy,
            f"{each.jobs:,}",
            f"{each.mean_completion_s:,.1f}",
            f"{each.p99_completion_s:,.1f}",
            f"{each.attempts:,}",
            f"{each.hosted:,}",
            f"{each.verified_rate:.3f}",
            f"{each.cost_usd:.2f}",
            f"{each.usd_per_verified:.5f}" if each.usd_per_verified is not None else "-",
        )
        for each in reports
    ]
    head = ("policy", "jobs", "mean s", "p99 s", "attempts", "hosted", "verified", "usd", "usd each")
    output.table(head, rows, empty="")
