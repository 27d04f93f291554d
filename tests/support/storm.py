"""A whole fleet comes back at once: its hub is killed and started again, and everybody wants in."""

import asyncio
import http.client
import math
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tests.support.fleet import LightFleet
from tests.support.mesh import Mesh

PATIENCE_S = 60.0


class Back(NamedTuple):
    """How a fleet came back.

    Attributes:
        after_s: seconds after which each sidecar was back, in order; below 0: before the hub said that it was ready.
        answered_s: the 99th of 100 answers that a person got meanwhile, in seconds.
        refused: how often the hub asked somebody to wait.
    """

    after_s: list[float]
    answered_s: float
    refused: int

    @property
    def peak(self) -> int:
        """Sidecars let in during the busiest second."""
        return max(Counter(math.floor(at) for at in self.after_s).values())

    @property
    def mean_per_s(self) -> float:
        """Sidecars let in a second, from the first to the last."""
        return len(self.after_s) / max(1e-9, self.after_s[-1] - self.after_s[0])


async def storm(folder: Path, sidecars: int) -> Back:
    """Kill the hub of so many sidecars, start it again, and ask it for tasks until all are back."""
    running = Mesh(folder, lease_s=30.0, heartbeat_s=5.0)
    await asyncio.to_thread(running.start_hub)
    fleet = LightFleet(running.url, running.token("agent"), sidecars)
    try:
        fleet.start()
        await fleet.until(lambda: fleet.online == sidecars, 120)
        running.kill(running.hub)
        await fleet.until(lambda: fleet.online == 0, 60)
        fleet.entered.clear()
        fleet.refused = 0
        await asyncio.to_thread(running.start_hub)
        began = time.monotonic()
        times: list[float] = []

        async def ask_all_the_time() -> None:
            while True:
                asked = time.monotonic()
                while not await asyncio.to_thread(_is_answered, running):  # noqa: ASYNC110 - a poll
                    await asyncio.sleep(0.02)
                times.append(time.monotonic() - asked)
                await asyncio.sleep(0.02)

        asking = asyncio.create_task(ask_all_the_time())
        await fleet.until(lambda: fleet.online == sidecars, 120)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        answered_s = sorted(times)[int(len(times) * 0.99)] if times else 0.0
        return Back([at - began for at in sorted(fleet.entered)], answered_s, fleet.refused)
    finally:
        await fleet.stop()
        await asyncio.to_thread(running.stop)


def _is_answered(mesh: Mesh) -> bool:
    line = http.client.HTTPConnection(mesh.url.removeprefix("http://"), timeout=PATIENCE_S)
    try:
        line.request("GET", "/api/v1/tasks", headers={"Authorization": f"Bearer {mesh.token()}"})
        answer = line.getresponse()
        answer.read()
        return answer.status == 200
    finally:
        line.close()
