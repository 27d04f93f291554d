"""Rows T1, T6 and T8: the hub dies, stands still or is away, and what it has acknowledged is done, once."""

import random
import signal
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.crowd import Crowd
from tests.support.history import assert_nothing_lost, wait_ended
from tests.support.mesh import Mesh, mesh, until

BATCH = 1_000


def ordinary(chance: random.Random) -> dict[str, Any]:
    """Mostly work of nothing, which loads the hub and not the machine; now and then a process."""
    if chance.random() < 0.02:
        return {"command": "sleep 0.2"}
    return {"title": "x", "executor": "noop", "priority": chance.choice(("urgent", "high", "normal", "low"))}


def fill(running: Mesh, count: int) -> list[str]:
    """Tasks that wait for a machine that nobody has."""
    queued: list[str] = []
    while len(queued) < count:
        size = min(BATCH, count - len(queued))
        queued += running.submit_all([{"title": "x", "executor": "noop", "needs": ["nowhere"]}] * size)
    return queued


def kill_again_and_again(folder: Path, *, kills: int, tasks: int, queued: int, seed: int) -> None:
    chance = random.Random(seed)
    with mesh(folder, "One", "Two", flags=("--slots", "16"), lease_s=10.0, heartbeat_s=1.0) as running:
        idle = fill(running, queued)
        crowd = Crowd(running, ordinary, seed=seed)
        restarts = []
        crowd.order(tasks)
        for number in range(kills):
            crowd.reach(int((number + chance.random()) * tasks / kills))
            time.sleep(chance.uniform(0.0, 0.05))  # the moment of the kill is the fault, not a wait for something
            running.kill(running.hub)
            restarts.append(running.start_hub())
        acknowledged = crowd.finish(timeout_s=300)
        wait_ended(running, acknowledged, timeout_s=600)
        history = assert_nothing_lost(running, acknowledged, idle=idle)

    print(
        f"\nT1: {kills} kills, {queued} queued: {history}; {crowd.retries} requests sent again,"
        f" {crowd.replayed} of them were stored already; ready again in {statistics.median(restarts):.2f} s"
        f" (median), {max(restarts):.2f} s (longest)"
    )
    assert len(acknowledged) == tasks
    assert history.states == {"completed": tasks}
    assert history.accepted == tasks


def test_t01_a_hub_that_is_killed_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """kill -9 of the hub at random moments under load: every acknowledged task completes, one attempt accepted."""
    kill_again_and_again(tmp_path, kills=5, tasks=1_000, queued=1_000, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_t01_fifty_kills_twenty_thousand_tasks_and_a_hundred_thousand_queued(tmp_path: Path) -> None:
    """As above at full count, with a queue that has to be found again at every start."""
    kill_again_and_again(tmp_path, kills=50, tasks=20_000, queued=100_000, seed=2)


def at_work(running: Mesh, folder: Path, seconds: Sequence[float]) -> list[str]:
    """One process for each of these numbers of seconds, all of them running; each leaves a file when it is done."""
    folder.mkdir()
    command = "sleep {}; touch {}/$AGENTCOM_TASK"
    tasks = running.submit_all([{"command": command.format(length, folder)} for length in seconds])
    for task in tasks:
        running.wait_state(task, "running", "completed", timeout_s=120)
    return tasks


def stand_still(folder: Path, *, tasks: int, work_s: float, pause_s: float, lease_s: float) -> list[dict[str, Any]]:
    """Tasks of ``work_s`` seconds, of which the hub sleeps through ``pause_s``; the tasks at the end."""
    names = ("One", "Two", "Three", "Four")
    slots = ("--slots", str(-(-tasks // len(names))))
    with mesh(folder, *names, flags=slots, lease_s=lease_s, heartbeat_s=1.0) as running:
        acknowledged = at_work(running, folder / "done", [work_s] * tasks)
        assert running.hub is not None
        running.hub.send_signal(signal.SIGSTOP)
        time.sleep(pause_s)  # the length of the pause is the fault
        running.hub.send_signal(signal.SIGCONT)
        wait_ended(running, acknowledged, timeout_s=120 + 10 * work_s)
        history = assert_nothing_lost(running, acknowledged)
        found = [running.task(task) for task in acknowledged]
    print(f"\nT6: the hub stood still for {pause_s:g} s with leases of {lease_s:g} s: {history}")
    assert history.states == {"completed": tasks}
    return found


def test_t06_a_hub_that_stood_still_for_less_than_a_lease_takes_no_work_away(tmp_path: Path) -> None:
    """SIGSTOP of the hub, then SIGCONT: no mass death on resume, nothing is queued again."""
    tasks = stand_still(tmp_path, tasks=12, work_s=7.0, pause_s=6.0, lease_s=20.0)

    assert {len(task["attempts"]) for task in tasks} == {1}


@pytest.mark.soak
def test_t06_a_hub_that_stood_still_for_longer_than_a_lease_runs_what_was_stopped_again(tmp_path: Path) -> None:
    """The sidecars stop their work before its lease ends, as they must; each task is accepted once."""
    tasks = stand_still(tmp_path, tasks=8, work_s=5.0, pause_s=7.0, lease_s=4.0)

    assert {tuple(attempt["state"] for attempt in task["attempts"]) for task in tasks} == {("lost", "passed")}


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_t06_a_minute_of_standing_still_takes_no_work_away(tmp_path: Path) -> None:
    """As above at full count: 200 running tasks, 60 s."""
    tasks = stand_still(tmp_path, tasks=200, work_s=70.0, pause_s=60.0, lease_s=120.0)

    assert {len(task["attempts"]) for task in tasks} == {1}


def be_away(folder: Path, *, seconds: Sequence[float], away_s: float) -> None:
    names = ("One", "Two", "Three", "Four")
    slots = ("--slots", str(-(-len(seconds) // len(names))))
    done = folder / "done"
    with mesh(folder, *names, flags=slots, lease_s=30.0, heartbeat_s=5.0) as running:
        acknowledged = at_work(running, done, seconds)
        running.kill(running.hub)
        killed_at = time.monotonic()
        until(lambda: len(list(done.iterdir())) == len(seconds), "all work is done", timeout_s=60)
        time.sleep(max(0.0, away_s - (time.monotonic() - killed_at)))  # how long the hub is away is the fault
        running.start_hub()
        wait_ended(running, acknowledged, timeout_s=120)
        history = assert_nothing_lost(running, acknowledged)
    print(f"\nT8: the hub was away for {away_s:g} s while {len(seconds)} tasks ended: {history}")
    assert history.states == {"completed": len(seconds)}
    assert history.attempts == len(seconds), "every result came back; nothing ran twice"


def test_t08_what_ends_while_the_hub_is_away_is_reported_when_it_is_back(tmp_path: Path) -> None:
    """kill -9 of the hub while work runs: every result waits on its sidecar's disk and counts, once."""
    be_away(tmp_path, seconds=[1.0 + number % 3 for number in range(12)], away_s=4.0)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_t08_two_hundred_results_wait_for_five_minutes(tmp_path: Path) -> None:
    """As above at full count: 200 tasks end within their leases, the hub is away for five minutes."""
    be_away(tmp_path, seconds=[5.0 + number % 12 for number in range(200)], away_s=300.0)
