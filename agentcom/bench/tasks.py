"""``agentcom bench tasks``: no-op tasks through a real hub, real sidecars and a store on disk, and back.

After a warm-up: runs of batches as fast as they go, single submissions from many callers, and tasks one by one through
an idle mesh. The phases run on the same processes, with the settings that everybody gets.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from agentcom.bench import exposition
from agentcom.bench.probe import Disk, disk, fsync_ms
from agentcom.bench.processes import Mesh
from agentcom.bench.statistics import Quantiles, Spread, quantiles, spread, spreads, us_each
from agentcom.bench.submitter import Rates, Submitter
from protocol.errors import WorkFailed

WARM_UP: Final = 1_000
IDLE_PER_S: Final = 20.0
SERIAL: Final = 5
"""So many tasks one after another for each that comes rarely: they take no time, and their 99th of 100 counts."""
COMMITS: Final = "agentcom_store_commits_total"
CHANGES: Final = "agentcom_store_changes_total"
SIZES: Final = "agentcom_store_batch_changes_bucket"


class Load(Struct, frozen=True, kw_only=True):
    """What to measure.

    Attributes:
        count: tasks in one run of batches; ``runs`` of them are counted.
        sidecars, slots: sidecar processes, and attempts that each holds at a time.
        batch, in_flight: tasks in one request, and requests at a time.
        callers: for single submissions, each waiting for its answer; they submit ``count`` tasks together.
        idle: tasks through an idle mesh, :data:`IDLE_PER_S` a second, and :data:`SERIAL` times as many each after the
            end of the one before.
        store: ``postgresql://...``; empty for SQLite.
    """

    count: int = 10_000
    runs: int = 3
    sidecars: int = 1
    slots: int = 1024
    batch: int = 100
    in_flight: int = 8
    callers: int = 64
    idle: int = 100
    store: str = ""


class Commits(Struct, frozen=True, kw_only=True):
    """How the store wrote the runs of batches: changes by transaction, and transactions by their size."""

    per_s: Spread
    tasks_each: Spread
    changes_each: Spread
    sizes: dict[str, int]
    """Transactions with at most so many changes (and more than the size before)."""


class Singles(Struct, frozen=True, kw_only=True):
    """Tasks submitted one a request."""

    callers: int
    submitted_per_s: float
    answered_ms: Quantiles


class TasksReport(Struct, frozen=True, kw_only=True):
    """What ``agentcom bench tasks --json`` prints; names end in their unit."""

    load: Load
    store: str
    disk: Disk
    submitted_per_s: Spread
    ended_per_s: Spread
    cpu_us_per_task: dict[str, Spread]
    commits: Commits
    singles: Singles | None
    idle_round_trip_ms: Quantiles | None
    """From when a task was due; so rare that nothing of the mesh is in the processor's caches any more."""
    serial_round_trip_ms: Quantiles | None
    """Each from the end of the one before: as other queues are measured."""
    memory: dict[str, dict[str, int]]
    ends: dict[str, int]
    """How all tasks ended, as the submitter heard of them."""


class _Run(Struct, frozen=True):
    rates: Rates
    cpu_us: dict[str, float]
    commits_per_s: float
    tasks_each: float
    changes_each: float


async def measure(folder: Path, load: Load) -> TasksReport:
    """Measure ``load`` with everything under ``folder``, which is there.

    Raises:
        WorkFailed: a process ended, or a task did not complete.
    """
    before = fsync_ms(folder)
    async with Mesh(folder, store=load.store) as mesh:
        await mesh.start_sidecars(load.sidecars, load.slots)
        submitter = Submitter(mesh.url, mesh.token())
        try:
            await submitter.listen()
            return await _measured(mesh, submitter, load, disk_before=before)
        finally:
            await submitter.close()


async def _measured(mesh: Mesh, submitter: Submitter, load: Load, *, disk_before: Quantiles) -> TasksReport:
    warm_up = min(load.count, WARM_UP)
    await submitter.batches(warm_up, load.batch, load.in_flight)
    counted = await submitter.numbers()
    runs = [await _run(mesh, submitter, load) for _ in range(load.runs)]
    sizes = exposition.by_label(counted, await submitter.numbers(), SIZES)
    singles = None
    if load.callers:
        per_s, took_ms = await submitter.singles(load.count, load.callers)
        singles = Singles(callers=load.callers, submitted_per_s=per_s, answered_ms=quantiles(took_ms))
    idle = quantiles(await submitter.round_trips_ms(load.idle, IDLE_PER_S)) if load.idle else None
    serial = quantiles(await submitter.one_after_another_ms(SERIAL * load.idle)) if load.idle else None
    mesh.check()
    asked = warm_up + load.count * (load.runs + (1 if load.callers else 0)) + (1 + SERIAL) * load.idle
    if submitter.ends != {"completed": asked}:
        raise WorkFailed(f"{asked:,} tasks were submitted, and they ended so: {dict(submitter.ends)}")
    return TasksReport(
        load=load,
        store="postgresql" if load.store else "sqlite",
        disk=disk(mesh.folder, disk_before),
        submitted_per_s=spread([run.rates.submitted_per_s for run in runs]),
        ended_per_s=spread([run.rates.ended_per_s for run in runs]),
        cpu_us_per_task=spreads([run.cpu_us for run in runs]),
        commits=_commits(runs, sizes),
        singles=singles,
        idle_round_trip_ms=idle,
        serial_round_trip_ms=serial,
        memory=mesh.memory(),
        ends=dict(submitter.ends),
    )


async def _run(mesh: Mesh, submitter: Submitter, load: Load) -> _Run:
    counted, used = await submitter.numbers(), mesh.cpu_s()
    rates = await submitter.batches(load.count, load.batch, load.in_flight)
    now_used, now = mesh.cpu_s(), await submitter.numbers()
    commits = max(1.0, exposition.grown(counted, now, COMMITS))
    return _Run(
        rates,
        us_each(used, now_used, load.count),
        commits * rates.ended_per_s / load.count,
        load.count / commits,
        exposition.grown(counted, now, CHANGES) / commits,
    )


def _commits(runs: Sequence[_Run], up_to: dict[str, float]) -> Commits:
    sizes: dict[str, int] = {}
    below = 0.0
    for size, count in up_to.items():
        if count > below and size != "+Inf":
            sizes[size] = int(count - below)
            below = count
    return Commits(
        per_s=spread([run.commits_per_s for run in runs]),
        tasks_each=spread([run.tasks_each for run in runs]),
        changes_each=spread([run.changes_each for run in runs]),
        sizes=sizes,
    )
