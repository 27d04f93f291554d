"""The promises of the embedded store that have to do with its being a file among others."""

import asyncio
import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import apsw
import pytest

from hub.store.changes import AddTasks, AppendLog, Record
from hub.store.many_changes import Submissions
from hub.store.pace import Pace, Patience
from hub.store.pages import PAGE_BYTES
from hub.store.redo import LARGEST_BYTES, REDO_BYTES, RedoFile
from hub.store.space import Space
from hub.store.sqlite import SqliteStore
from hub.store.sqlite_transactions import LONG_LOG_PAGES
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

    assert modes == {f"hub.sqlite{end}": 0o600 for end in ("", "-wal", "-shm", "-mark", "-redo")}
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
    """What lies below the store: the usual way to open files, until one of them is ``broken`` and cannot be synced.

    Attributes:
        synced: what was synced ("store" or "log"), and in which thread.
    """

    def __init__(self) -> None:
        self.broken = ""
        self.synced: list[tuple[str, str]] = []
        self.name = f"broken-{id(self)}"
        super().__init__(self.name, "unix")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        what = "store" if flags[0] & apsw.SQLITE_OPEN_MAIN_DB else "log" if flags[0] & apsw.SQLITE_OPEN_WAL else ""
        return _File(self, what, name, flags) if what else apsw.VFSFile("unix", name, flags)


