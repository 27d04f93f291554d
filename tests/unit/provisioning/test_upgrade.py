"""Promises of :mod:`provisioning.upgrade`: a machine ends with the new release or the old one, whatever happens."""

from pathlib import Path

import pytest

from protocol.errors import HubUnreachable, WorkFailed
from protocol.joining import MachineView
from provisioning import environments
from provisioning.places import Note, Places, places_of
from provisioning.plan import UPGRADE, to_upgrade
from provisioning.steps import StepFailed
from provisioning.upgrade import Upgrade, World, read_change
from tests.support.releases import small


class Killed(BaseException):
    """What kill -9 is to a process: nothing behind it happens."""


class Machine:
    """A machine with release 1.0 whose hub has 2.0; its service and what its hub sees, with no process behind them."""

    def __init__(self, home: Path, *, broken: str = "") -> None:
        self.places: Places = places_of({"HOME": str(home)}, is_root=False)
        self.places.state.mkdir(parents=True)
        self.base = home / "agentcom"
        self.broken, self.boot, self.told = broken, 1, list[tuple[str, str]]()
        self.dies_at, self.reached, self.now_s = "", True, 0.0
        self.offer, self.files = small("1.0")
        self.install()
        self.old = environments.current(self.base)
        self.running = self.old
        self.offer, self.files = small("2.0")

    def install(self) -> None:
        environments.fetch(self.base, self.offer, self.files.__getitem__)
        environments.switch(self.base, environments.build(self.base, self.offer))

    def restart(self, note: Note) -> str:
        del note
        self.running = environments.current(self.base)
        self.boot += not (self.running.startswith("2.0") and self.broken in {"ready", "start"})
        self._die("in restart")
        if self.broken == "restart" and self.running.startswith("2.0"):
            raise WorkFailed("the service does not start")
        return "restarted"

    def seen(self) -> MachineView:
        if not self.reached:
            raise HubUnreachable("http://hub", "down")
        is_dead = self.broken in {"ready", "start"} and self.running.startswith("2.0")
        return MachineView(
            name="Gray-Area",
            state="offline" if is_dead else "idle",
            version=self.running[:3],
            hub_version="2.0",
            boot=self.boot,
        )

    def runs(self) -> bool:
        return self.broken != "start" or not self.running.startswith("2.0")

    def check(self, program: Path) -> str:
        assert program.exists()
        if self.broken == "check":
            raise WorkFailed("the new release is not well here: settings: bad")
        return "well"

    def _die(self, where: str) -> None:
        if self.dies_at == where:
            self.dies_at = ""
            raise Killed

    def tell(self, outcome: str, step: str, said: str, seconds: float) -> None:
        del said, seconds
        self.told.append((outcome, step))
        self._die(f"after {step}")

    def steps(self) -> Upgrade:
        note = Note(hub="http://hub", name="Gray-Area")
        world = World(
            self.files.__getitem__, self.seen, self.restart, self.runs, self.check, lambda: self.now_s, self.wait
        )
        return Upgrade(self.places, note, self.base, self.offer, world)

    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    def upgrade(self, dies_at: str = "") -> str:
        self.dies_at = dies_at
        return self.steps().run(self.tell)

    @property
    def envs(self) -> list[str]:
        return sorted(path.name[:3] for path in (self.base / "envs").iterdir())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_gets_the_release_of_its_hub_step_by_step_and_keeps_the_one_before(machine: Machine) -> None:
    assert machine.steps().is_due
    name = machine.upgrade()

    assert (environments.current(machine.base), machine.running) == (name, name)
    assert machine.told == [("ok", step) for step in UPGRADE]
    assert machine.envs == ["1.0", "2.0"]
    assert read_change(machine.places) is None
    assert not machine.steps().is_due


@pytest.mark.parametrize("where", ["in restart", *(f"after {step}" for step in UPGRADE)])
def test_killed_anywhere_and_run_again_it_ends_as_any_other(machine: Machine, where: str) -> None:
    with pytest.raises(Killed):
        machine.upgrade(where)
    assert machine.steps().is_due
    machine.told.clear()
    machine.upgrade()

    assert machine.running.startswith("2.0")
    assert (machine.envs, read_change(machine.places)) == (["1.0", "2.0"], None)
    assert [step for _, step in machine.told] == list(UPGRADE)


@pytest.mark.parametrize(
    "broken, why", [("restart", "does not start"), ("ready", "has not seen it within 90 s"), ("start", "does not run")]
)
def test_a_release_that_does_not_come_up_gives_its_place_back(machine: Machine, broken: str, why: str) -> None:
    machine.broken = broken
    with pytest.raises(StepFailed, match=rf"2\.0-\w+ did not come up .*{why}"):
        machine.upgrade()

    assert (environments.current(machine.base), machine.running) == (machine.old, machine.old)
    assert machine.told[-2:] == [("fail", "restart" if broken == "restart" else "ready"), ("ok", "back")]
    assert read_change(machine.places) is None


@pytest.mark.parametrize("where", ["after ready", "in restart", "after back"])
def test_killed_on_its_way_back_it_goes_on_backwards(machine: Machine, where: str) -> None:
    machine.broken = "ready"
    if where == "in restart":
        with pytest.raises(Killed):
            machine.upgrade("after ready")  # from here on every word is about going back
    with pytest.raises(Killed):
        machine.upgrade(where)
    with pytest.raises(StepFailed, match="did not come up"):
        machine.upgrade()

    assert (environments.current(machine.base), machine.running) == (machine.old, machine.old)
    assert read_change(machine.places) is None


def test_a_release_that_is_not_well_never_counts(machine: Machine) -> None:
    machine.broken = "check"
    with pytest.raises(StepFailed, match="not well here"):
        machine.upgrade()

    assert (environments.current(machine.base), machine.running, machine.boot) == (machine.old, machine.old, 1)


def test_what_the_hub_did_not_promise_is_not_installed(machine: Machine) -> None:
    machine.files = dict.fromkeys(machine.files, b"something else")
    with pytest.raises(StepFailed, match="not what the hub has promised"):
        machine.upgrade()

    assert machine.envs == ["1.0"]


def test_a_hub_that_is_away_is_waited_for_and_then_the_old_release_comes_back(machine: Machine) -> None:
    machine.broken = "ready"
    with pytest.raises(Killed):
        machine.upgrade("after restart")
    machine.reached = False
    with pytest.raises(StepFailed, match="hub"):
        machine.upgrade()
    machine.reached = True
    with pytest.raises(StepFailed, match="the hub does not answer"):
        machine.upgrade()

    assert machine.running == machine.old


def test_a_hub_that_has_moved_on_meanwhile_is_followed_from_what_has_proven_itself(machine: Machine) -> None:
    with pytest.raises(Killed):
        machine.upgrade("after switch")
    machine.offer, machine.files = small("3.0")
    machine.upgrade()

    assert machine.running.startswith("3.0")
    assert machine.envs == ["1.0", "3.0"]


def test_until_the_new_release_counts_all_steps_are_done_again() -> None:
    def done(*names: str) -> list[str]:
        return [step.name for step in to_upgrade(names) if step.verb == "do"]

    assert done() == done("fetch") == done("fetch", "build", "check") == list(UPGRADE)
    assert done("fetch", "build", "check", "switch") == ["restart", "ready", "tidy"]
    assert done(*UPGRADE) == []
