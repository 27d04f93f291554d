"""``./run bench``: what the mesh does on this machine, beside the floor and other queues, and which goals it holds.

Everything runs in turns, round after round, so that a machine whose disk or neighbours change treats all alike; the
tables show medians and their ratios. What a crowd of sidecars, a long queue, a fleet that comes back and a command cost
is measured once after that. Machines differ: quote ratios. With the usual numbers it takes about a quarter of an hour.

Other queues are installed into ``.cache/bench`` from the package index, with their servers from the system's packages;
one that cannot be had here is named, and its rows say that they were not measured.

``./run bench placement TRACE...`` judges the scheduler in virtual time instead (``placement.py``); ``./run bench
sandbox`` says what confining a command costs (``confined.py``), and ``./run bench explained`` how long it takes to say
why a task for a model waits (``explained.py``), ``./run bench dashboard`` what the page costs in a browser
(``page.py``), ``./run bench metrics`` what Prometheus asks of a hub, and whether the counts are those of the log
(``scrape.py``), ``./run bench doors`` what strangers at the door cost the others (``doors.py``), ``./run bench writer``
what a task costs the writer's thread (``writer.py``); nothing else.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from agentcom.bench.probe import fsync_ms
from tests.bench import confined, doors, explained, goals, once, page, placement, scrape, writer
from tests.bench.contestants import CONTESTANTS, Contestant, Missing, prepare, run
from tests.support.postgres import PostgresServer

T = TypeVar("T")
EXPLAINED = 10_000
DURABLE = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "128MB"}
Figures = list[dict[str, Any]]


def main() -> int:
    """Measure and print; the exit status."""
    asked = _asked()
    words = [word for word in asked.only.split(",") if word]
    chosen = [c for c in CONTESTANTS if not words or any(word in c.name for word in words)]
    found, missing = _rounds(chosen, asked.rounds, asked.scale)
    if not asked.json:
        _print(chosen, found)  # now, so that whoever does not want to wait for the rest has it
    seen = goals.Once(
        crowd=_once(missing, asked.crowd, once.crowd, "idle sidecars"),
        queue=_once(missing, asked.queue, once.queue, "queued tasks"),
        back=_once(missing, asked.back, once.back, "sidecars that come back"),
        starts_ms=_once(missing, once.STARTS, lambda _count: once.starts_ms(), "starts of commands"),
        explained=_once(missing, EXPLAINED, explained.explained, "tasks for models that wait"),
        confined=_once(missing, confined.TURNS, confined.confined_ms, "confined commands"),
    )
    rows = goals.rows(chosen, found, seen)
    if asked.json:
        table = [row._asdict() for row in rows]
        print(json.dumps({"goals": table, "contestants": found, "once": seen._asdict(), "missing": missing}, indent=1))
        return 0
    print()
    held = {True: "yes", False: "no", None: ""}
    head = ("goal", "", "seen", "holds", "at the floor's pace there", "then")
    _align([head, *((r.what, r.goal, r.seen, held[r.holds], r.there, held[r.holds_there]) for r in rows)])
    for text in missing:
        print(f"not measured: {text}")
    if asked.growth:
        _curves(asked.growth)
    return 0


def _asked() -> argparse.Namespace:
    usual = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__, formatter_class=usual)
    parser.add_argument("--rounds", type=int, default=5, help="how often everyone runs (default 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual number of tasks (default 1)")
    parser.add_argument("--only", default="", metavar="WORDS", help="only those whose name has one of these, by comma")
    parser.add_argument("--crowd", type=int, default=5_000, help="idle sidecars (default 5000; 0: not measured)")
    parser.add_argument(
        "--queue", type=int, default=1_000_000, help="queued tasks (default a million; 0: not measured)"
    )
    parser.add_argument(
        "--back", type=int, default=2_000, help="sidecars that come back (default 2000; 0: not measured)"
    )
    parser.add_argument("--growth", default="", metavar="WORDS", help="curves too: queue, agents, history, by comma")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    return parser.parse_args()


def _once(missing: list[str], count: int, measure: Callable[[int], T], what: str) -> T | None:
    if not count:
        return None
    print(f"once: {count:,} {what}", file=sys.stderr)
    try:
        return measure(count)
    except once.Failed as exc:
        print(f"failed: {exc}", file=sys.stderr)
        missing.append(str(exc))
        return None


def _rounds(chosen: Sequence[Contestant], rounds: int, scale: float) -> tuple[dict[str, Figures], list[str]]:
    ready, missing = [], []
    for contestant in chosen if rounds else ():
        try:
            ready.append((contestant, *prepare(contestant)))
        except Missing as exc:
            missing.append(f"{contestant.name}: {exc}")
    found: dict[str, Figures] = {contestant.name: [] for contestant, _, _ in ready}
    for number in range(rounds):
        for contestant, python, env in ready:
            print(f"round {number + 1} of {rounds}: {contestant.name}", file=sys.stderr)
            try:
                found[contestant.name].append(_measured(contestant, python, env, round(contestant.tasks * scale)))
            except Missing as exc:
                missing.append(f"round {number + 1}: {exc}")
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


def _curves(kinds: str) -> None:
    flags = [part for kind in kinds.split(",") for part in ("--of", kind)]
    print("\nagentcom bench growth", flush=True)
    subprocess.run([sys.executable, "-m", "agentcom", "bench", "growth", *flags], check=False)


def _print(chosen: Sequence[Contestant], found: Mapping[str, Figures]) -> None:
    ours = _median(found.get(goals.OURS, []), "ended_per_s")
    lines = [
        ("", "D", "runs", "submitted/s", "ended/s", "min", "max", "idle p50", "CPU us/task", "fsync ms", "ours is")
    ]
    for contestant in chosen:
        runs = found.get(contestant.name, [])
        if not runs:
            continue
        rate = _median(runs, "ended_per_s")
        used = statistics.median(sum(run["cpu_us_per_task"].values()) for run in runs)
        idle = _median(runs, "idle_p50_ms")
        lines.append(
            (
                contestant.name,
                contestant.durability,
                str(len(runs)),
                f"{_median(runs, 'submitted_per_s'):,.0f}",
                f"{rate:,.0f}",
                f"{min(run['ended_per_s'] for run in runs):,.0f}",
                f"{max(run['ended_per_s'] for run in runs):,.0f}",
                f"{idle:.2f} ms" if idle else "",
                f"{used:,.0f}",
                f"{_median(runs, 'fsync_ms'):.2f}",
                f"{ours / rate:.2f} x" if ours and rate else "",
            )
        )
    _align(lines)
    sys.stdout.flush()


def _align(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    for line in lines:
        cells = [cell.ljust(widths[0]) if n == 0 else cell.rjust(widths[n]) for n, cell in enumerate(line)]
        print("  ".join(cells).rstrip())


def _median(runs: Figures, name: str) -> float:
    there = [run[name] for run in runs if run[name] is not None]
    return float(statistics.median(there)) if there else 0.0


if __name__ == "__main__":
    parts = {
        "placement": placement.main,
        "sandbox": confined.main,
        "explained": explained.main,
        "dashboard": page.main,
        "metrics": scrape.main,
        "doors": doors.main,
        "writer": writer.main,
    }
    part = parts.get("".join(sys.argv[1:2]))
    sys.exit(main() if part is None else part(sys.argv[2:]))
