"""The promises of the embedded store that have to do with its being a file among others."""

import asyncio
import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from hub.store.changes import AddTasks, AppendLog, Record
from hub.store.many_changes import Submissions
from hub.store.pages import PAGE_BYTES
from hub.store.space import Space
from hub.store.sqlite import LONG_LOG_PAGES, SqliteStore
from protocol.errors import StorageFull, StoreFailed
from protocol.events import Event, EventKind
from protocol.model import TaskState
from tests.support.crash_images import lies_below
from tests.support.stores import Rows, new_task, task_id

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

    assert modes == {f"hub.sqlite{end}": 0o600 for end in ("", "-wal", "-shm", "-mark")}
    assert after == 0o022


async def test_a_place_where_no_file_can_be_is_refused_in_words(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "not there" / "hub.sqlite")
    with pytest.raises(StoreFailed, match="cannot open the store"):
        await store.open()
    await store.close()


def fill(store: SqliteStore, *, pages_left: int) -> None:
    """Let the file grow by so many pages and no more: the database then says what it says of a full disk."""
    writing = store._writing  # nothing else can make a file full without filling the disk
    assert writing is not None
    pages = writing.execute("PRAGMA page_count").fetchall()[0][0]
    writing.execute(f"PRAGMA max_page_count = {pages + pages_left}")


class _Below(apsw.VFS):
    """What lies below the store: the usual way to open files, until ``is_broken``: then no store can be synced."""

    def __init__(self) -> None:
        self.is_broken = False
        self.name = f"broken-{id(self)}"
        super().__init__(self.name, "unix")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _File(self, name, flags) if flags[0] & apsw.SQLITE_OPEN_MAIN_DB else apsw.VFSFile("unix", name, flags)


class _File(apsw.VFSFile):
    def __init__(self, below: _Below, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._below = below
        super().__init__("unix", name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        if self._below.is_broken:
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)


@contextlib.contextmanager
def breakable() -> Iterator[_Below]:
    below = _Below()
    with lies_below(below, below.name):
        yield below


async def test_a_sync_that_fails_while_the_log_is_copied_ends_the_hub_behind_the_commit(tmp_path: Path) -> None:
    with breakable() as disk:
        store = SqliteStore(tmp_path / "hub.sqlite")
        await store.open()
        failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        store.on_failure = failed.set_result
        disk.is_broken = True
        text = "x" * (PAGE_BYTES * LONG_LOG_PAGES)
        long = Record(Event(kind=EventKind.HUB_STARTED, at_ms=1, facts={"text": text}))
        await store.commit(long)  # which is safe in the log

        assert "cannot be written" in str(await failed)
        with pytest.raises(StoreFailed, match="cannot be written"):
            await store.commit(FACT)
        await store.close()
        disk.is_broken = False
        again = SqliteStore(tmp_path / "hub.sqlite")
        await again.open()
        assert [found.facts for found in await again.events(0, 10)] == [{"text": text}]
        await again.close()


async def until_full(store: SqliteStore) -> None:
    async with asyncio.timeout(30):
        while not store.trouble:  # noqa: ASYNC110 - the store says it to whoever asks, and to nobody by itself
            await asyncio.sleep(0)


async def test_a_full_disk_refuses_new_tasks_and_keeps_what_running_work_says(tmp_path: Path) -> None:
    space = Space(tmp_path, 256, ask=lambda _folder: (1 << 40, 1 << 40))
    store = SqliteStore(tmp_path / "hub.sqlite", space=space)
    await store.open()
    failures: list[BaseException] = []
    store.on_failure = failures.append
    rows = Rows(store)
    await rows.add(new_task(1))
    epoch = (await rows.claim(1)).epoch
    await rows.accept(1, epoch)
    fill(store, pages_left=4)
    large = [new_task(number, spec=b"x" * 100_000) for number in range(2, 5)]
    piece = AppendLog(at_ms=9, task=task_id(1), epoch=epoch, offset=0, stream="stdout", text="x" * 100_000)
    many = Submissions([AddTasks(at_ms=9, tasks=(task,), by="a") for task in large[1:]], "a", 2)
    told = await asyncio.gather(
        rows.add(large[0]), rows.finish(1, epoch), store.commit(piece), store.commit(many), return_exceptions=True
    )

    assert [isinstance(outcome, StorageFull) for outcome in told] == [True, False, True, True]
    assert await rows.state(1) is TaskState.COMPLETED
    assert await store.task(task_id(2)) is None
    assert (space.state, store.trouble, failures) == ("full", "", [])
    fill(store, pages_left=1_000)
    space.look()  # tells of it
    space.look()
    assert space.state == "ok"
    await rows.add(*large)
    await store.close()


async def test_what_finds_no_room_at_all_waits_for_it_and_is_stored_once(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "hub.sqlite")
    await store.open()
    fill(store, pages_left=0)
    event = Event(kind=EventKind.HUB_STARTED, at_ms=1, facts={"text": "x" * 50_000})
    waiting = asyncio.ensure_future(store.commit(Record(event)))
    await until_full(store)
    assert not waiting.done()
    fill(store, pages_left=1_000)
    await waiting

    assert store.trouble == ""
    assert [found.facts for found in await store.events(0, 10)] == [event.facts]
    await store.close()


async def test_a_hub_that_stops_on_a_full_disk_stops_and_has_acknowledged_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "hub.sqlite")
    await store.open()
    fill(store, pages_left=0)
    event = Event(kind=EventKind.HUB_STARTED, at_ms=1, facts={"text": "x" * 50_000})
    waiting = asyncio.ensure_future(store.commit(Record(event)))
    await until_full(store)
    await store.close()

    with pytest.raises(StoreFailed, match="what waited was not acknowledged"):
        await waiting
