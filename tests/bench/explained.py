"""``./run bench explained``: how long people wait to hear why a task waits, with many tasks for models before it.

Machines that have models are there and busy: each has taken a task and never ends it, so everything else waits. The
last task of the queue, with all others before it, is asked about again and again.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from msgspec.structs import replace

from agentcom.bench.light import LightFleet, LightSidecar
from agentcom.bench.processes import Mesh
from agentcom.bench.submitter import Submitter
from agentcom.transport import Transport
from protocol.api import PREFIX
from protocol.endpoints import EndpointKind, EndpointReport, ModelReport, Residency
from protocol.messages import Accept, Assign, Hello, Report

HOSTS: Final = 20
ASKED: Final = 60
MODELS: Final = tuple(f"model{number}:{size}b" for number, size in enumerate((3, 8, 8, 14, 14, 32, 32, 70)))
PRIORITIES: Final = ("urgent", "high", "normal", "low")


class Busy(LightSidecar):
    """A machine with models of which one is in memory; what it is given it never ends."""

    def hello(self) -> Hello:
        """See :class:`LightSidecar`."""
        number = int(self.name.rpartition("-")[2])
        here = [MODELS[(number + each) % len(MODELS)] for each in range(5)]
        models = tuple(
            ModelReport(name=name, residency=Residency.COLD if place else Residency.WARM, size_bytes=5 * 10**9)
            for place, name in enumerate(here)
        )
        endpoint = EndpointReport(
            id="ollama", kind=EndpointKind.OLLAMA, url="http://127.0.0.1:11434", local=True, models=models
        )
        return replace(
            super().hello(), host=self.name, capabilities=("executor:chat",), endpoints=(endpoint,), draining=False
        )

    def work(self, assign: Assign) -> Iterator[Accept | Report]:
        """It begins, and that is all."""
        yield Accept(attempt=assign.attempt)


def specs() -> list[dict[str, Any]]:
    """Work for each of the models, and for whichever, short and long, of all priorities."""
    made = []
    for number in range(160):
        words = "Say what this is about. " + "word " * (20 * 6 ** (number % 5))
        model = {"model": MODELS[number % len(MODELS)]} if number % 3 else {}
        kind = {"executor": "chat", "priority": PRIORITIES[number % 4], "complexity": "standard"}
        made.append({"prompt": f"{words}{number}", **kind, **model})
    return made


async def _measured(folder: Path, queued: int) -> dict[str, float]:
    async with Mesh(folder) as mesh, LightFleet(mesh.url, mesh.token("agent"), heartbeat_s=5.0, kind=Busy) as fleet:
        await fleet.join(HOSTS)
        submitter, transport = Submitter(mesh.url, mesh.token()), Transport(mesh.url, mesh.token(), patience_s=60.0)
        try:
            await submitter.fill(queued + HOSTS, 100, 2, specs())
            # Of those that are queued the newest of the lowest priority, which goes last.
            page = await transport.call("GET", f"{PREFIX}/tasks?state=queued&limit=500", dict)
            last = next(task["id"] for task in page["tasks"] if task["priority"] == PRIORITIES[-1])
            took_ms, before_s = [], mesh.cpu_s()["hub"]
            for _ in range(ASKED):
                began = perf_counter()
                said = await transport.call("GET", f"{PREFIX}/tasks/{last}/explain", dict)
                took_ms.append((perf_counter() - began) * 1000)
            cpu_ms = (mesh.cpu_s()["hub"] - before_s) / ASKED * 1000
        finally:
            await submitter.close()
            await transport.close()
    return {
        "queued": float(queued),
        "hosts": float(HOSTS),
        "position": float(said["position"]),
        "p50_ms": statistics.median(took_ms),
        "p90_ms": statistics.quantiles(took_ms, n=10)[-1],
        "cpu_ms": cpu_ms,
    }


def explained(queued: int) -> dict[str, float]:
    """Milliseconds until the answer, and of the hub's processor time for it, with so many tasks that wait."""
    with tempfile.TemporaryDirectory(prefix="agentcom-bench-") as folder:
        return asyncio.run(_measured(Path(folder), queued))


def main(arguments: Sequence[str]) -> int:
    """Print the figures; the exit status."""
    parser = argparse.ArgumentParser(prog="./run bench explained", description=__doc__)
    parser.add_argument("--queued", type=int, default=10_000, help="tasks that wait (default 10000)")
    found = explained(parser.parse_args(arguments).queued)
    print("  ".join(f"{name} {value:,.1f}" for name, value in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
