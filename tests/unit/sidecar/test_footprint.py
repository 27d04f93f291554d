"""Promises of :mod:`sidecar.footprint`: what takes room is counted, once, however it is hidden, and a count ends."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.removal import remove_tree
from sidecar.footprint import TooDeep, share_bytes, taken

MIB = 1 << 20
MOST = 1 << 40


def filled(path: Path, size: int = MIB) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))
    return path


def about(size: int) -> object:
    """A disk writes whole blocks, and directories take some."""
    return pytest.approx(size, rel=0.1)


def test_all_that_lies_in_the_folders_counts_and_what_is_not_there_does_not(tmp_path: Path) -> None:
    filled(tmp_path / "a" / "b" / "c" / "file")
    filled(tmp_path / "d" / "file", 2 * MIB)

    assert taken([tmp_path / "a", tmp_path / "d", tmp_path / "none"], MOST) == about(3 * MIB)


def test_blocks_count_and_not_what_a_file_claims_to_be(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 35)

    assert taken([tmp_path], MOST) < MIB


def test_a_file_with_several_names_counts_once_and_no_link_is_followed(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    file = filled(inside / "file")
    for number in range(5):
        os.link(file, inside / f"again-{number}")
    outside = filled(tmp_path / "out" / "file", 3 * MIB)
    (inside / "soft").symlink_to(outside)
    (inside / "folder").symlink_to(outside.parent)

    assert taken([inside], MOST) == about(MIB)


def test_a_directory_that_has_become_a_link_to_itself_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    filled(tmp_path / "in" / "file")

    assert taken([tmp_path / "loop" / "below" / "it", tmp_path / "in"], MOST) == about(MIB)


def test_empty_files_take_what_they_take_of_the_numbers_for_files(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / str(number)).touch()

    assert taken([tmp_path], MOST, least_bytes=16_384) == 100 * 16_384
    assert share_bytes(tmp_path) >= 512


def test_a_count_goes_no_further_than_its_limit(tmp_path: Path) -> None:
    for number in range(20):
        filled(tmp_path / str(number))

    assert 5 * MIB < taken([tmp_path], 5 * MIB) <= 7 * MIB


def test_what_is_held_open_without_a_name_counts_for_those_who_hold_it(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, (tmp_path / "file").open("rb"):
        file.write(bytes(os.urandom(MIB)))
        file.flush()
        named = taken([tmp_path], MOST, pids=[os.getpid()])
        (tmp_path / "file").unlink()

        assert named == about(MIB)
        assert taken([tmp_path], MOST) < MIB // 2
        assert taken([tmp_path], MOST, pids=[os.getpid(), os.getpid()]) == about(MIB)


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder below which a test makes others, each in the one before; gone afterwards, one by one."""
    (tmp_path / "deep").mkdir()
    here = os.getcwd()  # noqa: PTH109 - to come back to
    yield tmp_path / "deep"
    os.chdir(here)
    os.system(f"rm -rf '{tmp_path}/deep'")  # noqa: S605 - it has no limit; the path is ours


def descend(folder: Path, name: str, levels: int) -> None:
    os.chdir(folder)
    for _ in range(levels):
        os.mkdir(name)  # noqa: PTH102 - a path would be too long
        os.chdir(name)


def test_no_depth_hides_anything(deep: Path) -> None:
    descend(deep, "d" * 200, 200)
    Path("file").write_bytes(os.urandom(MIB))

    assert taken([deep], MOST) >= MIB


def test_what_is_deeper_than_anybody_needs_is_refused_and_not_followed_for_ever(deep: Path) -> None:
    descend(deep, "d" * 250, 900)

    with pytest.raises(TooDeep):
        taken([deep], MOST)


def test_a_directory_that_is_closed_is_counted_and_stays_closed() -> None:
    """Nothing is closed to root, so whoever runs this as root is somebody else meanwhile."""
    folder = Path(tempfile.mkdtemp())
    nobody = 65_534
    try:
        for closed, mode in (("blind", 0o300), ("shut", 0), ("named", 0o600)):
            filled(folder / closed / "inner" / "file")
            (folder / closed).chmod(mode)
        if os.getuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, nobody, nobody)
            os.seteuid(nobody)
        counted = taken([folder], MOST)
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        remove_tree(folder)
        shutil.rmtree(folder, ignore_errors=True)

    assert counted == about(3 * MIB)
    assert modes == {"blind": 0o300, "shut": 0, "named": 0o600}
