"""``agentcom bench growth``: whether a task costs more in a hub that has more: queued tasks, agents, a past.

One thing grows at a time, over several sizes, and everything else stays as it is; each size is measured on a hub of its
own. A store is filled with copies of tasks that really were there (``hub/growth.py``), then the hub is started on it,
asked what people ask, given new tasks, and agents take some. A cost that does not grow is a flat curve.
"""

import asyncio
import random
import statistics
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from agentcom.bench.backlog import Taking, taken
from agentcom.bench.processes import Mesh
from agentcom.bench.submitter import Submitter
from agentcom.transport import Transport
from protocol.api import PREFIX
from protocol.errors import WorkFailed

QUEUE: Final = "queue"
AGENTS: Final = "agents"
HISTORY: Final = "history"
SIZES: Final[dict[str, tuple[int, ...]]] = {
    QUEUE: (1_000, 10_000, 100_000, 1_000_000),
    AGENTS: (1, 10, 100, 1_000),
    HISTORY: (0, 10_000, 100_000, 1_000_000),
}
"""What grows, and how far."""
_ASKED: Final = 9
"""Questions of a kind, of which the median counts."""
_EXPLAINED: Final = 40
"""Times that the hub is asked why a task waits, so that the slowest tenth is seen too."""
_SLOTS: Final = 1_000
"""Of all agents together: as much can be in hand whatever their number."""
_LOOK_S: Final = 0.5
_QUIET: Final = 0.1
"""A hub that takes less than this share of a core has nothing to do."""
_QUIET_BY_S: Final = 600.0
"""A million tasks take some seconds here, and minutes on a machine that has much else to do."""
_PRIORITIES: Final = ("urgent", "high", "normal", "low")


class Growth(Struct, frozen=True, kw_only=True):
    """What to measure: ``of`` grows, over ``sizes`` (as usual if there are none); the others are as said here."""

    of: tuple[str, ...] = tuple(SIZES)
    sizes: tuple[int, ...] = ()
    queue: int = 10_000
    agents: int = 10
    history: int = 0
    drain: int = 5_000


class GrowthFigures(Struct, frozen=True, kw_only=True):
    """A hub with so much of it."""

    of: str
    size: int
    ready_s: float
    """From the start of the process until it says that it is ready."""
    hub_pss_bytes: int
    """When it is ready."""
    busy_pss_bytes: int
    """When agents have worked."""
    list_ms: float
    """A page of queued tasks."""
    history_ms: float
    """A page of completed tasks."""
    explain_ms: float
    """Why the last of all queued tasks waits, with the whole queue before it."""
    explain_p90_ms: float
    explain_cpu_ms: float
    """Processor time of the hub for one such answer."""
    submitted_per_s: float
    decision_us: float
    hub_cpu_us: float
    """Everything that the hub does for a task from its assignment to its end."""
    taken_per_s: float


class GrowthReport(Struct, frozen=True, kw_only=True):
    """What ``agentcom bench growth --json`` prints."""

    load: Growth
    figures: tuple[GrowthFigures, ...]


async def measure(folder: Path, load: Growth) -> GrowthReport:
    """Measure ``load`` with everything under ``folder``.

    Raises:
        WorkFailed: the hub ended, or gave out no work.
    """
    found = []
    for of in load.of:
        for size in load.sizes or SIZES[of]:
            place = folder / f"{of}-{size}"
            place.mkdir()
            found.append(await _figures(place, replace(load, **{of: size}), of, size))
    return GrowthReport(load=load, figures=tuple(found))


