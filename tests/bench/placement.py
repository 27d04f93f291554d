"""``./run bench placement TRACE...``: what the scheduler is to be worth, on each trace and fleet, in one table.

Mean completion of ours over that of the other rules, p99 over the strongest of them, makespan over the bound, a second
run that must be the same, and what a verified result costs beside always asking a hosted model. A figure that misses
its goal has a ``!``; the exit status is then 1.

With several ``--seeds``, each of which draws other models for the same requests, every figure is the worst of them,
and the middle one stands below.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from hub.simulate import Checking, Report, simulate
from hub.simulate.checked import ALWAYS_HOSTED
from protocol.choice import LearningMode

FLEETS: Final = Path(__file__).parents[2] / "docs" / "examples" / "fleets"
RULES: Final = ("least_busy", "power_of_two", "earliest_completion")
GOAL: Final = {"least_busy": 0.8, "power_of_two": 0.8, "earliest_completion": 1.0}
"""Mean completion of ours over that of a rule, at most."""
MAKESPAN: Final = 1.15
BUSY: Final = 0.8
"""Above this load a makespan may be longer."""
HOSTED: Final = 0.6


class Figure(NamedTuple):
    """A number and the most that it may be."""

    value: float
    most: float

    @property
    def holds(self) -> bool:
        """Whether it is within its goal, but for rounding."""
        return self.value <= self.most + 1e-9

    def __str__(self) -> str:
        return f"{self.value:.2f}{'' if self.holds else '!'}"


def placed(fleet: Path, trace: Path, load: float | None, limit: int | None, seed: int = 1) -> dict[str, Figure]:
    """Ours beside other rules."""
    found = {rule: simulate(fleet, trace, rule, load=load, limit=limit, seed=seed) for rule in ("ours", *RULES)}
    ours, strongest = found["ours"], found["earliest_completion"]
    figures = {rule: Figure(ours.mean_completion_s / found[rule].mean_completion_s, GOAL[rule]) for rule in RULES}
    figures["p99"] = Figure(ours.p99_completion_s / strongest.p99_completion_s, 1.0)
    most = MAKESPAN if load is not None and load < BUSY else float("inf")
    figures["bound"] = Figure(ours.makespan_s / ours.lower_bound_s, most)
    again = simulate(fleet, trace, "ours", load=load, limit=limit, seed=seed)
    figures["again"] = Figure(float(again != ours), 0.0)
    return figures


def worst_and_middle(found: Sequence[dict[str, Figure]]) -> tuple[dict[str, Figure], dict[str, Figure]]:
    """Of the figures of several draws the largest of each, and the one in the middle (the upper of two)."""
    ordered = {name: sorted(each[name] for each in found) for name in found[0]}
    return (
        {name: figures[-1] for name, figures in ordered.items()},
        {name: figures[len(figures) // 2] for name, figures in ordered.items()},
    )


def verified(trace: Path, load: float | None, limit: int | None) -> Iterator[tuple[LearningMode, Figure, Figure]]:
    """What a verified result costs, and how many fewer there are, over always asking the hosted model."""

    def ran(policy: str, learning: LearningMode = LearningMode.SHADOW) -> Report:
        checking = Checking(learning=learning)
        return simulate(FLEETS / "checked.toml", trace, policy, load=load, limit=limit, checking=checking)

    always = ran(ALWAYS_HOSTED)
    for learning in (LearningMode.SHADOW, LearningMode.ON):
        ours = ran("ours", learning)
        each = (ours.usd_per_verified or 0.0) / (always.usd_per_verified or 1.0)
        most = HOSTED if learning is LearningMode.SHADOW else float("inf")  # switched on, time is worth money
        yield learning, Figure(each, most), Figure(always.verified_rate - ours.verified_rate, 0.0)


def main(arguments: Sequence[str]) -> int:
    """Print the tables; the exit status."""
    parser = argparse.ArgumentParser(prog="./run bench placement", description=__doc__)
    parser.add_argument("traces", nargs="+", type=Path, metavar="TRACE", help="CSV or JSON lines")
    parser.add_argument("--fleets", default="even,mixed,cold", help="names of files in docs/examples/fleets")
    parser.add_argument("--loads", default="0.5,0.7", help="shares of capacity; 0: as the requests came")
    parser.add_argument("--limit", type=int, help="only the first requests of each trace")
    parser.add_argument("--seeds", default="1", help="draws of the models, by comma")
    asked = parser.parse_args(arguments)
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    loads = [float(load) or None for load in asked.loads.split(",")]
    missed = 0
    print(f"{'trace':24} {'fleet':6} {'load':>4}  " + "  ".join(f"{name:>9.9}" for name in (*RULES, *_MORE)))
    for trace in asked.traces:
        for fleet in asked.fleets.split(","):
            for load in loads:
                found = [placed(FLEETS / f"{fleet}.toml", trace, load, asked.limit, seed) for seed in seeds]
                worst, middle = worst_and_middle(found)
                missed += sum(not figure.holds for figure in worst.values())
                print(f"{trace.name:24.24} {fleet:6} {load or 0:4.2f}  {_cells(worst)}", flush=True)
                if len(seeds) > 1:
                    print(f"{'':24} {'middle':6} {'':4}  {_cells(middle)}", flush=True)
    print(f"\n{'trace':24} {'load':>4}  learning  cost of a verified result  fewer verified")
    for trace in asked.traces:
        for load in loads:
            for learning, cost, fewer in verified(trace, load, asked.limit):
                missed += (not cost.holds) + (not fewer.holds)
                print(f"{trace.name:24.24} {load or 0:4.2f}  {learning:8}  {cost!s:>25}  {fewer!s:>14}", flush=True)
    return 1 if missed else 0


def _cells(figures: dict[str, Figure]) -> str:
    return "  ".join(f"{figures[name]!s:>9}" for name in (*RULES, *_MORE))


_MORE: Final = ("p99", "bound", "again")

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
