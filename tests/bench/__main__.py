"""``./run bench [--tasks N] [--runs R] [--json]``: what the mesh does on this machine, right now.

Real hub and sidecar processes, the store on disk with full sync, tasks over HTTP. Machines are shared and disks differ
within minutes, so the cost of one fsync is measured in the same run and stands beside the figures. Quote medians.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tests.support.mesh import FINAL, Mesh, mesh

BATCH: Final = 100
PROBES: Final = 200


def main() -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("--tasks", type=int, default=5_000, help="no-op tasks a run (default 5000)")
    parser.add_argument("--runs", type=int, default=3, help="counted runs (default 3)")
    parser.add_argument("--slots", type=int, default=64, help="slots of the one sidecar (default 64)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="agentcom-bench-") as name:
        folder = Path(name)
        with mesh(folder, "Bench", flags=["--slots", str(options.slots)], lease_s=30.0, heartbeat_s=5.0) as running:
            figures = {
                "fsync_ms": _fsync(folder),
                "submit_to_start_shell_ms": _idle(running, {"command": "true"}, 50),
                "round_trip_noop_ms": _idle_round_trip(running, 100),
                **_throughput(running, options.tasks, options.runs),
            }
    _print(figures, as_json=options.json)
    return 0


def _fsync(folder: Path) -> list[float]:
    """One 4 KiB append and fsync, in milliseconds."""
    times = []
    with (folder / "probe").open("ab", buffering=0) as file:
        for _ in range(PROBES):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    return times


def _idle(running: Mesh, spec: dict[str, Any], count: int) -> list[float]:
    """From stored to accepted by the agent, on an idle fleet, in milliseconds (by the hub's clock)."""
    times = []
    for _ in range(count):
        [task] = running.wait(running.submit(**spec))
        times.append(_ms(task["started_at"]) - _ms(task["submitted_at"]))
    return times


def _idle_round_trip(running: Mesh, count: int) -> list[float]:
    """From before the submission to the result in the store, by the hub's clock for the end and ours for the start."""
    times = []
    for _ in range(count):
        began = time.time() * 1000
        [task] = running.wait(running.submit(title="x", executor="noop"))
        times.append(_ms(task["ended_at"]) - began)
    return times


def _throughput(running: Mesh, tasks: int, runs: int) -> dict[str, list[float]]:
    submit, whole = [], []
    specs = [{"title": "x", "executor": "noop"}] * BATCH
    for run in range(runs + 1):
        began = time.perf_counter()
        for _ in range(tasks // BATCH):
            last = running.submit_all(specs)[-1]
        submitted = time.perf_counter()
        _settle(running, lambda last=last: running.task(last)["state"] in FINAL)  # type: ignore[misc]  # bound now
        _settle(running, lambda: not sum(running.call("GET", "/api/v1/health")["queue"].values()))
        ended = time.perf_counter()
        if run:  # the first one warms up
            submit.append(tasks / (submitted - began))
            whole.append(tasks / (ended - began))
    return {"submitted_per_s": submit, "end_to_end_per_s": whole}


def _settle(_running: Mesh, is_settled: Callable[[], bool]) -> None:
    while not is_settled():
        time.sleep(0.005)


def _ms(at: str) -> float:
    return datetime.fromisoformat(at).timestamp() * 1000


def _print(figures: dict[str, list[float]], *, as_json: bool) -> None:
    rows = {
        name: {"min": min(values), "median": statistics.median(values), "max": max(values), "n": len(values)}
        for name, values in figures.items()
    }
    if as_json:
        json.dump(rows, sys.stdout, indent=1)
        print()
        return
    print(f"{'figure':<28}{'min':>12}{'median':>12}{'max':>12}{'n':>7}")
    for name, row in rows.items():
        print(f"{name:<28}{row['min']:>12.2f}{row['median']:>12.2f}{row['max']:>12.2f}{row['n']:>7.0f}")


if __name__ == "__main__":
    sys.exit(main())
