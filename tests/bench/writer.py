"""``./run bench writer``: what the writer's thread of a hub spends on a task, in a loop around the store alone.

Each batch holds what three submissions need at once: one that comes in, the claims of the one before, and the ends of
the one before that. ``--beside`` lets a second thread work in Python meanwhile, as the hub's event loop does.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter, thread_time
from typing import Final, NamedTuple

import apsw

from hub.core.routing import Placement, encode_placement
from hub.store.changes import AddTasks, AnyChange, Claim, Finish, NewTask
from hub.store.migrate import migrate
from hub.store.plain import Plain
from hub.store.sqlite_file import connect
from hub.store.sqlite_statements import SqliteStatements, at_once
from hub.store.sqlite_transactions import LONG_LOG_PAGES
from protocol import codec, logs
from protocol.ids import IdMaker
from protocol.log_levels import LogLevel
from protocol.model import AttemptState, Strategy, TaskResult, TaskSpec, TaskState, Tier, TierDecision

BATCHES: Final = 150
WARM: Final = 20
TASKS: Final = 100
_CLASS: Final = '{"executor":"noop","strategies":["trivial"]}'
_SPEC: Final = codec.encode_spec(TaskSpec(title="bench", executor="noop"))
_TIER: Final = codec.encode_tier(
    TierDecision(explicit=None, inferred=Tier.TRIVIAL, effective=Tier.TRIVIAL, confidence=0.5, signals=("no model",))
)
_RESULT: Final = codec.kept_result(TaskResult(execution_ok=True, verified=None))
_TOLD: Final = {"execution_ok": True}
_WORDS: Final = json.dumps({"tasks": [{"title": "bench", "executor": "noop"}] * 20})


class Cost(NamedTuple):
    """A task of one batch, in us: processor time until it is committed, time that passes until all is written."""

    used_us: float
    written_us: float


def batches(now_ms: int) -> Iterator[list[AnyChange]]:
    """One batch after another."""
    make = IdMaker(random.getrandbits).make
    queued: list[str] = []
    held: list[str] = []
    while True:
        now_ms += 7
        fresh = [make(now_ms) for _ in range(TASKS)]
        claims, ends = [_claim(task, now_ms) for task in queued], [_end(task, now_ms) for task in held]
        yield [AddTasks(at_ms=now_ms, tasks=tuple(map(_new, fresh)), by="tok_bench"), *claims, *ends]
        queued, held = fresh, queued


def _new(task: str) -> NewTask:
    return NewTask(
        id=task, state=TaskState.QUEUED, class_text=_CLASS, priority=2, title="bench", labels={}, spec=_SPEC,
        tier=_TIER, max_retries=3, level="trivial",
    )  # fmt: skip


def _claim(task: str, now_ms: int) -> Claim:
    placed = Placement(strategy=Strategy.TRIVIAL, executor="noop", agent="a", reason="needs no model", at_ms=now_ms)
    return Claim(
        at_ms=now_ms,
        task=task,
        agent="a",
        host="h",
        boot=1,
        placement=encode_placement(placed),
        class_text=_CLASS,
        hub=1,
    )


def _end(task: str, now_ms: int) -> Finish:
    return Finish(
        at_ms=now_ms, task=task, epoch=1, attempt=AttemptState.PASSED, next=TaskState.COMPLETED, retries=0,
        infra_failures=0, result=_RESULT, execution_ok=True, facts=_TOLD, is_charged=False, accepts=True, hub=1,
    )  # fmt: skip


def measured(path: Path, count: int) -> list[Cost]:
    """What each of so many batches has cost, in the thread that calls; the log is copied between them, for nothing."""
    connection = connect(str(path), 10.0)
    migrate(connection)
    pages = [0]

    def grown(_connection: apsw.Connection, _database: str, now: int) -> int:
        pages[0] = now
        return apsw.SQLITE_OK

    connection.set_wal_hook(grown)
    verbs, found = Plain(SqliteStatements(connection)), []
    for _, batch in zip(range(WARM + count), batches(1_700_000_000_000), strict=False):
        if pages[0] >= LONG_LOG_PAGES:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        began, used_s = perf_counter(), thread_time()
        connection.execute("BEGIN IMMEDIATE")
        outcomes, _ = at_once(verbs.batch(batch))
        written_s = perf_counter() - began
        connection.execute("COMMIT")
        assert not any(isinstance(outcome, Exception) for outcome in outcomes), outcomes
        found.append(Cost((thread_time() - used_s) * 1e6 / TASKS, written_s * 1e6 / TASKS))
    connection.close()
    return found[WARM:]


def work(is_over: threading.Event) -> None:
    """Some Python, then a call of the system, again and again."""
    reading, writing = os.pipe()
    while not is_over.is_set():
        told = json.loads(_WORDS)
        os.write(writing, b"x" * min(len([task["title"] for task in told["tasks"] * 4]), 8))
        os.read(reading, 8)
    os.close(reading)
    os.close(writing)


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="./run bench writer", description=__doc__)
    parser.add_argument("--batches", type=int, default=BATCHES, help=f"of {TASKS} tasks each (default {BATCHES})")
    parser.add_argument("--beside", action="store_true", help="with a second thread that works in Python")
    parser.add_argument("--folder", default=None, help="where the store lies (default: where temporary files do)")
    asked = parser.parse_args(arguments)
    logs.configure(json=False, stream=sys.stderr, level=LogLevel.ERROR)
    is_over = threading.Event()
    with (
        tempfile.TemporaryDirectory(prefix="agentcom-bench-", dir=asked.folder) as folder,
        ThreadPoolExecutor(2) as pool,
    ):
        writer = pool.submit(measured, Path(folder) / "hub.sqlite", asked.batches)
        if asked.beside:
            pool.submit(work, is_over)
        try:
            costs = writer.result()
        finally:
            is_over.set()
    used = sorted(cost.used_us for cost in costs)
    print(f"processor time a task: {statistics.median(used):.1f} us, the best tenth {used[len(used) // 10]:.1f}")
    print(f"written after: {statistics.median(cost.written_us for cost in costs):.1f} us a task")
    return 0
