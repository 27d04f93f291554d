"""The promises of copies: whole while the store is written, found out if they are not, never in the way for long."""

import asyncio
import time
from pathlib import Path

import apsw
import pytest

from hub.store import copying
from hub.store.sqlite import SqliteStore
from hub.store.sqlite_file import PAGE_BYTES, connect
from protocol.errors import StoreDamaged, StoreFailed
from tests.support.stores import Rows, new_task


async def store_with(path: Path, tasks: int) -> Rows:
    store = SqliteStore(path)
    await store.open()
    rows = Rows(store)
    await rows.add(*(new_task(number) for number in range(1, tasks + 1)))
    return rows


async def test_a_copy_holds_what_was_committed_while_it_was_made(tmp_path: Path) -> None:
    rows = await store_with(tmp_path / "hub.sqlite", 500)
    try:
        copying_it = asyncio.create_task(rows.store.copy_to(tmp_path / "copy"))  # type: ignore[attr-defined] # of a file
        number = 500
        while not copying_it.done():
            number += 1
            await rows.add(new_task(number))
            await rows.completed(number)
        await copying_it
    finally:
        await rows.store.close()

    facts = copying.settle(tmp_path / "copy", at_ms=1_234)
    assert facts.at_ms == 1_234
    assert 500 < facts.tasks <= number
    assert facts.size_bytes == (tmp_path / "copy").stat().st_size
    assert sorted(file.name for file in tmp_path.glob("copy*")) == ["copy"]


async def test_a_copy_that_does_not_fit_the_cache_is_whole_too(tmp_path: Path) -> None:
    rows = await store_with(tmp_path / "hub.sqlite", 1)
    try:
        await rows.add(*(new_task(number, spec=b"s" * 5_000) for number in range(2, 1_001)))  # 8 MB
        await rows.store.copy_to(tmp_path / "copy")  # type: ignore[attr-defined] # of a file
    finally:
        await rows.store.close()
    copying.copy_whole(tmp_path / "hub.sqlite", tmp_path / "again")

    assert copying.settle(tmp_path / "copy", at_ms=1).tasks == 1_000
    assert copying.look_through(tmp_path / "again").tasks == 1_000


async def test_a_copy_of_a_closed_store_holds_what_lies_in_its_log(tmp_path: Path) -> None:
    rows = await store_with(tmp_path / "hub.sqlite", 20)
    for end in ("", "-wal"):
        (tmp_path / f"left{end}").write_bytes((tmp_path / f"hub.sqlite{end}").read_bytes())
    await rows.store.close()
    copying.copy_whole(tmp_path / "left", tmp_path / "copy")

    assert copying.look_through(tmp_path / "copy").tasks == 20


async def test_a_copy_of_a_damaged_store_fails_and_is_none(tmp_path: Path) -> None:
    rows = await store_with(tmp_path / "hub.sqlite", 500)
    await rows.store.close()
    raw = bytearray((tmp_path / "hub.sqlite").read_bytes())
    raw[raw.index(b"task 400") // PAGE_BYTES * PAGE_BYTES + 2_000] ^= 1
    (tmp_path / "hub.sqlite").write_bytes(raw)
    store = SqliteStore(tmp_path / "hub.sqlite", max_checked_bytes=0)
    await store.open()
    try:
        with pytest.raises(StoreDamaged, match="checksum"):
            await store.copy_to(tmp_path / "copy")
        assert store.damage
    finally:
        await store.close()


@pytest.mark.parametrize(
    "harm, says",
    [
        ("DELETE FROM specs WHERE task = (SELECT max(task) FROM specs)", "without what they should do"),
        ("DELETE FROM tasks WHERE id = (SELECT max(id) FROM tasks)", "do not add up"),
        ("UPDATE facts SET value = 1 WHERE name = 'event_seq'", "its count ends at 1"),
        ("PRAGMA user_version = 0", "no store of a hub"),
    ],
)
async def test_a_copy_that_contradicts_itself_is_refused(tmp_path: Path, harm: str, says: str) -> None:
    rows = await store_with(tmp_path / "hub.sqlite", 5)
    await rows.store.close()
    connection = connect(str(tmp_path / "hub.sqlite"), 1.0)
    connection.execute(harm)
    connection.close()

    with pytest.raises(StoreDamaged, match=says):
        copying.look_through(tmp_path / "hub.sqlite")


async def test_a_copy_of_a_newer_build_is_refused(tmp_path: Path) -> None:
    rows = await store_with(tmp_path / "hub.sqlite", 1)
    await rows.store.close()
    connection = connect(str(tmp_path / "hub.sqlite"), 1.0)
    connection.execute("PRAGMA user_version = 9999")
    connection.close()

    with pytest.raises(StoreFailed, match="install a newer"):
        copying.look_through(tmp_path / "hub.sqlite")


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello " * 100)
    foreign = apsw.Connection(str(tmp_path / "foreign"))
    foreign.execute("CREATE TABLE t (a)")
    foreign.close()

    with pytest.raises(StoreDamaged, match="does not begin as a store does"):
        copying.look_through(tmp_path / "text")
    with pytest.raises(StoreDamaged, match="no store of a hub"):
        copying.look_through(tmp_path / "foreign")


async def test_a_place_where_no_copy_can_be_is_refused_in_words(tmp_path: Path) -> None:
    rows = await store_with(tmp_path / "hub.sqlite", 1)
    try:
        with pytest.raises(StoreFailed, match="cannot write the copy"):
            await rows.store.copy_to(tmp_path / "not there" / "copy")  # type: ignore[attr-defined] # of a file
    finally:
        await rows.store.close()


async def test_a_query_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    rows = await store_with(tmp_path / "hub.sqlite", 1)
    store = rows.store
    assert isinstance(store, SqliteStore)
    try:
        store._read_until = time.monotonic() - 1

        assert store._is_late()
    finally:
        await store.close()


async def test_the_log_is_cut_off_and_a_reader_is_not_waited_for(tmp_path: Path) -> None:
    rows = await store_with(tmp_path / "hub.sqlite", 100)
    store = rows.store
    assert isinstance(store, SqliteStore)
    try:
        reader = connect(str(tmp_path / "hub.sqlite"), 1.0, read_only=True)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM tasks").fetchall()
        await rows.add(new_task(101))
        assert not await store.shorten_log()
        assert store._patience._until == 0.0  # which only says when to give up asking
        assert store._patience.may_wait
        reader.execute("COMMIT")
        reader.close()

        assert await store.shorten_log()
        assert store.wal_bytes == 0
    finally:
        await store.close()
