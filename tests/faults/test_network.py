"""Rows T9 and T10: the line between hub and sidecar has gone deaf, and nobody is told."""

import contextlib
import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.history import assert_nothing_lost, wait_ended
from tests.support.mesh import Mesh, mesh, until
from tests.support.remote import FROM_US, TO_US, remote
from tests.support.weather import Weather

SWALLOWS = {"swallows": True}
PATIENCE_S = 60.0
NOTICED_S = 15.0 + 15.0 + 5.0
"""Each end notices three heartbeats after the last word that it heard; where only answers are lost, the other end hears
what is sent again and again for as long as this end believes in the line. The rest is for a busy machine."""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Mesh]:
    """A hub with fast heartbeats and leases that outlast what these tests do."""
    with mesh(tmp_path, lease_s=30.0, heartbeat_s=1.0) as made:
        yield made


def says(running: Mesh, name: str, event: str) -> list[dict[str, Any]]:
    """What a sidecar has logged under this name of an event."""
    lines = (running.folder / f"sidecar-{name}.log").read_text("utf-8").splitlines()
    return [line for text in lines if text.startswith("{") and (line := json.loads(text))["event"] == event]


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def lost_at(running: Mesh, name: str, after: float) -> tuple[float, float]:
    """Wait until both ends have noticed; how many seconds it took the hub, and the sidecar."""

    def at_hub() -> list[float]:
        facts = [event for event in running.events("agent_lost") if event["agent"] == name]
        return [when for event in facts if (when := at(event["at"])) > after]

    def at_sidecar() -> list[float]:
        return [when for line in says(running, name, "hub_lost") if (when := at(line["timestamp"])) > after]

    until(at_hub, "the hub has noticed", timeout_s=PATIENCE_S)
    until(at_sidecar, "the sidecar has noticed", timeout_s=PATIENCE_S)
    return at_hub()[0] - after, at_sidecar()[0] - after


def go_deaf_and_heal(running: Mesh, row: str, **faults: dict[str, Any]) -> None:
    """Sidecars by the name of their fault, each on a line of its own, each with a task that runs through all of it."""
    lines = {name: Weather(running.url.removeprefix("http://"), seed=1) for name in faults}
    try:
        for name, line in lines.items():
            running.start_sidecar(name, "--capability", f"line:{name}", hub=line.url)
        running.wait_agents(*lines)
        tasks = [running.submit(command="sleep 7", needs=[f"line:{name}"]) for name in lines]
        for task in tasks:
            running.wait_state(task, "running")
        began = time.time()
        for name, line in lines.items():
            line.set(**faults[name])
        noticed = {name: lost_at(running, name, began) for name in lines}
        for line in lines.values():
            line.fair()
        running.wait_agents(*lines, timeout_s=PATIENCE_S)
        wait_ended(running, tasks)
        history = assert_nothing_lost(running, tasks)
    finally:
        for line in lines.values():
            line.end()

    for name, (hub_s, sidecar_s) in noticed.items():
        print(
            f"\n{row}, {name}: noticed by the hub after {hub_s:.1f} s, by the sidecar after {sidecar_s:.1f} s", end=""
        )
    print(f": {history}")
    assert (history.states, history.attempts) == ({"completed": len(tasks)}, len(tasks))


def test_t09_a_half_open_line_is_noticed_by_both_ends(running: Mesh) -> None:
    """Bytes are lost both ways and nobody is told: both ends notice, and work in hand is not disturbed."""
    go_deaf_and_heal(running, "T9", Both={"up": SWALLOWS, "down": SWALLOWS})


def test_t10_a_line_that_is_deaf_in_one_direction_is_noticed_by_both_ends(running: Mesh) -> None:
    """Only what the sidecar says is lost, or only what the hub says."""
    go_deaf_and_heal(running, "T10", ToHub={"up": SWALLOWS}, ToSidecar={"down": SWALLOWS})


@pytest.mark.root
@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("ways", [(TO_US, FROM_US), (TO_US,), (FROM_US,)], ids=["both ways", "to hub", "to sidecar"])
def test_t09_lost_packets_are_noticed_by_both_ends(tmp_path: Path, ways: tuple[tuple[str, str], ...]) -> None:
    """A packet filter drops everything on a real cable, default heartbeats and leases: noticed within 15 s or so."""
    with remote() as machine, contextlib.ExitStack() as stack:
        # The test itself asks from our end of the cable.
        plain = ("--plaintext", "--trusted-proxy", machine.there, "--trusted-proxy", machine.here)
        running = stack.enter_context(
            mesh(tmp_path, lease_s=30.0, heartbeat_s=5.0, address=machine.here, hub_flags=plain)
        )
        running.start_sidecar("One", under=machine.under)
        running.wait_agents("One")
        task = running.submit(command="sleep 20")
        running.wait_state(task, "running")
        began = time.time()
        machine.drop(*ways)
        hub_s, sidecar_s = lost_at(running, "One", began)
        machine.heal()
        assert max(hub_s, sidecar_s) < NOTICED_S
        wait_ended(running, [task], timeout_s=120)
        history = assert_nothing_lost(running, [task])

    print(f"\nT9/T10 packets: noticed by the hub after {hub_s:.1f} s, the sidecar after {sidecar_s:.1f} s: {history}")
    assert (history.states, history.attempts) == ({"completed": 1}, 1)