class _File(apsw.VFSFile):
    def __init__(self, below: _Below, what: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._below, self._what = below, what
        super().__init__("unix", name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        self._below.synced.append((self._what, threading.current_thread().name))
        if self._below.broken == self._what:
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
        disk.broken = "store"
        text = "x" * (PAGE_BYTES * LONG_LOG_PAGES)
        long = Record(Event(kind=EventKind.HUB_STARTED, at_ms=1, facts={"text": text}))
        await store.commit(long)  # which is safe in the log

        assert "cannot be written" in str(await failed)
        with pytest.raises(StoreFailed, match="cannot be written"):
            await store.commit(FACT)
        await store.close()
        disk.broken = ""
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


# --- short batches, which the event loop writes itself ----------------------------------------------------------------

HERE = "MainThread"
ELSEWHERE = "store-write"


def quick() -> Pace:
    """That of a disk that is always quick enough."""
    return Pace(60.0)


async def idle(store: SqliteStore) -> None:
    """Wait until the writer's thread has put down what it did last."""
    async with asyncio.timeout(30):
        while not store._write_thread.is_idle:  # noqa: ASYNC110 - the thread says it to nobody by itself
            await asyncio.sleep(0)


def watched(synced: list[tuple[str, str]], size: int = REDO_BYTES) -> Callable[[Path], RedoFile]:
    """Opens a journal of this size whose syncs are noted, with the thread that does them."""

    class Watched(RedoFile):
        size_bytes: ClassVar[int] = size

        def sync(self) -> None:
            synced.append(("redo", threading.current_thread().name))
            super().sync()

    return Watched


async def test_a_short_batch_is_synced_in_the_journal_where_it_was_made_and_all_else_in_the_writers_thread(
    tmp_path: Path,
) -> None:
    with breakable() as disk:
        store = SqliteStore(tmp_path / "hub.sqlite", pace=quick(), open_redo=watched(disk.synced))
        await store.open()
        rows = Rows(store)
        await rows.add(new_task(1))  # the first one asks where the audit log ends
        await idle(store)
        disk.synced.clear()
        await rows.add(new_task(2))
        epoch = (await rows.claim(2)).epoch
        await rows.accept(2, epoch)
        await rows.state(2)  # by then it is in the store, too
        short = [*disk.synced]
        disk.synced.clear()
        await rows.add(new_task(3), new_task(4))
        await store.commit(FACT)
        other = [*disk.synced]
        await store.close()

    assert short == [("redo", HERE)] * 3
    assert other == [("log", ELSEWHERE)] * 2


async def test_what_is_asked_of_the_writers_thread_comes_before_a_short_batch(tmp_path: Path) -> None:
    with breakable() as disk:
        store = SqliteStore(tmp_path / "hub.sqlite", pace=quick())
        await store.open()
        disk.synced.clear()
        gate = threading.Event()
        store._write_thread.post(gate.wait)  # as a step of a copy does
        adding = asyncio.ensure_future(Rows(store).add(new_task(1)))
        for _ in range(5):
            await asyncio.sleep(0)
        before = [*disk.synced]
        gate.set()
        await adding
        await store.close()

    assert before == []
    assert disk.synced[0] == ("log", ELSEWHERE)


class Asked(Patience):
    """Remembers in which thread it said whether a file is waited for."""

    def __init__(self, busy_s: float) -> None:
        super().__init__(busy_s)
        self.said: set[tuple[str, bool]] = set()

    def __call__(self, asked: int) -> bool:
        waits = super().__call__(asked)
        self.said.add((threading.current_thread().name, waits))
        return waits


async def test_the_event_loop_does_not_wait_for_a_program_that_holds_the_file(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "hub.sqlite", pace=quick())
    store._patience = patience = Asked(2.0)
    await store.open()
    await Rows(store).add(new_task(0))
    await idle(store)
    other = apsw.Connection(str(tmp_path / "hub.sqlite"))
    other.execute("BEGIN IMMEDIATE")
    adding = asyncio.ensure_future(Rows(store).add(new_task(1)))
    for _ in range(5):
        await asyncio.sleep(0)
    is_waiting = not adding.done()
    other.execute("ROLLBACK")
    other.close()
    await adding

    assert is_waiting
    assert (HERE, False) in patience.said
    assert (HERE, True) not in patience.said
    assert await store.task(task_id(1)) is not None
    await store.close()


class Slow(Pace):
    """That of a disk on which nothing is quick any more, from the moment when it ``is_slow``."""

    is_slow = False

    def took(self, seconds: float) -> None:
        super().took(seconds)
        if self.is_slow:
            self._quick_s = 0.0


async def test_a_slow_sync_moves_the_next_short_batches_to_the_writers_thread(tmp_path: Path) -> None:
    with breakable() as disk:
        store = SqliteStore(tmp_path / "hub.sqlite", pace=(pace := Slow(60.0)), open_redo=watched(disk.synced))
        await store.open()
        rows = Rows(store)
        await rows.add(new_task(0))
        await idle(store)
        disk.synced.clear()
        pace.is_slow = True
        for number in (1, 2, 3):
            await rows.add(new_task(number))
        synced = [*disk.synced]
        await store.close()

    assert synced == [("redo", HERE), ("log", ELSEWHERE), ("log", ELSEWHERE)]


async def test_a_long_log_is_copied_in_the_writers_thread(tmp_path: Path) -> None:
    with breakable() as disk:
        store = SqliteStore(tmp_path / "hub.sqlite", pace=quick())
        await store.open()
        rows = Rows(store)
        disk.synced.clear()
        text, number = b"x" * 16_000, 0
        while not any(what == "store" for what, _ in disk.synced):
            number += 1
            await rows.add(new_task(number, spec=text))
        await store.close()

    assert ("store", ELSEWHERE) in disk.synced
    assert ("store", HERE) not in disk.synced


async def test_what_the_journal_has_no_room_for_is_synced_with_all_before_it_in_the_writers_thread(
    tmp_path: Path,
) -> None:
    with breakable() as disk:
        small = watched(disk.synced, LARGEST_BYTES + 2 * PAGE_BYTES)
        store = SqliteStore(tmp_path / "hub.sqlite", pace=quick(), open_redo=small)
        await store.open()
        rows = Rows(store)
        await rows.add(new_task(0))
        await idle(store)
        disk.synced.clear()
        for number in range(1, 9):
            await rows.add(new_task(number))
            await idle(store)
        synced = [*disk.synced]
        await store.close()

    assert synced.count(("redo", HERE)) >= 4
    assert synced.count(("log", ELSEWHERE)) >= 2
    assert ("log", HERE) not in synced


async def test_a_sync_that_fails_while_the_log_is_shortened_ends_the_hub(tmp_path: Path) -> None:
    with breakable() as disk:
        store = SqliteStore(tmp_path / "hub.sqlite", pace=quick())
        await store.open()
        failures: list[BaseException] = []
        store.on_failure = failures.append
        rows = Rows(store)
        for number in (1, 2, 3):
            await rows.add(new_task(number))
        disk.broken = "log"
        with pytest.raises(StoreFailed, match="cannot be written"):
            await store.shorten_log()
        disk.broken = ""
        with pytest.raises(StoreFailed):
            await rows.add(new_task(4))
        await store.close()

    assert len(failures) == 1


async def test_a_store_that_has_failed_writes_no_short_batch_either(tmp_path: Path) -> None:
    with breakable() as disk:
        store = SqliteStore(tmp_path / "hub.sqlite", pace=quick())
        await store.open()
        await idle(store)
        assert store._transactions is not None
        store._transactions.failure = StoreFailed("as a copy of the log leaves it")
        disk.synced.clear()
        with pytest.raises(StoreFailed, match="leaves it"):
            await Rows(store).add(new_task(1))
        synced = [*disk.synced]
        is_begun = store._writing is not None and store._writing.in_transaction
        await store.close()

    assert synced == []
    assert not is_begun
