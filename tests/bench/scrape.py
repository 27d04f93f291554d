"""``./run bench metrics``: what Prometheus costs a hub with many agents, and whether the counts are those of the log.

A thousand light sidecars, each a machine with two GPUs, do ten thousand tasks that end in every way. Then the hub is
asked for its metrics again and again, and its log is read and counted anew, event by event.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import aiohttp

from agentcom.bench.light import LightFleet
from agentcom.bench.processes import Mesh
from agentcom.transport import Transport
from protocol.api import PREFIX
from tests.bench.goals import Row, most
from tests.support.recount import Moody, differences, told

SCRAPES: Final = 40
BATCH: Final = 500
PATIENCE_S: Final = 300.0
HEARTBEAT_S: Final = 10.0
MAY_FAIL: Final = {"title": "x", "executor": "noop", "max_retries": 1}


async def _measured(folder: Path, agents: int, tasks: int) -> dict[str, Any]:
    async with (
        Mesh(folder) as mesh,
        LightFleet(mesh.url, mesh.token("agent"), heartbeat_s=HEARTBEAT_S, kind=Moody) as fleet,
        aiohttp.ClientSession(mesh.url, headers={"Authorization": f"Bearer {mesh.token()}"}) as client,
    ):
        transport = Transport(mesh.url, mesh.token(), patience_s=60.0)
        try:
            await fleet.join(agents)
            for _ in range(tasks // BATCH):
                await transport.call("POST", f"{PREFIX}/tasks", dict, body={"tasks": [MAY_FAIL] * BATCH})
            await fleet.work(on=True)
            await _until_ended(client, tasks)
            await fleet.work(on=False)
            await asyncio.sleep(HEARTBEAT_S)  # every machine has told of itself
            found = await _scraped(client, mesh)
            text, events = await _logged(client, transport)
            fleet.check()
        finally:
            await transport.close()
    return {"agents": agents, "tasks": tasks, **found, "events": len(events), "differ": differences(text, events)}


async def _scrape(client: aiohttp.ClientSession) -> str:
    async with client.get("/metrics") as answer:
        return await answer.text()


async def _until_ended(client: aiohttp.ClientSession, tasks: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = told(await _scrape(client))
            if sum(value for (name, _), value in found.items() if name == "agentcom_tasks_ended_total") == tasks:
                return
            await asyncio.sleep(1.0)


async def _scraped(client: aiohttp.ClientSession, mesh: Mesh) -> dict[str, float]:
    took_ms, text, before_s, started = [], "", mesh.cpu_s()["hub"], perf_counter()
    for _ in range(SCRAPES):
        began = perf_counter()
        text = await _scrape(client)
        took_ms.append((perf_counter() - began) * 1000)
        await asyncio.sleep(0.1)
    after_s, all_s = mesh.cpu_s()["hub"], perf_counter() - started
    await asyncio.sleep(all_s)
    beside_s = mesh.cpu_s()["hub"] - after_s  # what heartbeats take in the same time
    cpu_ms = max(0.0, after_s - before_s - beside_s) / SCRAPES * 1000
    return {
        "size_bytes": len(text.encode()),
        "p50_ms": statistics.median(took_ms),
        "p90_ms": statistics.quantiles(took_ms, n=10)[-1],
        "cpu_ms": cpu_ms,
        "load": beside_s / all_s,
    }


async def _logged(client: aiohttp.ClientSession, transport: Transport) -> tuple[str, list[dict[str, Any]]]:
    """The metrics, and the log up to the event at which they were taken."""
    text = await _scrape(client)
    newest = told(text)["agentcom_newest_event", ()]
    events: list[dict[str, Any]] = []
    while not events or events[-1]["seq"] < newest:
        after = events[-1]["seq"] if events else 0
        page = await transport.call("GET", f"{PREFIX}/events?after={after}&limit=500", dict)
        events += page["events"]
    return text, [event for event in events if event["seq"] <= newest]


def scraped(agents: int, tasks: int) -> dict[str, Any]:
    """The figures; ``differ``: where metrics and log do not say the same."""
    with tempfile.TemporaryDirectory(prefix="agentcom-bench-") as folder:
        return asyncio.run(_measured(Path(folder), agents, tasks))


def rows(found: dict[str, Any]) -> list[Row]:
    """The goals, and what was seen of them."""
    size_mb = found["size_bytes"] / 1e6
    took = most(f"a scrape with {found['agents']:,} agents, ms", 50, found["p50_ms"], "{:.1f}")
    return [
        took._replace(seen=f"{took.seen} ({found['cpu_ms']:.1f} of processor time)"),
        most("  its size, MB", 1, size_mb, "{:.2f}"),
        most(f"counts that are not those of the log, {found['tasks']:,} tasks", 0, len(found["differ"]), "{:.0f}"),
    ]


def main(arguments: Sequence[str]) -> int:
    """Print the figures; the exit status."""
    parser = argparse.ArgumentParser(prog="./run bench metrics", description=__doc__)
    parser.add_argument("--agents", type=int, default=1_000, help="sidecars (default 1000)")
    parser.add_argument("--tasks", type=int, default=10_000, help="tasks (default 10000)")
    asked = parser.parse_args(arguments)
    found = scraped(asked.agents, asked.tasks)
    for row in rows(found):
        print(f"{row.what:<60}{row.goal:>14}{row.seen:>34}  {'yes' if row.holds else 'no'}")
    told_more = ("p90_ms", "cpu_ms", "load", "events")
    print("  ".join(f"{name} {found[name]:,.1f}" for name in told_more))
    for line in found["differ"]:
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
