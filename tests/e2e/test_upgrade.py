"""A machine gets the release that its hub runs, with real releases, processes and kills; a bad one gives way again."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioning.plan import UPGRADE
from tests.support import releases
from tests.support.mesh import Mesh, mesh, until

WAIT_S = 200.0
_DOC = '    """Run until a signal or the hub'
BROKEN = {"sidecar/app.py": (_DOC, '    sys.exit("broken")\n' + _DOC)}
"""It imports, reads its settings, reaches its hub, and then does not run."""


class Machine:
    """A home that nothing has touched but what the hub has installed there."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir()
        self.where = ["--state-dir", f"{home}/state", "--config", f"{home}/etc/sidecar.toml"]
        self.env = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONUNBUFFERED": "1"}
        self.joined: subprocess.Popen[str] | None = None

    def install(self, line: str) -> None:
        """Run the line that a join token comes with, until the machine takes part."""
        self.joined = self._start(["sh", "-c", f"exec sh -c '{line} --foreground {' '.join(self.where)}'"])
        self.until(self.joined, "takes part")

    def start(self, *words: str) -> "subprocess.Popen[str]":
        program = self.home / ".local" / "share" / "agentcom" / "env" / "bin" / "agentcom"
        return self._start([str(program), *words, *self.where])

    def run(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        said, _ = process.communicate(timeout=WAIT_S)
        return process.returncode, said

    def _start(self, command: list[str]) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command,
            cwd=self.home,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def until(self, process: "subprocess.Popen[str]", words: str) -> str:
        assert process.stdout is not None
        said, ends = "", time.monotonic() + WAIT_S
        while words not in said:
            line = process.stdout.readline()
            assert line, said
            assert time.monotonic() < ends, said
            said += line
        return said

    def end(self) -> None:
        if self.joined is None:
            return
        if self.joined.poll() is None:
            os.killpg(self.joined.pid, signal.SIGTERM)
        if self.joined.stdout is not None and not self.joined.stdout.closed:
            self.joined.communicate(timeout=WAIT_S)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "home")
    yield made
    made.end()


def agent(running: Mesh) -> dict[str, Any]:
    (found,) = running.call("GET", "/api/v1/agents")["agents"]
    return dict(found)


def released(running: Mesh, folder: Path, version: str, changes: dict[str, tuple[str, str]] | None = None) -> None:
    """The hub becomes this release, where it is."""
    assert running.hub is not None
    running.hub.terminate()
    assert running.hub.wait(60) == 0
    running.hub_env = releases.environment(releases.whole(folder / version, version, changes))
    running.start_hub()
    until(lambda: agent(running)["state"] == "idle", "the machine is back", running.hub)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_killed_at_every_step_a_machine_ends_with_the_release_of_its_hub_and_a_bad_one_gives_way(
    tmp_path: Path, machine: Machine
) -> None:
    with mesh(tmp_path) as running:
        machine.install(running.call("POST", "/api/v1/join-tokens", {"url": running.url})["install"])
        before = agent(running)
        released(running, tmp_path, "0.2.0")
        status, said = machine.run("upgrade", "--dry-run")
        assert (status, "0.2.0" in said) == (0, True), said
        for step in UPGRADE:
            process = machine.start("upgrade", "--yes")
            machine.until(process, f" {step} ")
            process.kill()
            process.communicate()
        status, said = machine.run("upgrade", "--yes")
        assert status == 0, said
        after = agent(running)
        assert (after["name"], after["version"], after["state"]) == (before["name"], "0.2.0", "idle")
        assert machine.run("upgrade", "--yes") == (0, "this machine has what its hub offers: 0.2.0\n")
        assert running.wait(running.submit(command="true"))[0]["state"] == "completed"

        released(running, tmp_path, "0.3.0", BROKEN)
        status, said = machine.run("upgrade", "--yes")
        assert (status, "the release before works again" in said, "ok   back" in said) == (1, True, True), said
        assert agent(running)["version"] == "0.2.0"
        assert running.wait(running.submit(command="true"))[0]["state"] == "completed"
        status, said = machine.run("doctor", "--machine", "--json")
        found = {each["name"]: each["state"] for each in json.loads(said)["checks"]}
        assert (status, found["service"], found["release"]) == (0, "ok", "warn"), said

        status, said = machine.run("leave", "--purge")
        machine.end()
        left = sorted(str(path.relative_to(machine.home)) for path in machine.home.rglob("*"))
        assert (status, left) == (0, []), said
