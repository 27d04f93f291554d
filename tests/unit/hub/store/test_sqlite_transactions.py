"""The promises of short batches: told when the journal has them, and seen by whoever asks from then on."""

import asyncio
import errno
import os
import threading
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest
from structlog.testing import capture_logs

from hub.store.batches import Unwritable
from hub.store.changes import Accept, AddTasks, AnyChange, Record
from hub.store.pages import PAGE_BYTES
from hub.store.redo import RedoFile, redo_of
from hub.store.sqlite import SqliteStore
from hub.store.sqlite_file import connect
from hub.store.sqlite_transactions import LONGEST_LOG_PAGES
from protocol.errors import IdempotencyConflict, StoreFailed
from protocol.events import Event, EventKind
from protocol.model import TaskState
from tests.support.crash_images import lies_below
from tests.support.redo import commits_in, idle, owes, quick_store, ready, told
from tests.support.stores import Rows, new_task, task_id

FACT = Record(Event(kind=EventKind.HUB_STARTED, at_ms=1))
"""A change that no short batch has."""
Q, DONE = TaskState.QUEUED, TaskState.COMPLETED


def log_pages(store: Path) -> int:
    return store.with_name("hub.sqlite-wal").stat().st_size // (PAGE_BYTES + 24)  # each with its own head


def adding(number: int, **more: Any) -> AddTasks:
    return AddTasks(at_ms=number, tasks=(new_task(number),), by="me", **more)


# --- when it is told --------------------------------------------------------------------------------------------------


async def test_a_short_batch_is_told_when_the_journal_has_it_and_before_the_store_has_it(tmp_path: Path) -> None:
    rows = await ready(tmp_path)
    path = tmp_path / "hub.sqlite"

    def look() -> tuple[bool, list[int], int]:
        other = connect(str(path), 1.0, read_only=True)
        count = len(other.execute("SELECT id FROM tasks").fetchall())
        other.close()
        return owes(rows.store), commits_in(path), count

    has_debts, noted, tasks = await told(rows.store, adding(1), look)
    await rows.state(1)

    assert (has_debts, len(noted), tasks) == (True, 1, 1), "the task that was there before"
    assert (owes(rows.store), commits_in(path)) == (False, noted)
    await rows.store.close()


async def test_what_was_told_is_put_into_the_store_when_nothing_else_is_asked_for(tmp_path: Path) -> None:
    rows = await ready(tmp_path)
    await rows.add(new_task(1))
    async with asyncio.timeout(30):
        while owes(rows.store):  # noqa: ASYNC110 - nobody is told of it
            await asyncio.sleep(0)
    other = connect(str(tmp_path / "hub.sqlite"), 1.0, read_only=True)
    found = other.execute("SELECT id FROM tasks").fetchall()
    other.close()
    await rows.store.close()

    assert found == [(task_id(0),), (task_id(1),)]


async def test_whoever_reads_sees_what_was_told(tmp_path: Path) -> None:
    rows = await ready(tmp_path)
    store = rows.store
    await rows.add(new_task(1))
    assert await rows.state(1) is Q
    epoch = (await rows.claim(1)).epoch
    assert [attempt.epoch for attempt in await store.attempts(task_id(1))] == [epoch]
    await rows.accept(1, epoch)
    assert {state: n for state, n in (await store.counts()).items() if n} == {Q: 1, TaskState.RUNNING: 1}
    assert await rows.kinds(1) == ["task_queued", "task_assigned", "task_started"]
    await store.close()


async def test_a_copy_has_what_was_told(tmp_path: Path) -> None:
    rows = await ready(tmp_path)
    await rows.add(new_task(1))
    assert isinstance(rows.store, SqliteStore)
    await rows.store.copy_to(tmp_path / "copy.sqlite")
    await rows.store.close()
    copy = connect(str(tmp_path / "copy.sqlite"), 1.0, read_only=True)
    found = copy.execute("SELECT id FROM tasks").fetchall()
    copy.close()

    assert found == [(task_id(0),), (task_id(1),)]


