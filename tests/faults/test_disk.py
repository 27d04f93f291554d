"""Rows T25, T27 and T28: disks that cannot be written, that are slow, and readers that hold the log of the store."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.mesh import Mesh

START_S: Final = 15.0
"""A refusal takes less than 2 s on a machine with nothing else to do."""


def _hub(folder: Path) -> "subprocess.CompletedProcess[str]":
    return _command("hub", "--data-dir", str(folder), "--listen", "127.0.0.1:0")


def _sidecar(folder: Path) -> "subprocess.CompletedProcess[str]":
    token = folder.parent / "token"
    token.write_text("acm_x\n")
    flags = ["--hub", "http://127.0.0.1:9", "--token-file", str(token), "--state-dir", str(folder)]
    return _command("sidecar", *flags)


def _command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    clean = {key: value for key, value in os.environ.items() if not key.startswith("AGENTCOM_")}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "agentcom", *arguments],
        capture_output=True, text=True, check=False, timeout=START_S, env=clean,
    )  # fmt: skip
    print(f"{arguments[0]}: status {done.returncode} after {time.monotonic() - began:.2f} s: {done.stderr.strip()}")
    return done


def _is_clear(done: "subprocess.CompletedProcess[str]", path: Path) -> None:
    """One line that names the place, and the status of a wrong setting."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ") or "sidecar_ended" in line]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert str(path) in errors[0]
    assert done.returncode == 2


def _in_the_way(name: str) -> Callable[[Path], None]:
    """A folder where a file should be."""
    return lambda folder: (folder / name).mkdir(parents=True)


def _is_a_file(folder: Path) -> None:
    folder.write_text("")


@pytest.mark.parametrize(
    "spoil",
    [_is_a_file, *map(_in_the_way, ("hub.lock", "hub.sqlite", "hub.json"))],
    ids=["the folder is a file", "hub.lock", "hub.sqlite", "hub.json"],
)
def test_t27_a_data_directory_with_something_in_the_way_is_refused_in_one_line(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """Something else lies where the hub keeps its files."""
    spoil(tmp_path / "data")

    _is_clear(_hub(tmp_path / "data"), tmp_path / "data")


@pytest.mark.parametrize(
    "spoil",
    [_is_a_file, *map(_in_the_way, ("lock", "journal.db", "name"))],
    ids=["the folder is a file", "lock", "journal.db", "name"],
)
def test_t27_a_state_directory_with_something_in_the_way_is_refused_in_one_line(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """The same for a sidecar."""
    spoil(tmp_path / "state")

    _is_clear(_sidecar(tmp_path / "state"), tmp_path / "state")


@contextlib.contextmanager
def _mounted(place: Path, *options: str) -> Iterator[None]:
    subprocess.run(["mount", *options, str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextlib.contextmanager
def _read_only(place: Path) -> Iterator[None]:
    with _mounted(place, "--bind", str(place)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
        yield


@contextlib.contextmanager
def _full(place: Path) -> Iterator[None]:
    with _mounted(place, "-t", "tmpfs", "-o", "size=256k", "none"):
        with contextlib.suppress(OSError), (place / "other").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        yield


@pytest.mark.root
@pytest.mark.parametrize("trouble", [_read_only, _full])
@pytest.mark.parametrize("start", [_hub, _sidecar])
def test_t27_a_disk_that_cannot_be_written_is_refused_in_one_line(
    tmp_path: Path,
    start: Callable[[Path], "subprocess.CompletedProcess[str]"],
    trouble: Callable[[Path], "contextlib.AbstractContextManager[None]"],
) -> None:
    """A file system that is mounted read-only, and one that is full."""
    place = tmp_path / "place"
    place.mkdir()
    with trouble(place):
        _is_clear(start(place), place)


@pytest.mark.root
def test_t27_a_hub_whose_store_cannot_be_written_any_more_is_refused_in_one_line(tmp_path: Path) -> None:
    """It has run before: with its folder read-only, and with its disk full, it says what is wrong."""
    hub = Mesh(tmp_path)
    try:
        hub.start_hub()
        task = hub.submit(title="x", executor="noop")
        hub.stop()
        with _read_only(hub.data_dir):
            _is_clear(_hub(hub.data_dir), hub.data_dir)
        hub.start_hub()

        assert hub.task(task)["state"] == "queued"
    finally:
        hub.stop()
