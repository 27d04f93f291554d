"""Promises of :mod:`sidecar.room`: new work stops early, and reports have what was kept back."""

from dataclasses import dataclass
from pathlib import Path

from sidecar.room import FILE_BYTES, FLOOR_BYTES, Room

MIB = 1 << 20


@dataclass
class Disk:
    """A disk with as much room as the test says."""

    free_bytes: int
    total_bytes: int = 1 << 40
    is_gone: bool = False

    def ask(self, _folder: Path) -> tuple[int, int]:
        if self.is_gone:
            raise OSError(5, "Input/output error")
        return self.free_bytes, self.total_bytes


def test_with_room_a_file_is_kept_back(tmp_path: Path) -> None:
    room = Room(tmp_path, Disk(1 << 40).ask)

    assert not room.is_low
    assert (tmp_path / "reserve").stat().st_size == FILE_BYTES


def test_below_the_floor_there_is_no_room_for_new_work(tmp_path: Path) -> None:
    disk = Disk(1 << 40)
    room = Room(tmp_path, disk.ask)
    disk.free_bytes = FLOOR_BYTES - 1
    assert room.look()
    assert room.is_low
    assert not room.look()
    disk.free_bytes = FLOOR_BYTES
    assert room.look()

    assert not room.is_low


def test_what_was_kept_back_is_given_once_and_kept_back_again_when_there_is_room(tmp_path: Path) -> None:
    disk = Disk(FLOOR_BYTES * 2)
    room = Room(tmp_path, disk.ask)

    assert room.release()
    assert room.is_low
    assert not (tmp_path / "reserve").exists()
    assert not room.release()
    disk.free_bytes = FLOOR_BYTES + FILE_BYTES - 1
    assert not room.look()
    disk.free_bytes = FLOOR_BYTES + FILE_BYTES
    assert room.look()
    assert (tmp_path / "reserve").exists()


def test_a_small_disk_keeps_less(tmp_path: Path) -> None:
    room = Room(tmp_path, Disk(6 * MIB, 64 * MIB).ask)

    assert not room.is_low
    assert (tmp_path / "reserve").stat().st_size == 2 * MIB


def test_a_disk_that_cannot_be_asked_changes_nothing(tmp_path: Path) -> None:
    disk = Disk(1 << 40)
    room = Room(tmp_path, disk.ask)
    disk.is_gone = True

    assert not room.look()
    assert not room.is_low
