"""Promises of :mod:`hub.store.space`: new tasks stop early, and a full disk still has what was kept back."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from hub.store.space import MAX_FILE_BYTES, Space, disk_bytes
from protocol.errors import StorageFull

MIB = 1 << 20


@dataclass
class Disk:
    """A disk with as much room as the test says."""

    free_mb: int
    total_mb: int = 100_000
    is_gone: bool = False

    def ask(self, _folder: Path) -> tuple[int, int]:
        if self.is_gone:
            raise OSError(5, "Input/output error")
        return self.free_mb * MIB, self.total_mb * MIB


def test_with_room_new_tasks_come_in_and_a_file_is_kept_back(tmp_path: Path) -> None:
    space = Space(tmp_path, 256, ask=Disk(50_000).ask)

    space.check()
    assert (space.state, space.is_armed) == ("ok", True)
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= MAX_FILE_BYTES


def test_below_the_floor_new_tasks_are_refused_and_above_it_taken_again(tmp_path: Path) -> None:
    disk = Disk(300)
    space = Space(tmp_path, 256, ask=disk.ask)
    disk.free_mb = 255
    assert space.look()

    with pytest.raises(StorageFull, match="255 MiB free, new tasks are taken in from 256 MiB on") as caught:
        space.check()
    assert caught.value.retry_after_s == 5.0
    assert not space.look()
    disk.free_mb = 256
    assert space.look()
    space.check()


def test_a_small_disk_keeps_an_eighth(tmp_path: Path) -> None:
    space = Space(tmp_path, 256, ask=Disk(60, total_mb=64).ask)

    assert space.floor_bytes == 8 * MIB
    assert (tmp_path / "reserve").stat().st_size == 4 * MIB


def test_a_write_that_finds_no_room_gets_the_file_and_new_tasks_wait_until_it_is_back(tmp_path: Path) -> None:
    disk = Disk(300)
    space = Space(tmp_path, 256, ask=disk.ask)

    assert space.release()
    assert not (tmp_path / "reserve").exists()
    assert space.state == "full"
    assert not space.release()
    disk.free_mb = 260  # above the floor, but not with the file as well
    assert space.look()
    assert not space.look()
    with pytest.raises(StorageFull, match="the disk is full"):
        space.check()
    disk.free_mb = 273
    assert space.look()
    assert (tmp_path / "reserve").exists()
    space.check()


def test_a_disk_that_was_full_for_less_than_a_round_is_heard_of(tmp_path: Path) -> None:
    space = Space(tmp_path, 256, ask=Disk(300).ask)
    space.release()

    assert space.look()
    assert space.state == "full"
    assert space.look()
    assert space.state == "ok"
    assert not space.look()


def test_what_an_earlier_hub_kept_back_counts(tmp_path: Path) -> None:
    Space(tmp_path, 256, ask=Disk(300).ask)
    space = Space(tmp_path, 256, ask=Disk(0).ask)

    assert (space.state, space.is_armed) == ("low", True)
    assert space.release()


def test_a_disk_that_cannot_be_asked_changes_nothing(tmp_path: Path) -> None:
    disk = Disk(300)
    space = Space(tmp_path, 256, ask=disk.ask)
    disk.is_gone = True

    assert not space.look()
    space.check()


def test_who_wants_nothing_kept_back_gets_that(tmp_path: Path) -> None:
    space = Space(tmp_path, 0, ask=Disk(0).ask)

    space.check()
    assert not (tmp_path / "reserve").exists()


def test_a_real_disk_has_room(tmp_path: Path) -> None:
    free_bytes, total_bytes = disk_bytes(tmp_path)

    assert 0 < free_bytes <= total_bytes