async def _figures(place: Path, load: Growth, of: str, size: int) -> GrowthFigures:
    async with Mesh(place) as mesh:
        await _fill(mesh, load)
        ready_s = await mesh.start_hub()
        await _until_quiet(mesh)
        used_bytes = mesh.memory()["hub"]["pss_bytes"]
        submitter = Submitter(mesh.url, mesh.token())
        try:
            asked = await _asked(mesh)
            submitted_per_s = await submitter.fill(load.drain, 100, 4, _specs())
            slots = max(1, _SLOTS // load.agents)
            took: Taking = await taken(mesh, submitter, load.agents, slots, load.drain)
        finally:
            await submitter.close()
        mesh.check()
    return GrowthFigures(
        of=of,
        size=size,
        ready_s=round(ready_s, 3),
        hub_pss_bytes=used_bytes,
        busy_pss_bytes=took.hub_pss_bytes,
        submitted_per_s=submitted_per_s,
        decision_us=took.decision_us,
        hub_cpu_us=took.hub_cpu_us,
        taken_per_s=took.per_s,
        **asked,
    )


async def _until_quiet(mesh: Mesh) -> None:
    """Wait until the hub has nothing left to do: the copies came with events that it has never seen, and it counts all.

    Raises:
        WorkFailed: it always has something to do.
    """
    used_s, looks = mesh.cpu_s()["hub"], 0
    while True:
        await asyncio.sleep(_LOOK_S)
        before_s, used_s, looks = used_s, mesh.cpu_s()["hub"], looks + 1
        if used_s - before_s < _QUIET * _LOOK_S:
            return
        if looks * _LOOK_S > _QUIET_BY_S:
            raise WorkFailed(f"the hub is not idle {_QUIET_BY_S:g} s after its start")


def _specs() -> list[dict[str, Any]]:
    return [{"title": "bench", "executor": "noop", "priority": priority} for priority in _PRIORITIES]


async def _fill(mesh: Mesh, load: Growth) -> None:
    """Stop the hub with a store of that size."""
    from hub.growth import lengthen

    bits = random.Random(0).getrandbits
    submitter = Submitter(mesh.url, mesh.token())
    try:
        await submitter.fill(1, 1, 1, _specs())
        await taken(mesh, submitter, 1, 1, 1)
        await submitter.fill(len(_PRIORITIES), len(_PRIORITIES), 1, _specs())
    finally:
        await submitter.close()
    transport = Transport(mesh.url, mesh.token(), patience_s=30.0)
    try:
        done, queued = [await _ids(transport, state) for state in ("completed", "queued")]
    finally:
        await transport.close()
    await mesh.stop_hub()
    for tasks, count in ((done, load.history), (queued, load.queue - len(queued))):
        await asyncio.to_thread(lengthen, mesh.data_dir, tasks, max(0, count), bits)


async def _ids(transport: Transport, state: str) -> list[str]:
    answer = await transport.call("GET", f"{PREFIX}/tasks?state={state}", dict)
    return [task["id"] for task in answer["tasks"]]


async def _last(transport: Transport) -> str:
    """The task that goes last: of those of the lowest priority the newest."""
    answer = await transport.call("GET", f"{PREFIX}/tasks?state=queued", dict)
    return next(str(task["id"]) for task in answer["tasks"] if task["priority"] == _PRIORITIES[-1])


async def _took_ms(transport: Transport, path: str, times: int) -> list[float]:
    took_ms = []
    for _ in range(times):
        began = perf_counter()
        await transport.call("GET", path, dict)
        took_ms.append((perf_counter() - began) * 1000)
    return took_ms


async def _asked(mesh: Mesh) -> dict[str, float]:
    """Milliseconds until people have their answer."""
    transport = Transport(mesh.url, mesh.token(), patience_s=30.0)
    try:
        last = await _last(transport)
        paths = {
            "list_ms": f"{PREFIX}/tasks?state=queued",
            "history_ms": f"{PREFIX}/tasks?state=completed",
        }
        found = {name: statistics.median(await _took_ms(transport, path, _ASKED)) for name, path in paths.items()}
        before_s = mesh.cpu_s()["hub"]
        explained = await _took_ms(transport, f"{PREFIX}/tasks/{last}/explain", _EXPLAINED)
        found["explain_cpu_ms"] = (mesh.cpu_s()["hub"] - before_s) / _EXPLAINED * 1000
        found["explain_ms"] = statistics.median(explained)
        found["explain_p90_ms"] = statistics.quantiles(explained, n=10)[-1]
        return {name: round(value, 2) for name, value in found.items()}
    finally:
        await transport.close()