async def test_a_batch_of_many_comes_behind_a_short_one_and_both_last(tmp_path: Path) -> None:
    rows = await ready(tmp_path)
    await told(rows.store, adding(1), lambda: rows.store.post(adding(2, key="k", digest=b"d")))
    added = asyncio.gather(*(rows.add(new_task(number)) for number in range(3, 30)))
    one, two = await asyncio.gather(rows.claim(1), rows.claim(2))
    await added
    await rows.store.close()
    again = Rows(quick_store(tmp_path))
    await again.store.open()

    assert (one.epoch, two.epoch) == (1, 1)
    assert await again.states(range(30)) == [Q, TaskState.ASSIGNED, TaskState.ASSIGNED, *[Q] * 27]
    events = await again.store.events(0, 1_000)
    assert [event.seq for event in events] == list(range(1, 33))
    await again.store.close()


async def test_a_key_that_comes_again_behind_its_short_batch_gives_the_same_task(tmp_path: Path) -> None:
    rows = await ready(tmp_path)
    first = await rows.add(new_task(1), key="k", digest=b"d")
    again = await rows.add(new_task(2), key="k", digest=b"d")
    with pytest.raises(IdempotencyConflict):
        await rows.add(new_task(3), key="k", digest=b"e")
    bulk = await asyncio.gather(*(rows.add(new_task(n), key="k", digest=b"d") for n in range(4, 9)))

    assert (again.ids, again.replayed) == (first.ids, True)
    assert {(added.ids, added.replayed) for added in bulk} == {(first.ids, True)}
    assert len(await rows.kinds()) == 2
    await rows.store.close()


async def test_closing_puts_everything_into_the_store(tmp_path: Path) -> None:
    rows = await ready(tmp_path)
    closing = await told(rows.store, adding(1), lambda: asyncio.ensure_future(rows.store.close()))
    await closing
    redo_of(tmp_path / "hub.sqlite").unlink()
    again = Rows(quick_store(tmp_path))
    await again.store.open()

    assert await again.states([0, 1]) == [Q, Q]
    await again.store.close()


# --- the journal begins again -----------------------------------------------------------------------------------------


async def test_the_journal_begins_again_when_the_store_has_synced_a_batch(tmp_path: Path) -> None:
    rows = await ready(tmp_path)
    for number in (1, 2, 3):
        await rows.add(new_task(number))
    before = commits_in(tmp_path / "hub.sqlite")
    await rows.store.commit(FACT)
    await idle(rows.store)
    await rows.add(new_task(4))
    after = commits_in(tmp_path / "hub.sqlite")

    assert before == list(range(before[0], before[0] + 3))
    assert after == [before[-1] + 2, *before[1:]]
    await rows.store.close()


async def test_short_batches_go_on_when_the_journal_is_full(tmp_path: Path) -> None:
    class Small(RedoFile):
        size_bytes = 1 << 20

    rows = await ready(tmp_path, open_redo=Small)
    spec = b"x" * 16_000  # a record of five pages, so the journal holds fifty
    for number in range(1, 121):
        await rows.add(new_task(number, spec=spec))
    first = commits_in(tmp_path / "hub.sqlite")[0]
    await rows.store.close()
    redo_of(tmp_path / "hub.sqlite").unlink()
    again = Rows(quick_store(tmp_path))
    await again.store.open()

    assert first > 51, "it has begun again, more than once"
    assert (await again.store.counts())[Q] == 121
    await again.store.close()


async def test_a_log_that_short_batches_made_long_is_copied_when_it_is_too_long(tmp_path: Path) -> None:
    class Large(RedoFile):
        size_bytes = 32 << 20

    rows = await ready(tmp_path, open_redo=Large)
    store = tmp_path / "hub.sqlite"
    number, spec = 0, b"x" * 16_000
    before = store.stat().st_size
    while log_pages(store) < LONGEST_LOG_PAGES:
        assert store.stat().st_size == before, "whoever comes next would wait for a copy"
        number += 1
        await rows.add(new_task(number, spec=spec))
        await rows.state(number)  # it is in the store then
    await idle(rows.store)

    assert store.stat().st_size > before + number * len(spec)
    assert commits_in(store)[0] < number, "the journal had room for all"
    await rows.store.close()


