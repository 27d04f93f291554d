"""``agentcom bench backlog``: what a long queue costs: memory, the time of a decision, the time of a restart.

The queue is filled while no agent is there. Then light sidecars come and take some of it, which shows what one decision
costs and how fast work leaves at that length; then the hub is started anew.
"""

import asyncio
from pathlib import Path
from typing import Final

from msgspec import Struct

from agentcom.bench import exposition
from agentcom.bench.light import LightFleet
from agentcom.bench.processes import Mesh
from agentcom.bench.submitter import Submitter
from protocol.errors import WorkFailed

CLAIMS: Final = "agentcom_claims_total"
PLANNING_S: Final = "agentcom_planning_seconds_total"
HELD: Final = "agentcom_attempts_held"
STALL_S: Final = 60.0
_LOOK_S: Final = 0.02
_PRIORITIES: Final = ("urgent", "high", "normal", "low")


class Queue(Struct, frozen=True, kw_only=True):
    """What to measure.

    Attributes:
        counts: lengths of the queue, one after the other.
        agents, slots: light sidecars, and attempts that each holds at a time.
        drain: tasks to be taken at each length.
    """

    counts: tuple[int, ...] = (1_000, 10_000)
    agents: int = 10
    slots: int = 8
    drain: int = 2_000
    batch: int = 500
    in_flight: int = 4
    store: str = ""


class Taking(Struct, frozen=True, kw_only=True):
    """Agents took tasks: a decision, everything that the hub did for a task, and its memory then."""

    decision_us: float
    hub_cpu_us: float
    per_s: float
    hub_pss_bytes: int


class QueueFigures(Struct, frozen=True, kw_only=True):
    """The hub with so many tasks queued."""

    queued: int
    submitted_per_s: float
    """While the queue grew to this length."""
    hub_pss_bytes: int
    store_bytes: int
    decision_us: float
    """Choosing an agent for one task, and everything that the hub does about it before the commit."""
    taken_per_s: float
    """Tasks given to agents, done and stored a second."""
    restart_s: float
    """From the start of the process until it says that it is ready."""


class BacklogReport(Struct, frozen=True, kw_only=True):
    """What ``agentcom bench backlog --json`` prints."""

    load: Queue
    figures: tuple[QueueFigures, ...]


async def measure(folder: Path, load: Queue) -> BacklogReport:
    """Measure ``load`` with everything under ``folder``.

    Raises:
        WorkFailed: the hub ended, or gave out no work.
    """
    found = []
    async with Mesh(folder, store=load.store) as mesh:
        queued = 0
        for count in sorted(load.counts):
            found.append(await _figures(mesh, load, queued, count))
            queued = count - min(load.drain, count)
    return BacklogReport(load=load, figures=tuple(found))


async def _figures(mesh: Mesh, load: Queue, queued: int, count: int) -> QueueFigures:
    submitter = Submitter(mesh.url, mesh.token())
    specs = [{"title": "bench", "executor": "noop", "priority": priority} for priority in _PRIORITIES]
    try:
        submitted_per_s = await submitter.fill(count - queued, load.batch, load.in_flight, specs)
        used_bytes = mesh.memory()["hub"]["pss_bytes"]
        took = await taken(mesh, submitter, load.agents, load.slots, min(load.drain, count))
    finally:
        await submitter.close()
    mesh.check()
    await mesh.stop_hub()
    stored = sum(path.stat().st_size for path in mesh.data_dir.iterdir() if path.is_file())
    return QueueFigures(
        queued=count,
        submitted_per_s=submitted_per_s,
        hub_pss_bytes=used_bytes,
        store_bytes=stored,
        decision_us=took.decision_us,
        taken_per_s=took.per_s,
        restart_s=round(await mesh.start_hub(), 3),
    )


async def taken(mesh: Mesh, submitter: Submitter, agents: int, slots: int, count: int) -> Taking:
    """Let agents take ``count`` tasks or a few more, and end them; measured from a quarter on, when they are at work.

    Raises:
        WorkFailed: no work is given out.
    """
    async with LightFleet(mesh.url, mesh.token("agent"), heartbeat_s=15.0, slots=slots) as fleet:
        await fleet.join(agents)
        await fleet.work(on=True)
        await _until_taken(fleet, count // 4)
        before, used_s = await submitter.numbers(), mesh.cpu_s()["hub"]
        began, had = asyncio.get_running_loop().time(), fleet.taken
        await _until_taken(fleet, count)
        taken_per_s = (fleet.taken - had) / max(_LOOK_S, asyncio.get_running_loop().time() - began)
        after, used_s = await submitter.numbers(), mesh.cpu_s()["hub"] - used_s
        pss_bytes = mesh.memory()["hub"]["pss_bytes"]
        await fleet.work(on=False)
        await _settled(submitter)
    claims = max(1.0, exposition.grown(before, after, CLAIMS))
    return Taking(
        decision_us=round(exposition.grown(before, after, PLANNING_S) * 1e6 / claims, 2),
        hub_cpu_us=round(used_s * 1e6 / claims, 1),
        per_s=round(taken_per_s, 1),
        hub_pss_bytes=pss_bytes,
    )


async def _until_taken(fleet: LightFleet, count: int) -> None:
    loop = asyncio.get_running_loop()
    moved_at, seen = loop.time(), fleet.taken
    while fleet.taken < count:
        await asyncio.sleep(_LOOK_S)
        fleet.check()
        if fleet.taken != seen:
            moved_at, seen = loop.time(), fleet.taken
        if loop.time() - moved_at > STALL_S:
            raise WorkFailed(f"no task was given out for {STALL_S:g} s, though {count - fleet.taken:,} wait")


async def _settled(submitter: Submitter) -> exposition.Samples:
    """What the hub has counted when no agent holds anything any more."""
    while True:
        counted = await submitter.numbers()
        if not counted[HELD, ""]:
            return counted
        await asyncio.sleep(_LOOK_S)
