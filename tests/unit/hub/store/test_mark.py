"""The promises of the mark: an older or shorter store is found out, a power cut never raises a false alarm."""

from pathlib import Path

import pytest

from hub.store.mark import Mark, Progress, check_mark, mark_of, read_mark
from protocol.errors import StoreDamaged

STORE = 0x1234_5678_9ABC


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hub.sqlite"


def marked(path: Path, commits: int, store: int = STORE) -> None:
    mark = Mark(path, Progress(store, 0))
    mark.write(commits)
    mark.close()


def test_a_mark_says_what_was_written_last(path: Path) -> None:
    marked(path, 41)
    marked(path, 42)

    assert read_mark(path) == Progress(STORE, 42)
    assert mark_of(path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("commits", [42, 43, 10**15])
def test_a_store_that_is_as_far_or_further_is_whole(path: Path, commits: int) -> None:
    marked(path, 42)

    check_mark(path, Progress(STORE, commits))  # a power cut may take the last writes of the mark, never of the store


@pytest.mark.parametrize(
    "commits, says",
    [(41, "its last 1 commit is gone"), (40, "its last 2 commits are gone"), (0, "its last 42 commits")],
)
def test_a_store_that_has_lost_commits_is_refused(path: Path, commits: int, says: str) -> None:
    marked(path, 42)

    with pytest.raises(StoreDamaged, match=says):
        check_mark(path, Progress(STORE, commits))


def test_another_store_in_the_same_place_is_refused(path: Path) -> None:
    marked(path, 42)

    with pytest.raises(StoreDamaged, match="not the store that was in this place"):
        check_mark(path, Progress(STORE + 1, 1_000))


@pytest.mark.parametrize("content", [b"", b"acmmark1", b"\0" * 28, b"x" * 28, b"x" * 100])
def test_a_mark_that_a_power_cut_has_left_half_is_none(path: Path, content: bytes) -> None:
    mark_of(path).write_bytes(content)

    assert read_mark(path) is None
    check_mark(path, Progress(STORE, 0))


def test_a_disk_that_does_not_take_the_mark_costs_no_commit(path: Path) -> None:
    marked(path, 42)
    mark = Mark(path, Progress(STORE, 42))
    mark.close()

    mark.write(43)  # the file is closed: the write fails

    assert read_mark(path) == Progress(STORE, 42)
