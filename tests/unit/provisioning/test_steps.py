from pathlib import Path

import pytest

from protocol.pinning import WrongHub
from provisioning.join import leave
from provisioning.places import Note, Places, keep_note, make_folder, places_of, read_note, write_private
from provisioning.steps import StepFailed, Steps, Wish


def steps_of(places: Places, note: Note, wish: Wish | None = None) -> Steps:
    wish = wish or Wish(url="http://127.0.0.1:9", is_foreground=True)
    return Steps(wish, places, note, confirm=lambda _: False, say=lambda _: None)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return places_of({"HOME": str(tmp_path)}, is_root=False)


def test_places_are_those_of_the_user_or_of_the_machine(tmp_path: Path) -> None:
    own = places_of({"HOME": "/h", "XDG_STATE_HOME": "/x", "HTTPS_PROXY": "http://p", "NO_PROXY": "a"}, is_root=False)
    root = places_of({}, is_root=True)
    given = places_of({}, is_root=True, config=str(tmp_path / "c"), state_dir=str(tmp_path / "s"))

    assert (str(own.config), str(own.state)) == ("/h/.config/agentcom/sidecar.toml", "/x/agentcom/sidecar")
    assert own.proxies == ("HTTPS_PROXY",)
    assert (str(root.config), str(root.state)) == ("/etc/agentcom/sidecar.toml", "/var/lib/agentcom/sidecar")
    assert (given.config, given.state) == (tmp_path / "c", tmp_path / "s")


def test_a_settings_file_is_written_once_and_never_again(places: Places) -> None:
    note = Note(hub="http://127.0.0.1:9", name="Grey-Area")
    steps = steps_of(places, note)
    steps.config()
    assert 'name = "Grey-Area"' in places.config.read_text()
    assert places.config.stat().st_mode & 0o777 == 0o600
    steps.config()
    assert not places.config.with_name("sidecar.toml.new").exists()

    places.config.write_text("slots = 4\n")
    said = steps.config()
    assert "was there and stays" in said
    assert places.config.read_text() == "slots = 4\n"
    assert "Grey-Area" in places.config.with_name("sidecar.toml.new").read_text()


def test_a_settings_file_of_a_person_outlives_the_machine(places: Places) -> None:
    note = Note(begun=["key", "config"])
    write_private(places.config, "slots = 4\n", note)
    keep_note(places, note)
    leave(places, purge=True, tell=lambda *_: None)

    assert places.config.read_text() == "slots = 4\n"
    assert not places.state.exists()


def test_nothing_is_left_of_folders_that_were_made(places: Places, tmp_path: Path) -> None:
    note = Note(begun=["key", "config"])
    steps = steps_of(places, note)
    steps.key()
    steps.config()
    keep_note(places, note)
    leave(places, purge=True, tell=lambda *_: None)

    assert list(tmp_path.iterdir()) == []


def test_a_note_that_cannot_be_read_is_none(places: Places) -> None:
    make_folder(places.state, Note())
    places.note.write_text("{half")

    assert read_note(places) == Note()


@pytest.mark.parametrize(
    "wish, kind, says",
    [
        (Wish(url="http://192.0.2.1:7420"), StepFailed, "--plaintext"),
        (Wish(url="http://127.0.0.1:9", pin="ab" * 32), StepFailed, "https://"),
    ],
)
def test_no_secret_goes_where_everybody_could_read_it(
    places: Places, wish: Wish, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        steps_of(places, Note(), wish).trust()


def test_a_fingerprint_of_another_hub_is_a_hard_stop(places: Places) -> None:
    steps = steps_of(places, Note(), Wish(url="https://h:1", fingerprint="AB:" * 31 + "AB"))

    with pytest.raises(WrongHub):
        steps._ask_person("cd" * 32)


def test_nobody_is_trusted_because_everything_is_to_be_said_yes_to(places: Places) -> None:
    steps = steps_of(places, Note(), Wish(url="https://h:1", says_yes=True))

    with pytest.raises(StepFailed, match="--fingerprint"):
        steps._ask_person("cd" * 32)


def test_a_hub_that_does_not_answer_is_told_before_anything_is_written(places: Places, tmp_path: Path) -> None:
    with pytest.raises(StepFailed) as caught:
        steps_of(places, Note()).preflight()

    assert caught.value.status == 3
    assert list(tmp_path.iterdir()) == []