async def test_a_short_batch_that_finds_no_room_in_the_journal_is_synced_with_the_store(tmp_path: Path) -> None:
    class Full(RedoFile):
        is_full = False

        def write(self, data: bytes, offset: int) -> None:
            if Full.is_full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().write(data, offset)

    rows = await ready(tmp_path, open_redo=Full)
    await rows.add(new_task(1))
    Full.is_full = True
    has_debts = await told(rows.store, adding(2), lambda: owes(rows.store))
    Full.is_full = False
    has_debts_again = await told(rows.store, adding(3), lambda: owes(rows.store))

    assert (has_debts, has_debts_again) == (False, True)
    assert await rows.states([1, 2, 3]) == [Q] * 3
    await rows.store.close()


async def test_a_store_without_room_for_a_journal_goes_on_without_it(tmp_path: Path) -> None:
    def no_room(path: Path) -> RedoFile:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    rows = await ready(tmp_path, open_redo=no_room)
    has_debts = await told(rows.store, adding(1), lambda: owes(rows.store))
    await rows.store.close()
    again = Rows(quick_store(tmp_path))
    await again.store.open()

    assert not has_debts
    assert await again.states([0, 1]) == [Q, Q]
    await again.store.close()


# --- what the database refuses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        AddTasks(at_ms=1, tasks=(new_task(2, priority=2**70),), by="me"),
        AddTasks(at_ms=1, tasks=(new_task(2, title="\ud800"),), by="me"),
        Accept(at_ms=2**63, task=task_id(1), epoch=1),
        AddTasks(at_ms=1, tasks=(new_task(1),), by="me"),
    ],
    ids=["a number no row can hold", "half a pair", "a time no row can hold", "a task that is there"],
)
async def test_a_short_batch_that_the_database_refuses_is_refused_alone(tmp_path: Path, bad: AnyChange) -> None:
    rows = await ready(tmp_path)
    failures: list[BaseException] = []
    rows.store.on_failure = failures.append
    await rows.add(new_task(1))
    await rows.claim(1)

    with pytest.raises(Unwritable):
        await rows.store.commit(bad)
    await rows.add(new_task(3))
    assert await rows.states([1, 3]) == [TaskState.ASSIGNED, Q]
    assert failures == []
    await rows.store.close()


async def test_a_commit_that_changes_nothing_leaves_the_journal_as_it_is(tmp_path: Path) -> None:
    """It syncs nothing either: what is noted is nowhere else on the disk."""
    rows = await ready(tmp_path)
    for number in (1, 2, 3):
        await rows.add(new_task(number))
    before = commits_in(tmp_path / "hub.sqlite")
    with pytest.raises(Unwritable):
        await rows.store.commit(AddTasks(at_ms=1, tasks=(new_task(4),), by="me", key="\ud800", digest=b"d"))
    await rows.add(new_task(5))
    await rows.state(5)
    after = commits_in(tmp_path / "hub.sqlite")
    await rows.store.close()

    assert len(before) == 3
    assert after[:3] == before


# --- a disk that fails ------------------------------------------------------------------------------------------------


class Failing(RedoFile):
    """Its sync fails as the disk's would, once it ``is_broken``."""

    is_broken = False

    def sync(self) -> None:
        if self.is_broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync()


