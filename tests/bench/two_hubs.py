"""Two hubs on one database, a sidecar and half of the tasks at each; one line of JSON, as ``contestants.py`` reads it.

Every hub hears of the ends of its own half on its event stream, and both halves run at once.
"""

import argparse
import asyncio
import json
import shutil
import tempfile
from pathlib import Path
from typing import Final

from agentcom.bench.processes import Mesh
from agentcom.bench.statistics import us_each
from agentcom.bench.submitter import Submitter

SLOTS: Final = 512
BATCH: Final = 100
IN_FLIGHT: Final = 4
WARM_UP: Final = 1_000
TOKENS: Final = ("admin.token", "agent.token")


async def measure(folder: Path, tasks: int, store: str) -> dict[str, object]:
    """The figures of one run.

    Raises:
        WorkFailed: a process ended, or a task did.
    """
    for name in ("one", "two"):
        (folder / name).mkdir()
    async with Mesh(folder / "one", store=store) as one, Mesh(folder / "two", store=store) as two:
        for name in TOKENS:  # the tokens are the database's; only the hub that made them knows their words
            shutil.copy(one.data_dir / name, two.data_dir / name)
        meshes = (one, two)
        for mesh, sidecar in zip(meshes, ("first", "second"), strict=True):
            await mesh.start_sidecars(1, SLOTS, name=sidecar)
        submitters = [Submitter(mesh.url, mesh.token()) for mesh in meshes]
        try:
            for submitter in submitters:
                await submitter.listen()
            await _run(submitters, WARM_UP)
            used = [mesh.cpu_s() for mesh in meshes]
            began = asyncio.get_running_loop().time()
            await _run(submitters, tasks)
            took_s = asyncio.get_running_loop().time() - began
            each = [us_each(before, mesh.cpu_s(), tasks) for before, mesh in zip(used, meshes, strict=True)]
            for mesh in meshes:
                mesh.check()
        finally:
            for submitter in submitters:
                await submitter.close()
    roles = {who: each[0][who] + each[1][who] for who in ("hub", "sidecars")}
    return {
        "tasks": tasks,
        "submitted_per_s": tasks / took_s,
        "ended_per_s": tasks / took_s,
        "idle_p50_ms": None,
        "cpu_us_per_task": {**roles, "submitter": each[0]["submitter"]},
    }


async def _run(submitters: list[Submitter], tasks: int) -> None:
    await asyncio.gather(*(submitter.batches(tasks // 2, BATCH, IN_FLIGHT) for submitter in submitters))


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=5_000)
    parser.add_argument("--store", required=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="agentcom-bench-") as folder:
        print(json.dumps(asyncio.run(measure(Path(folder), asked.tasks, asked.store))))


if __name__ == "__main__":
    main()
