"""The promises of the store's file: every page has its checksum, and no damage is read as if it were data."""

import shutil
from pathlib import Path

import apsw
import pytest

from hub.store import sqlite_file
from hub.store.migrate import migrate
from hub.store.queries import migrations
from hub.store.sqlite import SqliteStore
from hub.store.sqlite_file import CHECKSUM_BYTES, PAGE_BYTES, check_header, connect
from protocol.errors import ReadOnly, StoreDamaged, StoreFailed
from tests.support.stores import CLASS, Rows, new_task, task_id


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A store with 50 tasks, closed."""
    made = tmp_path / "hub.sqlite"
    store = SqliteStore(made)
    await store.open()
    await Rows(store).add(*(new_task(number) for number in range(1, 51)))
    await store.close()
    return made


def bend(path: Path, at: int, count: int = 1) -> None:
    """Change bytes of a file."""
    raw = bytearray(path.read_bytes())
    for place in range(at, at + count):
        raw[place] ^= 0x55
    path.write_bytes(raw)


def page_with(path: Path, *texts: bytes) -> int:
    """The number of the first page, from 0, that holds all of ``texts``."""
    raw = path.read_bytes()
    pages = (raw[at : at + PAGE_BYTES] for at in range(0, len(raw), PAGE_BYTES))
    return next(number for number, page in enumerate(pages) if all(text in page for text in texts))


async def opening_fails(path: Path, says: str, **options: bool) -> None:
    store = SqliteStore(path, **options)
    try:
        with pytest.raises(StoreDamaged, match=says):
            await store.open()
    finally:
        await store.close()


async def test_a_new_store_has_checksums_and_other_databases_of_the_process_have_none(path: Path) -> None:
    assert path.read_bytes()[20] == CHECKSUM_BYTES
    other = apsw.Connection(str(path.with_name("other.sqlite")))
    other.execute("CREATE TABLE t (a)")

    assert other.reserve_bytes("main", -1) == 0


async def test_a_changed_byte_is_found_before_the_store_serves(path: Path) -> None:
    bend(path, page_with(path, b"task 30", CLASS.encode()) * PAGE_BYTES + 2_000)

    await opening_fails(path, "checksum")


async def test_a_changed_byte_of_a_store_too_large_to_look_through_is_found_when_it_is_read(path: Path) -> None:
    bend(path, page_with(path, b"task 30", CLASS.encode()) * PAGE_BYTES + 2_000)
    store = SqliteStore(path, max_checked_bytes=0)
    await store.open()
    failures: list[BaseException] = []
    store.on_failure = failures.append
    try:
        with pytest.raises(StoreDamaged, match="checksum of a page is wrong"):
            await store.summaries([task_id(number) for number in range(1, 51)])

        assert isinstance(failures[0], StoreDamaged)  # the hub ends: nothing may be built on such a store
        assert store.damage
    finally:
        await store.close()


@pytest.mark.parametrize(
    "at, count, says",
    [(0, 16, "does not begin"), (16, 2, "not those of a store"), (20, 1, "not those of a store"), (60, 4, "checksum")],
)
async def test_a_damaged_header_is_refused(path: Path, at: int, count: int, says: str) -> None:
    bend(path, at, count)

    await opening_fails(path, says)


async def test_a_header_that_denies_its_checksums_is_refused(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[20] = 0
    path.write_bytes(raw)

    await opening_fails(path, "checksums")


@pytest.mark.parametrize("size", [1, 99, 100, 5_000])
async def test_a_file_that_was_cut_off_is_refused(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])

    await opening_fails(path, "damaged")


async def test_a_store_whose_file_is_gone_is_not_begun_anew(path: Path) -> None:
    path.unlink()

    await opening_fails(path, "the file is gone")
    assert not path.exists()


async def test_an_older_copy_in_the_place_of_the_store_is_refused(path: Path) -> None:
    shutil.copyfile(path, path.with_name("older"))
    store = SqliteStore(path)
    await store.open()
    await Rows(store).add(new_task(51))
    await store.close()
    shutil.copyfile(path.with_name("older"), path)

    await opening_fails(path, "its last 1 commit")


def test_an_empty_file_and_none_are_new_stores(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    check_header(tmp_path / "empty")
    check_header(tmp_path / "none")


async def test_a_store_from_before_there_were_checksums_gets_them(tmp_path: Path) -> None:
    old = apsw.Connection(str(tmp_path / "hub.sqlite"))
    old.execute("PRAGMA journal_mode = WAL")
    old.execute(migrations("sqlite")[0][2])
    old.execute("PRAGMA user_version = 1")
    old.execute("INSERT INTO events (seq, at_ms, kind) VALUES (7, 1, 'hub_started')")
    old.close()
    store = SqliteStore(tmp_path / "hub.sqlite")
    await store.open()
    try:
        assert store.newest_event == 7
        await Rows(store).add(new_task(1))
    finally:
        await store.close()

    assert (tmp_path / "hub.sqlite").read_bytes()[20] == CHECKSUM_BYTES
    connection = connect(str(tmp_path / "hub.sqlite"), 1.0)
    sqlite_file.check_whole(connection, "x", deep=True)
    connection.close()


async def test_a_damaged_store_can_be_looked_at_and_not_changed(path: Path) -> None:
    before = bytes(path.read_bytes())
    bend(path, page_with(path, b"task 30", CLASS.encode()) * PAGE_BYTES + 2_000)
    damaged = path.read_bytes()
    store = SqliteStore(path, read_only=True)
    await store.open()
    try:
        assert "checksum" in store.damage
        assert len(await store.events(0, 100)) == 50
        with pytest.raises(ReadOnly):
            await Rows(store).add(new_task(51))
    finally:
        await store.close()

    assert path.read_bytes() == damaged != before


async def test_a_whole_store_that_is_looked_at_is_said_to_be_whole(path: Path) -> None:
    store = SqliteStore(path, read_only=True)
    await store.open()

    assert store.damage == ""
    assert store.newest_event == 50
    await store.close()


async def test_a_store_of_another_schema_is_not_looked_at(path: Path) -> None:
    connection = connect(str(path), 1.0)
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    store = SqliteStore(path, read_only=True)

    with pytest.raises(StoreFailed, match="the store has schema 1, this build reads"):
        await store.open()
    await store.close()


def test_what_the_schema_changes_keep_is_counted_on(tmp_path: Path) -> None:
    connection = connect(str(tmp_path / "x.sqlite"), 1.0)
    migrate(connection)

    found = sqlite_file.progress(connection)
    assert found.commits == 0
    assert 0 <= found.store < 1 << 62
    connection.close()
