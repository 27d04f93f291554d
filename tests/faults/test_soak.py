"""A long steady load under random faults: nothing is lost or doubled, and nothing piles up.

Twenty minutes, or as many seconds as ``SOAK_S`` says. Figures are printed; only what was lost or doubled, and
descriptors that leak, fail the test.
"""

import os
import random
import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.crowd import BROKEN, Crowd
from tests.support.gauges import Gauges
from tests.support.history import assert_nothing_lost, wait_ended
from tests.support.mesh import Mesh, Refused, mesh
from tests.support.nemesis import Nemesis
from tests.support.weather import Weather

SECONDS = float(os.environ.get("SOAK_S", "1200"))
TASKS_A_SECOND = 5
LOOK_S = 2.0
LEAK = 40
"""Descriptors by which one process may differ from itself: connections come and go."""


def varied(chance: random.Random) -> dict[str, Any]:
    """Short work, long work, work that talks, work that fails, and work that is told to end by its deadline."""
    kind = chance.choice(("noop", "noop", "short", "long", "loud", "fails"))
    commands = {
        "short": "true",
        "long": f"sleep {chance.uniform(1.0, 5.0):.1f}",
        "loud": "head -c 60000 /dev/urandom | base64",
        "fails": "exit 3",
    }
    priority = chance.choice(("urgent", "high", "normal", "low"))
    if kind == "noop":
        return {"title": "x", "executor": "noop", "priority": priority}
    return {"command": commands[kind], "priority": priority, "max_retries": 1, "labels": {"kind": kind}}


def cancel_one(running: Mesh, acknowledged: list[str], chance: random.Random) -> bool:
    """Cancel one of the newest tasks, if it can be cancelled and the hub can be reached."""
    try:
        running.call("POST", f"/api/v1/tasks/{chance.choice(acknowledged[-3:])}/cancel", {"reason": "soak"})
    except (Refused, *BROKEN):
        return False
    return True


def look(gauges: Gauges, running: Mesh) -> None:
    assert running.hub is not None
    gauges.look("hub", running.hub.pid)
    for name, process in running.sidecars.items():
        gauges.look(f"sidecar {name}", process.pid)
    for part in ("", "-wal"):
        gauges.look_at_file(f"hub.sqlite{part}", running.data_dir / f"hub.sqlite{part}")


def load(running: Mesh, crowd: Crowd, gauges: Gauges, chance: random.Random) -> int:
    """Order and look, second by second, for as long as the soak lasts; how many tasks were cancelled."""
    began = last_look = time.monotonic()
    cancelled = 0
    while (now := time.monotonic()) - began < SECONDS:
        crowd.order(TASKS_A_SECOND)
        if crowd.acknowledged and chance.random() < 0.2:
            cancelled += cancel_one(running, crowd.acknowledged, chance)
        if now - last_look >= LOOK_S:
            last_look = now
            look(gauges, running)
        time.sleep(max(0.0, 1.0 - (time.monotonic() - now)))
    return cancelled


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 900)
def test_a_long_load_under_random_faults_loses_nothing_and_grows_nothing(tmp_path: Path) -> None:
    """kill -9, standing still, cuts, slow and deaf lines, cancels, at random, for long."""
    chance = random.Random(1)
    with mesh(tmp_path, lease_s=8.0, heartbeat_s=1.0) as running:
        weather = Weather(running.url.removeprefix("http://"), seed=1)
        gauges = Gauges(warm_up_s=min(120.0, SECONDS / 10))
        try:
            running.start_sidecar("Far", "--slots", "2", hub=weather.url)
            for name in ("Near", "Nearer"):
                running.start_sidecar(name, "--slots", "2")
            running.wait_agents("Far", "Near", "Nearer")
            crowd = Crowd(running, varied, seed=1, width=2)
            nemesis = Nemesis(running, weather, seed=1, spared="Far", pause_s=(3.0, 12.0))
            try:
                cancelled = load(running, crowd, gauges, chance)
            finally:
                nemesis.stop()
            acknowledged = crowd.finish(timeout_s=120)
            wait_ended(running, acknowledged, timeout_s=600)
            history = assert_nothing_lost(running, acknowledged)
        finally:
            weather.end()

    faults = ", ".join(f"{name} {count}" for name, count in sorted(nemesis.done.items()))
    print(f"\nsoak of {SECONDS:.0f} s: {history}; {cancelled} cancelled by hand; {crowd.retries} requests sent again")
    print(f"faults: {faults}; the hub was ready again after {statistics.median(nemesis.restarts or [0]):.2f} s")
    print(gauges.table())
    for name in ("hub", "sidecar Far"):
        low, high = gauges.spread(name, "descriptors")
        assert high - low <= LEAK, f"{name} holds from {low} to {high} descriptors"
