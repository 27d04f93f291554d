"""Promises of :mod:`provisioning.services` about a sidecar that a command in the foreground looks after."""

import subprocess
import sys
from pathlib import Path

import pytest

from provisioning.places import Note, Places, places_of
from provisioning.services import Foreground, is_upgrading
from provisioning.steps import StepFailed
from provisioning.upgrade import alone


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = places_of({"HOME": str(tmp_path)}, is_root=False)
    made.state.mkdir(parents=True)
    return made


def ended(places: Places) -> Foreground:
    """One whose sidecar ends by itself, with status 3."""
    manager = Foreground(places)
    manager.child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    return manager


def test_the_command_ends_with_its_sidecar(places: Places) -> None:
    assert ended(places).stay(Note()) == 3


def test_an_upgrade_that_was_killed_is_taken_up_once_and_leaves_nobody_waiting(places: Places) -> None:
    places.upgrade.write_text('{"target": "2.0-a", "before": "1.0-b"}')
    manager = ended(places)

    assert manager.stay(Note()) == 3
    said = (places.state / "upgrade.log").read_text()
    assert said.count("this machine has not joined") == 1, said  # it was begun, once, and could not be ended


def test_an_upgrade_runs_alone_and_whoever_asks_disturbs_nobody(places: Places) -> None:
    assert not is_upgrading(places)
    with alone(places):
        assert is_upgrading(places)
        with pytest.raises(StepFailed, match="under way here"), alone(places):
            pass
    assert not is_upgrading(places)
    assert [path.name for path in places.state.iterdir()] == ["upgrade.lock"]
