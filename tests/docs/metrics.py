"""The page of all metrics, made of what a hub tells Prometheus: a real one, wired as ever, that serves nobody."""

import asyncio
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from hub import families
from hub.assembly import assemble
from hub.clock import SystemClock
from hub.core.fleet import Fleet
from hub.gauges import Gauges
from hub.opening import opened, space_of, store_of, watch_of
from hub.probe import probe
from hub.settings import load
from hub.web import metrics
from protocol.machine import CpuReport, GpuReport, HostReport, SpaceReport
from tests.docs.source import REFERENCE, table

PAGE: Final = REFERENCE / "metrics.md"
_ENDS: Final = {"counter": "_total"}
_HEAD: Final = """# Metrics

Written from the code by `python -m tests.docs`; a test keeps them equal.

`GET /metrics`, for a token that may read ([how, and which figures the hub keeps itself](../operate/metrics.md)).
A counter only grows; a histogram `NAME` is told as `NAME_bucket{le}`, `NAME_sum` and `NAME_count`.

"""


def page() -> str:
    """The page as the code wants it."""
    found = asyncio.run(_all())
    rows = [
        (f"`{name}`", kind, ", ".join(f"`{label}`" for label in labels), text) for name, kind, labels, text in found
    ]
    return _HEAD + table(("metric", "type", "labels", "what it is"), rows)


async def _all() -> list[tuple[str, str, tuple[str, ...], str]]:
    """Name, type, labels and text of each."""
    with tempfile.TemporaryDirectory() as folder:
        collected = await _collected(Path(folder))
    written = [*_read(Gauges(_one_machine()).written().decode()), *_read(metrics.door(1, {"throttled": 1}))]
    found = [
        *((each, tuple(each._labelnames)) for each in collected),
        *((each, tuple(each.samples[0].labels)) for each in written),
    ]
    return sorted(
        (f"{each.name}{_ENDS.get(each.type, '')}", each.type, labels, each.documentation) for each, labels in found
    )


async def _collected(folder: Path) -> list[Metric]:
    """What the collector of a hub tells, also of what only the hub that leads does."""
    settings, _ = load({"data_dir": str(folder)}, env={})
    clock, space = SystemClock(), space_of(settings)
    store = store_of(settings, space)
    start = await opened(settings, store, clock, node="node", version="0")
    try:
        hub = assemble(
            *(store, start, settings),
            clock=clock,
            chance=Random(1),
            probe=probe,
            version="0",
            on_failure=lambda _: None,
            watch=watch_of(settings, store, clock, space),
        )
        leading = [families.tasks({}), *families.judged(()), families.alerts(())]
        told = {each.name: each for each in (*hub.metrics.collect(), *leading)}
        return list(told.values())
    finally:
        await store.close()


def _read(text: str) -> Iterable[Metric]:
    """What is written as text: each has a line, which names its labels."""
    return text_string_to_metric_families(text)


def _one_machine() -> Fleet:
    fleet = Fleet()
    agent = fleet.agent("one")
    space = SpaceReport(total_bytes=2, used_bytes=1)
    gpu = GpuReport(name="", vram_total_bytes=2, vram_used_bytes=1, utilization=1.0, temperature_c=1.0)
    at = datetime.fromtimestamp(0, UTC)
    agent.report = HostReport(cpu=CpuReport(percent=1.0, cores=1), ram=space, disk=space, gpus=(gpu,), at=at)
    agent.fire("join")
    return fleet
