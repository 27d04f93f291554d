"""The promises of the embedded store that have to do with its being a file among others."""

import os
import stat
from pathlib import Path

import apsw
import pytest

from hub.store.changes import Record
from hub.store.sqlite import SqliteStore
from protocol.errors import StoreFailed
from protocol.events import Event, EventKind

FACT = Record(Event(kind=EventKind.HUB_STARTED, at_ms=1))


def modes_in(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


async def test_a_file_that_another_program_holds_ends_the_hub_and_refuses_no_work(tmp_path: Path) -> None:
    path = tmp_path / "hub.sqlite"
    store = SqliteStore(path, busy_s=0.05)
    await store.open()
    failures: list[BaseException] = []
    store.on_failure = failures.append
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreFailed, match="cannot be written"):
        await store.commit(FACT)

    assert len(failures) == 1
    other.close()
    await store.close()


async def test_the_file_is_its_owners_alone_and_other_files_are_as_they_were(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        store = SqliteStore(tmp_path / "hub.sqlite")
        await store.open()
        await store.commit(FACT)
        modes = modes_in(tmp_path)
        await store.close()
    finally:
        after = os.umask(before)

    assert modes == {"hub.sqlite": 0o600, "hub.sqlite-wal": 0o600, "hub.sqlite-shm": 0o600}
    assert after == 0o022


async def test_a_place_where_no_file_can_be_is_refused_in_words(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "not there" / "hub.sqlite")
    with pytest.raises(StoreFailed, match="cannot open the store"):
        await store.open()
    await store.close()
