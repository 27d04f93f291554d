"""Row T21: the plug is pulled, again and again, under a real hub and a real sidecar. What was acknowledged is there."""

import contextlib
import http.client
import os
import random
import subprocess
import threading
import time
from pathlib import Path

import apsw
import pytest

from tests.support.fragile import FragileHub, fragile_hub
from tests.support.mesh import Mesh, Refused, until
from tests.support.power import PowerDisk, power_disk

pytestmark = pytest.mark.root


class Submitters:
    """Callers on another machine, who remember what they were told."""

    def __init__(self, hub: FragileHub) -> None:
        self.acknowledged: list[str] = []
        self._hub = hub
        self._threads = [threading.Thread(target=self._submit) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def _submit(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, Refused):
            while True:
                self.acknowledged.append(self._hub.submit(title="x", executor="noop", prompt="p" * 500))

    def give_up(self) -> list[str]:
        """Wait until all have been told no; what they were told before."""
        for thread in self._threads:
            thread.join()
        return self.acknowledged


def _cut_under_load(hub: FragileHub, disk: PowerDisk, load_s: float) -> int:
    """One power cut; how many tasks had been acknowledged since the last one."""
    callers = Submitters(hub)
    until(lambda: callers.acknowledged, "the first is acknowledged")
    time.sleep(load_s)  # this is the load, no wait for a fact
    disk.cut(hub.hub)
    submitted, reported = callers.give_up(), list(hub.agent.acknowledged)
    disk.unmount()
    disk.mount()
    hub.start_hub()

    for task in submitted:
        hub.task(task)
    for task, epoch in reported:
        found = hub.task(task)
        assert (found["state"], found["attempts"][-1]["epoch"]) == ("completed", epoch), found
    hub.agent.acknowledged.clear()
    return len(submitted) + len(reported)


def _cuts(folder: Path, count: int) -> int:
    chance = random.Random(21)
    with power_disk(folder / "disk", folder / "hub") as disk, fragile_hub(folder) as hub:
        kept = [_cut_under_load(hub, disk, chance.uniform(0.0, 0.6)) for _ in range(count)]
        events = [event["seq"] for event in hub.events()]
        hub.stop()
    assert events == list(range(1, len(events) + 1))
    return sum(kept)


def test_a_disk_that_another_namespace_still_holds_is_a_good_one_after_the_cut(tmp_path: Path) -> None:
    """A sandbox of a test beside this one has a copy of every mount: its disk would be handed out again, dead."""
    with power_disk(tmp_path / "disk", tmp_path / "place") as disk:
        (disk.place / "file").touch()
        os.sync()
        with (
            subprocess.Popen(["unshare", "--mount", "sleep", "60"]) as holder,
            subprocess.Popen(["sleep", "60"]) as user,
        ):
            until(lambda: Path(f"/proc/{holder.pid}/comm").read_text() == "sleep\n", "it has its own mounts")
            disk.cut(user)
            disk.unmount()
            disk.mount()
            (disk.place / "other").touch()
            holder.kill()

        assert {"file", "other"} <= {path.name for path in disk.place.iterdir()}


@pytest.mark.timeout(300)
def test_t21_a_power_cut_takes_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Two cuts: submissions acknowledged to callers, and results acknowledged to an agent, are there afterwards."""
    assert _cuts(tmp_path, 2) > 0


def test_t21_a_power_cut_just_after_the_first_start_leaves_a_hub_that_starts(tmp_path: Path) -> None:
    """The folder, the store and the tokens are a second old."""
    with power_disk(tmp_path / "disk", tmp_path / "hub") as disk:
        hub = Mesh(tmp_path)
        try:
            hub.start_hub()
            token, task = hub.token(), hub.submit(title="first", executor="noop")
            node = (hub.data_dir / "node.id").read_text()
            disk.cut(hub.hub)
            disk.unmount()
            disk.mount()
            hub.start_hub()

            assert hub.token() == token
            assert (hub.data_dir / "node.id").read_text() == node
            assert hub.task(task)["state"] == "queued"
        finally:
            hub.stop()


@pytest.mark.soak
def test_t21_soak_fifty_power_cuts(tmp_path: Path) -> None:
    """The same, fifty times on one disk."""
    kept = _cuts(tmp_path, 50)
    print(f"T21: 50 power cuts, {kept} acknowledgements checked, 0 lost")

    assert kept > 1_000


def _cut_a_sidecar(folder: Path, count: int) -> None:
    running = Mesh(folder, hub_env={"AGENTCOM_WORKSPACE_MB": "0"})  # the disk is a small one
    with power_disk(folder / "disk", folder / "state-One") as disk:
        try:
            running.start_hub()
            for number in range(count):
                _one_cut(running, disk, folder / f"ran-{number}")
        finally:
            running.stop()


def _one_cut(running: Mesh, disk: PowerDisk, marker: Path) -> None:
    running.start_sidecar("One")
    running.wait_agents("One")
    gate = marker.with_suffix(".go")
    task = running.submit(command=f"until [ -e {gate} ]; do sleep 0.05; done; echo run >> {marker}")
    running.wait_state(task, "running")
    running.kill(running.hub)
    gate.touch()  # it ends only now that nobody can take its report
    until(lambda: _is_written_down(disk.place, task), "the report is in the journal")
    disk.cut(running.sidecars["One"])
    disk.unmount()
    disk.mount()
    running.start_hub()
    running.start_sidecar("One")
    [ended] = running.wait(task)

    assert (ended["state"], marker.read_text()) == ("completed", "run\n")
    running.kill(running.sidecars["One"])


def _is_written_down(state: Path, task: str) -> bool:
    journal = apsw.Connection(str(state / "journal.db"), flags=apsw.SQLITE_OPEN_READONLY)
    with contextlib.closing(journal):
        return bool(journal.execute("SELECT 1 FROM attempts WHERE task = ? AND report IS NOT NULL", (task,)).get)


def test_t21_a_power_cut_of_a_sidecar_takes_no_report_that_it_had_written_down(tmp_path: Path) -> None:
    """The hub is away, the work is done, the plug is pulled: the report comes later, without a second run."""
    _cut_a_sidecar(tmp_path, 1)


@pytest.mark.soak
def test_t21_soak_ten_power_cuts_of_a_sidecar(tmp_path: Path) -> None:
    """The same ten times on one disk."""
    _cut_a_sidecar(tmp_path, 10)
