"""A machine gets the release that its hub runs, with real releases, processes and kills; a bad one gives way again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from provisioning.plan import UPGRADE
from tests.support.installed import WAIT_S, Machine, agents, released
from tests.support.mesh import Mesh, mesh, until

_DOC = '    """Run until a signal or the hub'
BROKEN = {"sidecar/app.py": (_DOC, '    sys.exit("broken")\n' + _DOC)}
"""It imports, reads its settings, reaches its hub, and then does not run."""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "home")
    yield made
    made.end()


def the_agent(running: Mesh) -> dict[str, Any]:
    (found,) = agents(running).values()
    return found


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_killed_at_every_step_a_machine_ends_with_the_release_of_its_hub_and_a_bad_one_gives_way(
    tmp_path: Path, machine: Machine
) -> None:
    with mesh(tmp_path) as running:
        machine.install(running.call("POST", "/api/v1/join-tokens", {"url": running.url})["install"])
        before = the_agent(running)
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
        after = the_agent(running)
        assert (after["name"], after["version"], after["state"]) == (before["name"], "0.2.0", "idle")
        assert machine.run("upgrade", "--yes") == (0, "this machine has what its hub offers: 0.2.0\n")
        assert running.wait(running.submit(command="true"))[0]["state"] == "completed"

        # One that was killed after the new release counts, and whose sidecar ends then: who keeps it running goes on.
        released(running, tmp_path, "0.2.1")
        process = machine.start("upgrade", "--yes")
        machine.until(process, " switch ")
        process.kill()
        process.communicate()
        psutil.Process(int((machine.home / "state" / "lock").read_text())).kill()
        until(lambda: the_agent(running)["version"] == "0.2.1", "it was taken up", running.hub, WAIT_S)
        until(lambda: not (machine.home / "state" / "upgrade.json").exists(), "it has ended", running.hub, WAIT_S)
        assert running.wait(running.submit(command="true"))[0]["state"] == "completed"

        released(running, tmp_path, "0.3.0", BROKEN)
        status, said = machine.run("upgrade", "--yes")
        assert (status, "the release before works again" in said, "ok   back" in said) == (1, True, True), said
        assert the_agent(running)["version"] == "0.2.1"
        assert running.wait(running.submit(command="true"))[0]["state"] == "completed"
        status, said = machine.run("doctor", "--machine", "--json")
        found = {each["name"]: each["state"] for each in json.loads(said)["checks"]}
        assert (status, found["service"], found["release"]) == (0, "ok", "warn"), said

        status, said = machine.run("leave", "--purge")
        machine.end()
        left = sorted(str(path.relative_to(machine.home)) for path in machine.home.rglob("*"))
        assert (status, left) == (0, []), said
