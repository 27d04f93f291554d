"""The promises of removing what work has left: all of it goes, whatever it is, and nothing else."""

import contextlib
import os
import socket
import threading
from pathlib import Path

import pytest

from protocol.removal import remove_tree
from sidecar.cache import make_empty, tidy
from sidecar.folders import walk
from tests.support.depth import dig


def test_a_directory_goes_however_deep_it_is(tmp_path: Path) -> None:
    dig(tmp_path / "left")
    dig(tmp_path / "left" / "again", 50)

    assert remove_tree(tmp_path / "left")
    assert list(tmp_path.iterdir()) == []


def test_what_was_made_read_only_goes_too(tmp_path: Path) -> None:
    left = tmp_path / "left"
    for name in ("closed", "blind", "both/below"):
        (left / name).mkdir(parents=True)
        (left / name / "file").touch()
    for name, mode in (("closed", 0o500), ("blind", 0o300), ("both/below", 0), ("both", 0o500), ("", 0o500)):
        (left / name).chmod(mode)

    assert remove_tree(left)
    assert list(tmp_path.iterdir()) == []


def test_files_links_pipes_and_sockets_go_and_what_links_lead_to_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    (tmp_path / "mine").chmod(0o500)
    left = tmp_path / "left"
    (left / "below").mkdir(parents=True)
    (left / "below" / "link").symlink_to(tmp_path / "mine")
    (left / "loop").symlink_to(left)
    os.mkfifo(left / "below" / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(left / "socket"))
        for name in ("a file", "a link", "a pipe"):
            path = tmp_path / name
            path.symlink_to(tmp_path / "mine") if "link" in name else os.mkfifo(
                path
            ) if "pipe" in name else path.touch()
            assert remove_tree(path)

        assert remove_tree(left)
    assert remove_tree(left)  # it is gone already
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine" / "file").read_text() == "mine"
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o500


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing stops root")
def test_what_cannot_go_is_told(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    tmp_path.chmod(0o500)
    try:
        assert not remove_tree(tmp_path / "left")
    finally:
        tmp_path.chmod(0o700)


def test_a_repository_that_is_deeper_than_calls_may_be_nested_is_set_back(tmp_path: Path) -> None:
    make_empty(tmp_path / "work", tmp_path / "own.git", "main")
    dig(tmp_path / "own.git" / "refs" / "heads", 1_500)
    (tmp_path / "own.git" / "refs" / "link").symlink_to("/etc")

    tidy(tmp_path / "own.git", None)
    assert sum(1 for _ in walk(tmp_path / "own.git" / "refs")) == 1_502
    assert not os.path.lexists(tmp_path / "own.git" / "refs" / "link")
    assert remove_tree(tmp_path / "own.git")


def test_no_link_that_comes_meanwhile_leads_the_host_out_of_a_repository(tmp_path: Path) -> None:
    (mine := tmp_path / "mine").mkdir()
    (mine / "journal.db").write_text("kept")
    make_empty(tmp_path / "work", own := tmp_path / "own.git", "b")
    (place := own / "objects" / "x").mkdir()
    (place / "journal.db").symlink_to("/")
    is_over = threading.Event()

    def flip() -> None:
        while not is_over.is_set():
            place.rename(own / "objects" / "y")
            place.symlink_to(mine)
            with contextlib.suppress(FileNotFoundError):
                place.unlink()
            (own / "objects" / "y").rename(place)
            with contextlib.suppress(FileExistsError):
                (place / "journal.db").symlink_to("/")

    flipping = threading.Thread(target=flip)
    flipping.start()
    try:
        for _ in range(200):
            with contextlib.suppress(OSError):  # what the work puts in the way in this moment ends the work
                tidy(own, tmp_path)
    finally:
        is_over.set()
        flipping.join()
    tidy(own, tmp_path)
    assert (mine / "journal.db").read_text() == "kept"
    assert (own / "objects" / "info" / "alternates").read_text() == f"{tmp_path}/objects\n"
