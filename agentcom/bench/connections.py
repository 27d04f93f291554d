"""``agentcom bench connections``: what idle sidecars with heartbeats cost the hub."""

import asyncio
import resource
from pathlib import Path
from typing import Final

from msgspec import Struct

from agentcom.bench.light import LightFleet
from agentcom.bench.processes import Mesh
from agentcom.bench.statistics import Quantiles, quantiles
from protocol.errors import BadInput, Problem

_SPARE_FILES: Final = 200
"""Open files of a process beside its connections."""


class Crowd(Struct, frozen=True, kw_only=True):
    """What to measure: ``counts`` of connections, one after the other, each watched for ``watch_s``."""

    counts: tuple[int, ...] = (100, 1_000)
    heartbeat_s: float = 15.0
    watch_s: float = 15.0


class CrowdFigures(Struct, frozen=True, kw_only=True):
    """The hub with so many connections."""

    connections: int
    joined_per_s: float
    """Connections opened, authorised, introduced and stored a second."""
    hub_cpu_percent: float
    """Of one core, while only heartbeats come."""
    hub_pss_bytes: int
    bytes_per_connection: int
    """What the hub's own memory has grown by since it had none, divided."""
    heartbeat_ms: Quantiles
    """From when a heartbeat was due to the hub's answer."""


class ConnectionsReport(Struct, frozen=True, kw_only=True):
    """What ``agentcom bench connections --json`` prints."""

    load: Crowd
    figures: tuple[CrowdFigures, ...]


async def measure(folder: Path, load: Crowd) -> ConnectionsReport:
    """Measure ``load`` with everything under ``folder``.

    Raises:
        BadInput: this system does not let a process hold so many connections.
        WorkFailed: the hub ended, or hung up.
    """
    _allow_files(max(load.counts) + _SPARE_FILES)
    flags = ("--heartbeat-s", str(load.heartbeat_s), "--lease-s", str(max(30.0, load.heartbeat_s * 4)))
    async with Mesh(folder, hub_flags=flags) as mesh:
        empty_bytes = mesh.memory()["hub"]["own_bytes"]
        found = []
        async with LightFleet(mesh.url, mesh.token("agent"), heartbeat_s=load.heartbeat_s) as fleet:
            for count in sorted(load.counts):
                joined_per_s = await fleet.join(count - len(fleet.sidecars))
                fleet.answered_ms.clear()
                used_s = mesh.cpu_s()["hub"]
                await asyncio.sleep(load.watch_s)
                used_s = mesh.cpu_s()["hub"] - used_s
                fleet.check()
                mesh.check()
                used = mesh.memory()["hub"]
                found.append(
                    CrowdFigures(
                        connections=count,
                        joined_per_s=round(joined_per_s, 1),
                        hub_cpu_percent=round(100 * used_s / load.watch_s, 2),
                        hub_pss_bytes=used["pss_bytes"],
                        bytes_per_connection=round((used["own_bytes"] - empty_bytes) / count),
                        heartbeat_ms=quantiles(fleet.answered_ms),
                    )
                )
    return ConnectionsReport(load=load, figures=tuple(found))


def _allow_files(count: int) -> None:
    """Let this process, and the hub that it starts, have so many files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        problem = f"{count - _SPARE_FILES:,} connections need {count:,} open files, and this system allows {hard:,}"
        raise BadInput([Problem("--count", problem)], "command")
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
