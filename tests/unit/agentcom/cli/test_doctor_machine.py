"""Promises of :mod:`agentcom.cli.doctor_machine`: what is wrong with a machine that has joined is found, and named."""

from pathlib import Path

import pytest

from agentcom.cli import doctor_machine, run
from agentcom.cli.diagnosis import Diagnosis
from protocol.joining import MachineView
from provisioning.places import Note, Places, keep_note, places_of, write_private
from provisioning.plan import JOIN
from tests.support.ports import free_port


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A machine that has joined a hub which is away."""
    places = places_of({}, is_root=False, config=str(tmp_path / "sidecar.toml"), state_dir=str(tmp_path / "state"))
    note = Note(hub=f"http://127.0.0.1:{free_port()}", name="Grey-Area", done=list(JOIN[1:]), manager="foreground")
    keep_note(places, note)
    write_private(places.key, "k", note)
    write_private(places.token, "acm_x", note)
    write_private(places.config, f'hub = ["{note.hub}"]\ntoken_file = "{places.token}"\n', note)
    return places


def looked(places: Places) -> dict[str, Diagnosis]:
    return {each.name: each for each in doctor_machine.look(str(places.config), str(places.state), is_asked=True)}


def test_a_machine_whose_hub_is_away_is_told_so_and_what_is_well_is_well(places: Places) -> None:
    found = looked(places)

    assert {name: each.state for name, each in found.items()} == {
        "machine": "ok",
        "settings": "ok",
        "key": "ok",
        "token": "ok",
        "service": "warn",
        "hub": "fail",
    }
    assert "rejoin --foreground" in found["service"].fix


def test_each_thing_that_is_wrong_has_its_line_and_its_way_out(places: Places) -> None:
    places.key.unlink()
    places.token.chmod(0o644)
    places.config.write_text("slots = 'many'\nwhat = 1\n")
    keep_note(places, Note(hub="http://127.0.0.1:9", done=["trust", "key"]))
    found = looked(places)

    assert [found[name].state for name in ("machine", "settings", "key", "token")] == ["warn", "fail", "fail", "fail"]
    assert "not done: register" in found["machine"].detail
    assert found["token"].fix == f"chmod 600 {places.token}"
    assert all(each.fix for each in found.values() if each.state != "ok")


def test_a_machine_that_has_not_joined_is_no_matter_unless_it_is_asked_for(tmp_path: Path) -> None:
    where = str(tmp_path / "c"), str(tmp_path / "s")

    assert list(doctor_machine.look(*where, is_asked=False)) == []
    assert [each.state for each in doctor_machine.look(*where, is_asked=True)] == ["fail"]
    assert run(["doctor", "--machine", "--config", where[0], "--state-dir", where[1]]) == 1


@pytest.mark.parametrize(
    "version, speaks, state",
    [("", (1, 1), "ok"), ("9.9.9", (1, 2), "warn"), ("9.9.9", (2, 3), "fail")],
)
def test_a_release_beside_that_of_the_hub(places: Places, version: str, speaks: tuple[int, int], state: str) -> None:
    from importlib.metadata import version as installed

    hub = version or installed("agentcom")
    seen = MachineView(name="Grey-Area", state="idle", version="", hub_version=hub, boot=1, protocol=speaks)
    found = doctor_machine._release(seen, places)

    assert found.state == state
    assert found.fix == ("" if state == "ok" else "agentcom upgrade")


def test_an_upgrade_that_has_begun_and_not_ended_is_told(places: Places) -> None:
    write_private(places.upgrade, "{}", Note())
    seen = MachineView(name="Grey-Area", state="idle", version="", hub_version="1.0", boot=1)

    assert "has begun and not ended" in doctor_machine._release(seen, places).detail