async def test_a_journal_that_cannot_be_synced_ends_the_hub_and_what_was_told_before_is_there(tmp_path: Path) -> None:
    files: list[Failing] = []

    def opened(path: Path) -> Failing:
        files.append(Failing(path))
        return files[-1]

    rows = await ready(tmp_path, open_redo=opened)
    failures: list[BaseException] = []
    rows.store.on_failure = failures.append
    await rows.add(new_task(1))
    files[0].is_broken = True
    with pytest.raises(StoreFailed, match=r"cannot be written: .*Input/output error"):
        await rows.add(new_task(2))
    files[0].is_broken = False
    for change in (adding(3), FACT):
        with pytest.raises(StoreFailed):
            await rows.store.commit(change)
    await rows.store.close()
    again = Rows(quick_store(tmp_path))
    await again.store.open()

    assert len(failures) == 1
    assert await again.states([0, 1]) == [Q, Q]
    assert await again.store.task(task_id(3)) is None
    await again.store.close()


class Below(apsw.VFS):
    """What lies below the store; a log cannot be written to any more once it ``is_broken``."""

    def __init__(self) -> None:
        self.is_broken = False
        self.name = f"fails-{id(self)}"
        super().__init__(self.name, "unix")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _File(self, name, flags) if flags[0] & apsw.SQLITE_OPEN_WAL else apsw.VFSFile("unix", name, flags)


class _File(apsw.VFSFile):
    def __init__(self, below: Below, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._below = below
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        if self._below.is_broken:
            raise apsw.exception_for(apsw.SQLITE_IOERR_WRITE)
        super().xWrite(data, offset)


async def test_what_was_told_and_cannot_be_put_into_the_store_ends_the_hub_and_is_there_at_the_next_start(
    tmp_path: Path,
) -> None:
    disk = Below()
    with lies_below(disk, disk.name):
        rows = await ready(tmp_path)
        failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        rows.store.on_failure = failed.set_result

        def breaks() -> None:
            disk.is_broken = True

        await told(rows.store, adding(1), breaks)
        assert "cannot be written" in str(await asyncio.wait_for(failed, 30))
        for change in (adding(2), FACT):
            with pytest.raises(StoreFailed):
                await rows.store.commit(change)
        with pytest.raises(StoreFailed):
            await rows.state(0)
        await rows.store.close()
        disk.is_broken = False
        again = Rows(quick_store(tmp_path))
        await again.store.open()

        assert await again.states([0, 1]) == [Q, Q]
        assert await again.store.task(task_id(2)) is None
        await again.store.close()


async def test_answers_to_a_batch_do_not_wait_for_the_next_one(tmp_path: Path) -> None:
    """The next one may be written on the event loop: it begins when whoever waited has been told."""
    store = quick_store(tmp_path)
    await store.open()
    await idle(store)
    order: list[str] = []
    store.on_seal = lambda: order.append("sealed")
    rows = Rows(store)

    async def ask(number: int) -> None:
        await rows.add(new_task(number))
        order.append(f"answered {number}")

    await ask(1)
    await ask(2)
    await store.close()

    assert order[:4] == ["sealed", "answered 1", "sealed", "answered 2"]


async def test_what_a_commit_has_left_to_do_is_done_by_who_closes_the_store_meanwhile(tmp_path: Path) -> None:
    store = quick_store(tmp_path)
    await store.open()
    await Rows(store).add(new_task(1))
    gate = threading.Event()
    with capture_logs() as said:
        store._write_thread.post(gate.wait)
        store._write_thread.post(partial(store._see_to_rest, asyncio.get_running_loop()))
        closing = asyncio.create_task(store.close())
        for _ in range(5):
            await asyncio.sleep(0)
        gate.set()
        await closing

    assert "job_failed" not in [line["event"] for line in said]


async def test_the_turn_for_one_batch_does_not_commit_the_next_before_that_is_answered(tmp_path: Path) -> None:
    rows = await ready(tmp_path)
    loop = asyncio.get_running_loop()
    owed: asyncio.Future[bool] = loop.create_future()

    def second_told(_outcome: object) -> None:  # in the turn in which the first one is to be committed, too
        loop.call_soon(lambda: owed.set_result(owes(rows.store)))

    rows.store.post(adding(1), lambda _outcome: rows.store.post(adding(2), second_told))

    assert await owed
    assert await rows.states([1, 2]) == [Q, Q]
    await rows.store.close()
