"""``python -m tests.simulation --seeds A:B``: run seeds, and show the smallest trace of what goes wrong.

The same seed does the same in every run, so a seed is all that a report needs. Exit status 1: something is broken.
"""

import argparse
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from tests.simulation.plan import make
from tests.simulation.plants import PLANTS
from tests.simulation.run import Outcome, run
from tests.simulation.shrink import shrink

CHUNK: Final = 20
SHOWN_LINES: Final = 120


@dataclass(slots=True)
class Total:
    """Figures of many seeds."""

    seeds: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failed: list[dict[str, Any]] = field(default_factory=list)
    trace: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    def add(self, found: dict[str, Any]) -> None:
        """Count one seed."""
        self.seeds += 1
        self.seconds += found["seconds"]
        self.counts.update({name: found["figures"][name] for name in ("tasks", "attempts", "pushes", "events")})
        self.trace.update(found["trace"].encode())
        if found["violations"]:
            self.failed.append(found)


def quiet() -> None:
    """No log lines: the trace tells more, in true time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


def one(seed: int, plant: str) -> dict[str, Any]:
    """A seed's outcome as plain data, without its lines."""
    quiet()
    outcome = run(make(seed), PLANTS[plant])
    return {
        "seed": seed,
        "violations": list(outcome.violations),
        "trace": outcome.trace,
        "seconds": outcome.seconds,
        "figures": outcome.figures,
    }


def main() -> int:
    """Run, print; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0:200", help="first seed, and the one behind the last (default 0:200)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--plant", choices=sorted(PLANTS), default="none", help="put this bug in; 1 is then good news")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--first", action="store_true", help="stop at the first seed that fails")
    parser.add_argument("--trace", action="store_true", help="print all that happened in each seed")
    parser.add_argument("--as-it-is", action="store_true", help="do not make what fails smaller")
    options = parser.parse_args()
    quiet()
    first, _, end = options.seeds.partition(":")
    seeds = range(int(first), int(end) if end else int(first) + 1)
    began = time.perf_counter()
    total = Total()
    for found in _run_all(seeds, options):
        total.add(found)
        if found["violations"] and options.first:
            break
    took_s = time.perf_counter() - began
    smallest = _smallest(total, options)
    if options.json:
        print(json.dumps(_as_data(total, took_s, smallest)))
    else:
        _print(total, took_s, smallest, options)
    return 1 if total.failed else 0


def _run_all(seeds: range, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    if options.jobs == 1:
        for seed in seeds:
            if options.trace:
                _print_lines(run(make(seed), PLANTS[options.plant]), everything=True)
            yield one(seed, options.plant)
        return
    with ProcessPoolExecutor(options.jobs, max_tasks_per_child=None) as pool:
        yield from pool.map(one, seeds, [options.plant] * len(seeds), chunksize=CHUNK)


def _smallest(total: Total, options: argparse.Namespace) -> Outcome | None:
    if not total.failed:
        return None
    plant = PLANTS[options.plant]
    failed = run(make(total.failed[0]["seed"]), plant)
    return failed if options.as_it_is else shrink(failed, plant)


def _as_data(total: Total, took_s: float, smallest: Outcome | None) -> dict[str, Any]:
    return {
        "seeds": total.seeds,
        "virtual_hours": round(total.seconds / 3600, 3),
        "took_s": round(took_s, 1),
        "trace": total.trace.hexdigest(),
        **total.counts,
        "violations": sum(len(found["violations"]) for found in total.failed),
        "failed": total.failed,
        "smallest": {
            "seed": smallest.plan.seed,
            "violations": smallest.violations,
            "faults": [str(fault) for fault in smallest.plan.faults],
            "lines": [f"{at:.3f} {who} {what}" for at, who, what in smallest.lines],
        }
        if smallest
        else None,
    }


def _print(total: Total, took_s: float, smallest: Outcome | None, options: argparse.Namespace) -> None:
    counted = ", ".join(f"{count} {name}" for name, count in total.counts.items())
    hours = total.seconds / 3600
    print(
        f"{total.seeds} seeds of {options.seeds}: {hours:.1f} virtual hours in {took_s:.0f} s, {counted};"
        f" {len(total.failed)} seeds with violations; trace {total.trace.hexdigest()}"
    )
    for found in total.failed[:20]:
        print(f"seed {found['seed']}: {found['violations'][0]}")
    if smallest is not None:
        _print_lines(smallest, everything=False)


def _print_lines(outcome: Outcome, *, everything: bool) -> None:
    plan = outcome.plan
    print(f"\nseed {plan.seed}, faults until {plan.seconds:.1f} s, {len(plan.seats)} sidecars, trace {outcome.trace}")
    for fault in plan.faults:
        print(f"  {fault}")
    lines = [line for line in outcome.lines if everything or _matters(line, outcome.violations)]
    for at, who, what in lines if everything else lines[-SHOWN_LINES:]:
        print(f"{at:10.3f}  {who:8} {what}")
    for violation in outcome.violations:
        print(f"VIOLATION  {violation}")
    if outcome.violations:
        print(f"\nreplay: python -m tests.simulation --seeds {plan.seed} --trace")


def _matters(line: tuple[float, str, str], violations: tuple[str, ...]) -> bool:
    """Leave out what is told of tasks that nothing is wrong with."""
    words = [word for word in line[2].split() if len(word) == 26 and word.startswith("01")]
    return not words or any(word in violation for word in words for violation in violations)


if __name__ == "__main__":
    sys.exit(main())
