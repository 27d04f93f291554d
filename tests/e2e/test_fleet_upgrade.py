"""A fleet gets the release of its hub while it works: one machine first, then the others; a bad one stops at the first.

Real processes all the way: three machines that the hub has installed, each with an environment of its own, and
releases that the hub packs and serves. None of it needs another network.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.installed import WAIT_S, Machine, agents, released
from tests.support.mesh import Mesh, mesh, until

NAMES = ("Arbitrary", "Grey-Area", "Zero-Gravitas")
CANARY = NAMES[0]
_ONLINE = "        self.online.set()\n"
DIES = {
    "sidecar/link.py": (
        _ONLINE,
        _ONLINE + '        __import__("threading").Timer(0.5, __import__("os")._exit, (1,)).start()\n',
    )
}
"""It imports, reads its settings, and its hub sees it; then it is gone, every time."""
pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[dict[str, Machine]]:
    made = {name: Machine(tmp_path / name) for name in NAMES}
    yield made
    for machine in made.values():
        machine.end()


def roll_out(running: Mesh) -> "subprocess.Popen[str]":
    """``agentcom machines upgrade``, as an operator runs it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AGENTCOM_")}
    return subprocess.Popen(
        [sys.executable, "-m", "agentcom", "machines", "upgrade", "--yes"],
        env=env | {"AGENTCOM_HUB": running.url, "AGENTCOM_TOKEN": running.token(), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def work(running: Mesh, name: str, seconds: int) -> str:
    """A task for this machine that takes so long, and leaves what its check looks for."""
    check = {"type": "file_exists", "path": "made.txt"}
    spec = {"command": f"sleep {seconds}; echo done > made.txt", "verification": [check]}
    return running.submit(**spec, needs=[f"machine:{name}"])


def versions(running: Mesh) -> dict[str, str]:
    return {name: each["version"] for name, each in agents(running).items()}


def facts(running: Mesh, after: int) -> list[dict[str, Any]]:
    return [event for event in running.events() if event["seq"] > after]


def seqs(events: list[dict[str, Any]], kind: str, **of: str) -> list[int]:
    return [each["seq"] for each in events if each["kind"] == kind and of.items() <= each.items()]


def assert_done_once(running: Mesh, tasks: list[str]) -> None:
    """Each was done, verified, in its first attempt."""
    for task in running.wait(*tasks, timeout_s=WAIT_S):
        (attempt,) = task["attempts"]
        assert (task["state"], task["result"]["verified"], attempt["accepted"]) == ("completed", True, True), task


def test_a_fleet_at_work_gets_a_release_machine_by_machine_and_a_bad_one_gets_no_further_than_the_first(
    tmp_path: Path, machines: dict[str, Machine]
) -> None:
    with mesh(tmp_path) as running:
        for name, machine in machines.items():
            made = running.call("POST", "/api/v1/join-tokens", {"url": running.url})
            machine.install(f"{made['install']} --name {name}")
        first = versions(running)
        released(running, tmp_path, "0.2.0")
        began = running.events()[-1]["seq"]
        tasks = [work(running, CANARY, 20), *(work(running, name, 3) for name in NAMES for _ in range(6))]
        running.wait_state(tasks[0], "running")
        process = roll_out(running)
        said, _ = process.communicate(timeout=4 * WAIT_S)
        assert process.returncode == 0, f"{said}\n{running.logs()}"
        assert versions(running) == dict.fromkeys(NAMES, "0.2.0") != first
        assert not any(each["draining"] for each in agents(running).values())
        assert_done_once(running, tasks)
        events = facts(running, began)
        assert seqs(events, "attempt_lost") == []
        (asked,) = seqs(events, "agent_upgrading", agent=CANARY)
        (done,) = seqs(events, "task_completed", task=tasks[0])
        back = seqs(events, "agent_joined", agent=CANARY)[-1]
        others = [seq for name in NAMES[1:] for seq in seqs(events, "agent_upgrading", agent=name)]
        assert asked < done < back < min(others)
        assert len(others) == len(NAMES) - 1

        released(running, tmp_path, "0.3.0", DIES)
        began = running.events()[-1]["seq"]
        tasks = [work(running, name, 3) for name in NAMES for _ in range(2)]
        process = roll_out(running)
        said, _ = process.communicate(timeout=4 * WAIT_S)
        assert (process.returncode, f"FAIL {CANARY}" in said) == (1, True), said
        assert [event["agent"] for event in facts(running, began) if event["kind"] == "agent_upgrading"] == [CANARY]
        assert versions(running) == dict.fromkeys(NAMES, "0.2.0")
        log = machines[CANARY].home / "state" / "upgrade.log"
        until(lambda: "the release before works again" in log.read_text(), "it is back by itself", running.hub)
        found = agents(running)
        assert "ready: the sidecar does not run" in found[CANARY]["upgrade_failed"]
        assert not any(each["draining"] for each in found.values())
        assert_done_once(running, [*tasks, *(work(running, name, 0) for name in NAMES)])
        assert seqs(facts(running, began), "attempt_lost") == []
