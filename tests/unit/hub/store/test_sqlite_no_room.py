"""What a short batch was told to be stored, and finds no room in the store: it is there as soon as there is some."""

import asyncio
from pathlib import Path

import apsw
import pytest

from hub.store.changes import Record
from hub.store.redo import redo_of
from hub.store.space import Space
from hub.store.sqlite import SqliteStore
from protocol.errors import StoreFailed, Unavailable
from protocol.events import Event, EventKind
from protocol.model import TaskState
from tests.support.redo import idle, quick_store
from tests.support.stores import Rows, new_task, task_id

FACT = Record(Event(kind=EventKind.HUB_STARTED, at_ms=1))


def no_room(store: SqliteStore, *, is_over: bool = False) -> None:
    """No commit finds room, as on a disk that is full where its log grows; until it ``is_over``."""
    assert store._writing is not None
    store._writing.set_commit_hook(None if is_over else _full)


def _full() -> bool:
    raise apsw.FullError("database or disk is full")


async def told_without_room(store: SqliteStore) -> Rows:
    """Open the store, with task 1; task 2 is told to be stored, and there is no room for it."""
    await store.open()
    rows = Rows(store)
    await rows.add(new_task(1))
    await idle(store)
    no_room(store)
    await rows.add(new_task(2, spec=b"x" * 16_000))
    return rows


async def until(store: SqliteStore, *, is_full: bool) -> None:
    async with asyncio.timeout(30):
        while bool(store.trouble) is not is_full:  # noqa: ASYNC110 - the store says it to whoever asks, and to nobody by itself
            await asyncio.sleep(0)


async def test_a_short_batch_that_finds_no_room_is_told_and_is_in_the_store_when_there_is_some(tmp_path: Path) -> None:
    rows = await told_without_room(store := quick_store(tmp_path))
    failures: list[BaseException] = []
    store.on_failure = failures.append
    await until(store, is_full=True)
    no_room(store, is_over=True)
    await until(store, is_full=False)

    assert await rows.states([1, 2]) == [TaskState.QUEUED] * 2
    assert (await rows.claim(2)).epoch == 1
    assert failures == []
    await store.close()


async def test_nothing_is_read_while_what_was_told_is_not_in_the_store(tmp_path: Path) -> None:
    rows = await told_without_room(store := quick_store(tmp_path))
    with pytest.raises(Unavailable, match="the disk is full, nothing can be stored; ask again when there is room"):
        await store.task(task_id(1))
    with pytest.raises(StoreFailed, match="no copy can be made: the disk is full"):
        await store.copy_to(tmp_path / "copy")
    with pytest.raises(Unavailable):
        await store.shorten_log()
    await idle(store)  # the thread that would have copied still lets go of it: nobody looks for room meanwhile
    no_room(store, is_over=True)

    assert await rows.states([1, 2]) == [TaskState.QUEUED] * 2, "whoever asks looks whether there is room by now"
    await store.close()


async def test_what_comes_after_a_batch_that_found_no_room_waits_for_it_and_comes_behind_it(tmp_path: Path) -> None:
    rows = await told_without_room(store := quick_store(tmp_path))
    await until(store, is_full=True)
    waiting = asyncio.gather(rows.claim(2), store.commit(FACT))
    for _ in range(20):
        await asyncio.sleep(0)
    was_done = waiting.done()
    await idle(store)
    no_room(store, is_over=True)
    claimed, _ = await waiting

    assert not was_done
    assert (claimed.epoch, claimed.spec) == (1, b"x" * 16_000)
    kinds = [event.kind.value for event in await store.events(0, 10)]
    assert kinds == ["task_queued", "task_queued", "task_assigned", "hub_started"]
    await store.close()


async def test_what_was_kept_back_makes_room_for_what_was_told(tmp_path: Path) -> None:
    space = Space(tmp_path, 256, ask=lambda _folder: (1 << 40, 1 << 40))
    await told_without_room(store := quick_store(tmp_path, space=space))
    await until(store, is_full=True)

    assert (space.state, space.is_armed) == ("full", False)
    no_room(store, is_over=True)
    await store.close()


async def test_a_store_that_is_closed_puts_down_what_found_no_room_before(tmp_path: Path) -> None:
    await told_without_room(store := quick_store(tmp_path))
    await until(store, is_full=True)
    no_room(store, is_over=True)
    await store.close()
    redo_of(tmp_path / "hub.sqlite").unlink()
    again = quick_store(tmp_path)
    await again.open()

    assert await again.task(task_id(2)) is not None
    await again.close()
