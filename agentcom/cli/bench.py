"""``agentcom bench``: what the mesh does on this machine, measured on processes of its own."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from agentcom.cli import endings, output
from protocol.errors import BadInput, Problem

if TYPE_CHECKING:
    from agentcom.bench.growth import GrowthFigures
    from agentcom.bench.statistics import Quantiles, Spread
    from agentcom.bench.tasks import TasksReport

T = TypeVar("T")
_MIB: Final = 1 << 20
_BAR: Final = 30
"""Characters of the longest bar."""


@click.group(name="bench")
def command() -> None:
    """Measure the mesh on this machine, with a hub and sidecars of its own."""


def _common(call: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines."),
        click.option("--folder", metavar="DIR", help="Keep store and logs here; which disk it is counts."),
    ):
        call = option(call)
    return call


@command.command(name="tasks")
@click.option("--count", type=click.IntRange(1), default=10_000, show_default=True, help="No-op tasks in a run.")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Counted runs.")
@click.option("--sidecars", type=click.IntRange(1, 64), default=1, show_default=True, help="Sidecar processes.")
@click.option("--slots", type=click.IntRange(1, 1024), default=1024, show_default=True, help="Slots of each.")
@click.option("--batch", type=click.IntRange(1, 1000), default=100, show_default=True, help="Tasks in a request.")
@click.option("--in-flight", type=click.IntRange(1, 64), default=8, show_default=True, help="Requests at a time.")
@click.option("--callers", type=click.IntRange(0, 512), default=64, show_default=True, help="For single submissions.")
@click.option(
    "--idle", type=click.IntRange(0), default=100, show_default=True, help="Rare tasks, and 5 x as many in turn."
)
@click.option("--store", metavar="URL", default="", help="postgresql://...: a database instead of SQLite.")
@_common
def tasks(folder: str | None, as_json: bool, **asked: Any) -> int:  # noqa: FBT001 - click calls it
    """Measure no-op tasks from submission to result."""
    from agentcom.bench.tasks import Load, measure

    with _place(folder) as place:
        report = _run(lambda: measure(place, Load(**asked)))
    if as_json:
        output.say_json(report)
    else:
        output.fields(_lines(report))
    return endings.DONE


@command.command(name="connections")
@click.option("--count", "counts", type=click.IntRange(1), multiple=True, metavar="N", help="Repeatable: 100, 1000.")
@click.option("--heartbeat-s", type=click.FloatRange(0.1), default=15.0, show_default=True, help="Of each.")
@click.option("--watch-s", type=click.FloatRange(0.1), default=15.0, show_default=True, help="Measured at each count.")
@_common
def connections(folder: str | None, as_json: bool, **asked: Any) -> int:  # noqa: FBT001 - click calls it
    """Measure what idle sidecars cost the hub."""
    from agentcom.bench.connections import Crowd, measure

    with _place(folder) as place:
        report = _run(lambda: measure(place, Crowd(**_given(asked))))
    if as_json:
        output.say_json(report)
        return endings.DONE
    rows = [
        (
            f"{found.connections:,}",
            f"{found.joined_per_s:,.0f}",
            f"{found.hub_cpu_percent:.1f}",
            f"{found.hub_pss_bytes / _MIB:,.0f}",
            f"{found.bytes_per_connection / 1000:.1f}",
            f"{found.heartbeat_ms.p50:.2f}",
            f"{found.heartbeat_ms.p99:.2f}",
        )
        for found in report.figures
    ]
    head = ("connections", "joined/s", "hub CPU %", "hub MiB", "kB each", "heartbeat p50 ms", "p99 ms")
    output.table(head, rows)
    return endings.DONE


@command.command(name="backlog")
@click.option("--count", "counts", type=click.IntRange(1), multiple=True, metavar="N", help="Repeatable: 1000, 10000.")
@click.option("--agents", type=click.IntRange(1), default=10, show_default=True, help="That take some of it.")
@click.option("--slots", type=click.IntRange(1, 1024), default=8, show_default=True, help="Of each agent.")
@click.option("--drain", type=click.IntRange(1), default=2_000, show_default=True, help="Tasks taken at each count.")
@click.option("--store", metavar="URL", default="", help="postgresql://...: a database instead of SQLite.")
@_common
def backlog(folder: str | None, as_json: bool, **asked: Any) -> int:  # noqa: FBT001 - click calls it
    """Measure what a long queue costs: memory, decisions, restarts."""
    from agentcom.bench.backlog import Queue, measure

    with _place(folder) as place:
        report = _run(lambda: measure(place, Queue(**_given(asked))))
    if as_json:
        output.say_json(report)
        return endings.DONE
    rows = [
        (
            f"{found.queued:,}",
            f"{found.submitted_per_s:,.0f}",
            f"{found.hub_pss_bytes / _MIB:,.0f}",
            f"{found.store_bytes / _MIB:,.0f}",
            f"{found.decision_us:.1f}",
            f"{found.taken_per_s:,.0f}",
            f"{found.restart_s:.2f}",
        )
        for found in report.figures
    ]
    head = ("queued", "submitted/s", "hub MiB", "store MiB", "decision us", "taken/s", "restart s")
    output.table(head, rows)
    return endings.DONE


@command.command(name="growth")
@click.option("--of", type=click.Choice(["queue", "agents", "history"]), multiple=True, help="What grows; repeatable.")
@click.option("--size", "sizes", type=click.IntRange(0), multiple=True, metavar="N", help="Repeatable: 1000, 10000.")
@click.option("--queue", type=click.IntRange(4), default=10_000, show_default=True, help="Queued tasks otherwise.")
@click.option("--agents", type=click.IntRange(1), default=10, show_default=True, help="Agents otherwise.")
@click.option("--history", type=click.IntRange(0), default=0, show_default=True, help="Finished tasks otherwise.")
@click.option("--drain", type=click.IntRange(1), default=5_000, show_default=True, help="Tasks added and taken.")
@_common
def growth(folder: str | None, as_json: bool, **asked: Any) -> int:  # noqa: FBT001 - click calls it
    """Measure what a task costs with more queued, more agents."""
    from agentcom.bench.growth import Growth, measure

    with _place(folder) as place:
        report = _run(lambda: measure(place, Growth(**_given(asked))))
    if as_json:
        output.say_json(report)
        return endings.DONE
    head = ("ready s", "hub MiB", "busy MiB", "list ms", "done ms", "explain ms", "submitted/s", "taken/s")
    for of in report.load.of:
        found = [figures for figures in report.figures if figures.of == of]
        most = max(figures.hub_cpu_us for figures in found) or 1.0
        rows = [(*_grown(figures), "#" * round(_BAR * figures.hub_cpu_us / most)) for figures in found]
        output.table((of, *head, "decision us", "hub us/task", ""), rows)
    return endings.DONE


def _grown(found: "GrowthFigures") -> tuple[str, ...]:
    return (
        f"{found.size:,}",
        f"{found.ready_s:.2f}",
        f"{found.hub_pss_bytes / _MIB:,.0f}",
        f"{found.busy_pss_bytes / _MIB:,.0f}",
        f"{found.list_ms:.1f}",
        f"{found.history_ms:.1f}",
        f"{found.explain_ms:.1f}",
        f"{found.submitted_per_s:,.0f}",
        f"{found.taken_per_s:,.0f}",
        f"{found.decision_us:.1f}",
        f"{found.hub_cpu_us:,.0f}",
    )


def _given(asked: dict[str, Any]) -> dict[str, Any]:
    """What was said; an option that may be repeated and was not given keeps its default."""
    return {name: value for name, value in asked.items() if value != ()}


@contextmanager
def _place(folder: str | None) -> Iterator[Path]:
    if folder is not None:
        place = Path(folder).absolute()
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise BadInput([Problem("--folder", f"cannot use {folder}: {exc.strerror}")], "command") from exc
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="agentcom-bench-") as name:
        yield Path(name)


def _run(measure: Callable[[], Awaitable[T]]) -> T:
    async def measured() -> T:
        return await measure()

    with suppress(ImportError):
        import uvloop

        return uvloop.run(measured())
    return asyncio.run(measured())


def _lines(report: "TasksReport") -> dict[str, str]:
    singles, idle, commits = report.singles, report.idle_round_trip_ms, report.commits
    serial = report.serial_round_trip_ms
    return {
        "disk": f"{report.disk.filesystem}, one fsync {_quantiles(report.disk.fsync_ms)}",
        "warning": "" if report.disk.is_durable else "this file system is in memory: nothing here is durable",
        "submitted": f"{_spread(report.submitted_per_s)} tasks/s, batches of {report.load.batch}",
        "ended": f"{_spread(report.ended_per_s)} tasks/s, results at the submitter",
        "processor": ", ".join(f"{who} {_spread(used)} us/task" for who, used in report.cpu_us_per_task.items()),
        "commits": f"{_spread(commits.per_s)} /s, {_spread(commits.changes_each)} changes each",
        "singles": ""
        if singles is None
        else f"{singles.submitted_per_s:,.0f} /s from {singles.callers} callers, {_quantiles(singles.answered_ms)}",
        "idle": "" if idle is None else f"round trip {_quantiles(idle)}",
        "one by one": "" if serial is None else f"round trip {_quantiles(serial)}",
        "memory": ", ".join(
            f"{who} {used['peak_rss_bytes'] / _MIB:.0f} MiB at most" for who, used in report.memory.items()
        ),
    }


def _spread(found: "Spread") -> str:
    return f"{found.median:,.0f} ({found.min:,.0f} to {found.max:,.0f})"


def _quantiles(found: "Quantiles") -> str:
    return f"p50 {found.p50:.2f} ms, p95 {found.p95:.2f} ms, p99 {found.p99:.2f} ms"
