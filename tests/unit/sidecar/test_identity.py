"""The promise: a state directory is one sidecar, and one that was evicted does not fight for its name."""

from pathlib import Path

import pytest

from sidecar.identity import EVICTED_FILE, NameLost, check_not_evicted, instance_of, note_eviction


def test_a_state_directory_keeps_its_instance(tmp_path: Path) -> None:
    first = instance_of(tmp_path)

    assert len(first) == 16
    assert instance_of(tmp_path) == first
    (tmp_path / "instance").write_text("\n")
    assert instance_of(tmp_path) != first


def test_who_was_evicted_does_not_start_again_under_that_name(tmp_path: Path) -> None:
    note_eviction(tmp_path, "a", 7)
    with pytest.raises(NameLost) as caught:
        check_not_evicted(tmp_path, "a", 7)

    assert str(caught.value) == (
        "a newer sidecar has taken the name 'a' from this state directory (was it copied?); "
        f"give one of the two another --name and its own --state-dir, or remove {tmp_path / EVICTED_FILE} "
        "to take the name back"
    )


@pytest.mark.parametrize("name, last_boot", [("b", 7), ("a", 8)], ids=["another name", "a newer start of our own"])
def test_it_starts_under_another_name_and_if_the_newer_one_was_its_own(
    tmp_path: Path, name: str, last_boot: int
) -> None:
    note_eviction(tmp_path, "a", 7)
    check_not_evicted(tmp_path, name, last_boot)

    assert not (tmp_path / EVICTED_FILE).exists()


@pytest.mark.parametrize("text", ["", "no json", '{"name": 3}'])
def test_a_note_that_cannot_be_read_stops_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / EVICTED_FILE).write_text(text)
    check_not_evicted(tmp_path, "a", 7)
