"""What the sandbox costs a command: the same one confined by each layer that this machine has, and not at all.

Commands of all kinds take turns, so that a machine whose neighbours change treats all alike; what counts is the middle
of each kind, less that of a command that nothing confines. ``./run bench sandbox`` measures nothing else.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from protocol import logs
from protocol.log_levels import LogLevel
from protocol.model import AttemptId
from sidecar.cache import make_empty
from sidecar.environment import minimal_env
from sidecar.process import Processes, become_subreaper
from sidecar.sandbox.cell import Cell, Level, Sandbox
from sidecar.sandbox.policy import Rules
from sidecar.workplace import Workspace
from tests.bench.once import Failed
from tests.support.levels import LEVELS, missing

TURNS: Final = 200
GOAL_MS: Final = 20.0
_WARM: Final = 5
"""Turns that do not count: what is read for the first time, or made once, is no part of a command."""


class Cost(NamedTuple):
    """Of a command, in milliseconds: what passes, and what the processor works for it, ours and its own."""

    wall_ms: float
    cpu_ms: float


def confined_ms(turns: int = TURNS) -> dict[str, Cost]:
    """What a command takes more than one that nothing confines, by layer; those that are not here are left out.

    In a process of its own: whoever counts what abandoned children have used has to adopt them, as a sidecar does.
    """
    command = [sys.executable, "-m", "tests.bench", "sandbox", "--json", "--turns", str(turns)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise Failed(f"./run bench sandbox failed: {done.stderr.strip()[-300:]}")
    return {level: Cost(**cost) for level, cost in json.loads(done.stdout).items()}


async def _measured(folder: Path, turns: int) -> dict[str, Cost]:
    processes = Processes(base_env=minimal_env(os.environ, home=folder), adopts_orphans=become_subreaper())
    cells, sandboxes = {}, []
    for number, level in enumerate((Level.UNSAFE, *(level for level in LEVELS if not missing(level))), 1):
        sandboxes.append((Sandbox(processes, folder / level, Rules()), AttemptId("box", 1, f"{number:026}", 1)))
        cells[level] = await _cell(*sandboxes[-1], folder / level, level)
    took: dict[Level, list[Cost]] = {level: [] for level in cells}
    try:
        for _ in range(_WARM + turns):
            for level, cell in cells.items():
                took[level].append(await _one(cell))
    finally:
        for sandbox, attempt in sandboxes:
            await processes.end_attempt(attempt)
            await sandbox.close(attempt)
    middle = {level: _middle(costs[_WARM:]) for level, costs in took.items()}
    bare = middle.pop(Level.UNSAFE)
    return {level.value: Cost(cost.wall_ms - bare.wall_ms, cost.cpu_ms - bare.cpu_ms) for level, cost in middle.items()}


async def _cell(sandbox: Sandbox, attempt: AttemptId, folder: Path, level: Level) -> Cell:
    """As an attempt gets it, with a repository whose parts are kept as they are."""
    folder.mkdir(exist_ok=True)
    found = await sandbox.find(level)
    assert found is level, sandbox.why
    opened = Workspace(folder / "work", "", "branch", False, attempt, folder / "alone.git", "", claim=-1)
    make_empty(opened.path, opened.git_dir, opened.branch)
    return sandbox.cell(attempt, opened.place(folder / "scratch" / "one"))


async def _one(cell: Cell) -> Cost:
    began, used_s = time.perf_counter(), _used_s()
    outcome = await cell.run(["true"], timeout_s=60.0)
    assert outcome.exit_code == 0, outcome.output
    return Cost((time.perf_counter() - began) * 1e3, (_used_s() - used_s) * 1e3)


def _used_s() -> float:
    """Processor time of this process and of all its children that have ended."""
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in spent)


def _middle(costs: Sequence[Cost]) -> Cost:
    return Cost(*(statistics.median(column) for column in zip(*costs, strict=True)))


def main(arguments: Sequence[str]) -> int:
    """Measure and print; the exit status says whether every layer keeps to the goal."""
    parser = argparse.ArgumentParser(prog="./run bench sandbox", description=__doc__)
    parser.add_argument("--turns", type=int, default=TURNS, help=f"commands of each kind (default {TURNS})")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    asked = parser.parse_args(arguments)
    logs.configure(json=False, stream=sys.stderr, level=LogLevel.ERROR)
    with tempfile.TemporaryDirectory(prefix="agentcom-bench-") as folder:
        found = asyncio.run(_measured(Path(folder), asked.turns))
    if asked.json:
        print(json.dumps({level: cost._asdict() for level, cost in found.items()}))
    else:
        for level, cost in found.items():
            print(f"{level}: {cost.wall_ms:.1f} ms more a command, {cost.cpu_ms:.1f} ms of processor time")
    return 0 if found and all(cost.wall_ms <= GOAL_MS for cost in found.values()) else 1
