"""``./run bench``: what the mesh does on this machine, beside the floor and other queues.

Everything runs in turns, round after round, so that a machine whose disk or neighbours change treats all alike; the
table shows medians and their ratios. What a fleet and a long queue cost is measured once after that
(``agentcom bench connections``, ``backlog``, and over more and more of each ``growth``). Machines differ: quote ratios.

``./run bench placement TRACE...`` judges the scheduler in virtual time instead (``placement.py``).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentcom.bench.probe import fsync_ms
from tests.bench import placement
from tests.bench.contestants import CONTESTANTS, Contestant, Missing, prepare, run
from tests.support.postgres import PostgresServer

DURABLE = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "128MB"}
Figures = list[dict[str, Any]]


def main() -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often everyone runs (default 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual number of tasks (default 1)")
    parser.add_argument("--only", default="", metavar="WORDS", help="only those whose name has one of these, by comma")
    parser.add_argument("--crowd", default="100,1000", help="connections to measure; empty: none")
    parser.add_argument("--queue", default="1000,10000,100000", help="queue lengths to measure; empty: none")
    parser.add_argument("--growth", default="queue,agents,history", help="what is to grow; empty: nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    asked = parser.parse_args()
    words = [word for word in asked.only.split(",") if word]
    chosen = [c for c in CONTESTANTS if not words or any(word in c.name for word in words)]
    found, missing = _rounds(chosen, asked.rounds, asked.scale)
    asked_for = {"connections": ("--count", asked.crowd), "backlog": ("--count", asked.queue)}
    asked_for["growth"] = ("--of", asked.growth)
    more = {kind: _more(kind, flag, values) for kind, (flag, values) in asked_for.items()}
    if asked.json:
        print(json.dumps({"contestants": found, "missing": missing, **more}, indent=1))
        return 0
    _print(chosen, found)
    for text in missing:
        print(f"not measured: {text}")
    for kind, text in more.items():
        if text:
            print(f"\nagentcom bench {kind}\n{text}", end="")
    return 0


def _rounds(chosen: Sequence[Contestant], rounds: int, scale: float) -> tuple[dict[str, Figures], list[str]]:
    ready, missing = [], []
    for contestant in chosen:
        try:
            ready.append((contestant, *prepare(contestant)))
        except Missing as exc:
            missing.append(str(exc))
    found: dict[str, Figures] = {contestant.name: [] for contestant, _, _ in ready}
    for number in range(rounds):
        for contestant, python, env in ready:
            print(f"round {number + 1} of {rounds}: {contestant.name}", file=sys.stderr)
            try:
                found[contestant.name].append(_measured(contestant, python, env, round(contestant.tasks * scale)))
            except Missing as exc:
                missing.append(str(exc))
    return found, missing


def _measured(contestant: Contestant, python: str, env: dict[str, str], tasks: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="agentcom-bench-") as folder:
        probe = {"fsync_ms": fsync_ms(Path(folder)).p50}
    if not contestant.needs_postgres:
        return run(contestant, python, env, tasks, "") | probe
    server = PostgresServer(DURABLE)
    try:
        return run(contestant, python, env, tasks, server.url()) | probe
    finally:
        server.destroy()


def _more(kind: str, flag: str, values: str) -> str:
    if not values:
        return ""
    flags = [part for value in values.split(",") for part in (flag, value)]
    command = [sys.executable, "-m", "agentcom", "bench", kind, *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout or f"failed with status {done.returncode}\n"


def _print(chosen: Sequence[Contestant], found: Mapping[str, Figures]) -> None:
    ours = _median(found.get("agentcom", []), "ended_per_s")
    head = (
        "",
        "D",
        "runs",
        "submitted/s",
        "ended/s",
        "min",
        "max",
        "idle p50 ms",
        "CPU us/task",
        "fsync ms",
        "ours is",
    )
    lines = [head]
    for contestant in chosen:
        runs = found.get(contestant.name, [])
        if not runs:
            continue
        rate = _median(runs, "ended_per_s")
        used = statistics.median(sum(run["cpu_us_per_task"].values()) for run in runs)
        lines.append(
            (
                contestant.name,
                contestant.durability,
                str(len(runs)),
                f"{_median(runs, 'submitted_per_s'):,.0f}",
                f"{rate:,.0f}",
                f"{min(run['ended_per_s'] for run in runs):,.0f}",
                f"{max(run['ended_per_s'] for run in runs):,.0f}",
                f"{_median(runs, 'idle_p50_ms'):.2f}",
                f"{used:,.0f}",
                f"{_median(runs, 'fsync_ms'):.2f}",
                f"{ours / rate:.2f} x" if ours and rate else "",
            )
        )
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    for line in lines:
        print("  ".join(cell.ljust(widths[0]) if n == 0 else cell.rjust(widths[n]) for n, cell in enumerate(line)))


def _median(runs: Figures, name: str) -> float:
    return float(statistics.median(run[name] for run in runs)) if runs else 0.0


if __name__ == "__main__":
    sys.exit(placement.main(sys.argv[2:]) if sys.argv[1:2] == ["placement"] else main())
