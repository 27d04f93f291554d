"""The promises of hub and sidecars together, over many seeds; and that a seed is enough to see it again."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.plan import make
from tests.simulation.plants import PLANTS
from tests.simulation.run import run
from tests.simulation.shrink import kind_of, shrink

ROOT = Path(__file__).parents[2]
SEEDS = 80
PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_t50_whatever_breaks_nothing_is_lost_and_nothing_counts_twice(part: int) -> None:
    """T50: crashes, pauses, partitions, clock steps and disk faults; the history checker finds nothing."""
    broken = {}
    for seed in range(part, SEEDS, PARTS):
        outcome = run(make(seed))
        if outcome.violations:
            broken[seed] = outcome.violations

    assert broken == {}, "replay with: python -m tests.simulation --seeds N --trace"


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_t50_ten_thousand_seeds() -> None:
    """T50, the whole of it."""
    found = simulated("--seeds", "0:10000", "--jobs", str(os.cpu_count() or 1))

    assert found["failed"] == []
    assert found["seeds"] == 10_000


# --- a seed is a run --------------------------------------------------------------------------------------------------


def simulated(*options: str, hash_seed: str = "0") -> dict[str, Any]:
    """What the command says."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--json", *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr.decode()
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_seed_does_the_same_twice_in_one_process() -> None:
    first, between, second = run(make(7)), run(make(8)), run(make(7))

    assert first.trace == second.trace
    assert first.lines == second.lines
    assert first.trace != between.trace


def test_a_seed_does_the_same_in_every_process() -> None:
    one, other = simulated("--seeds", "0:6", hash_seed="1"), simulated("--seeds", "0:6", hash_seed="2")

    assert one["trace"] == other["trace"]
    assert (one["seeds"], one["violations"]) == (6, 0)


# --- the judge has teeth ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plant, seeds, broken",
    [
        ("early-ack", range(40), ""),
        ("no-inventory", range(40), "went on until"),
        ("no-key", range(40), "key"),
        ("requeue-after-cancel", range(40), "cancelled"),
    ],
)
def test_a_planted_bug_is_found_within_a_few_dozen_seeds(plant: str, seeds: range, broken: str) -> None:
    for seed in seeds:
        outcome = run(make(seed), PLANTS[plant])
        if outcome.violations:
            break

    assert outcome.violations, f"{plant} was not found in {seeds}"
    assert any(broken in violation for violation in outcome.violations)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("plant", sorted(PLANTS.keys() - {"none"}))
def test_every_planted_bug_is_found_within_500_seeds(plant: str) -> None:
    found = simulated("--seeds", "0:500", "--plant", plant, "--first", "--as-it-is")

    assert found["violations"] > 0


def test_a_failing_plan_is_made_smaller_and_still_fails_in_the_same_way() -> None:
    failed = next(found for seed in range(40) if (found := run(make(seed), PLANTS["no-key"])).violations)
    smallest = shrink(failed, PLANTS["no-key"], most_runs=20)

    assert len(smallest.plan.faults) <= len(failed.plan.faults)
    assert {kind_of(each) for each in smallest.violations} & {kind_of(each) for each in failed.violations}
    assert smallest.lines != failed.lines
