"""Stores whose short batches go to the redo journal, and what lies in it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hub.store.backend import Backend
from hub.store.changes import AnyChange, Outcome
from hub.store.pace import Pace
from hub.store.redo import _records, redo_of
from hub.store.sqlite import SqliteStore
from hub.store.sqlite_file import connect, progress
from tests.support.stores import Rows, new_task

T = TypeVar("T")


def quick_store(folder: Path, **more: Any) -> SqliteStore:
    """A store in ``folder``, not open yet, whose event loop writes all short batches."""
    return SqliteStore(folder / "hub.sqlite", **{"pace": Pace(60.0), **more})


async def ready(folder: Path, **more: Any) -> Rows:
    """Such a store, open, with task 0; what comes next goes to the journal if it is short.

    The first batch does not: before it nothing is known of what lies in the log. That is empty then.
    """
    rows = Rows(quick_store(folder, **more))
    await rows.store.open()
    await idle(rows.store)
    await rows.add(new_task(0))
    assert isinstance(rows.store, SqliteStore)
    assert await rows.store.shorten_log()
    await idle(rows.store)
    return rows


async def idle(store: Backend) -> None:
    """Wait until the writer's thread has put down what it did last: before that no batch is the event loop's."""
    assert isinstance(store, SqliteStore)
    async with asyncio.timeout(30):
        while not store._write_thread.is_idle:  # noqa: ASYNC110 - the thread says it to nobody by itself
            await asyncio.sleep(0)


def commits_in(path: Path) -> list[int]:
    """The commits in the journal of the store at ``path``, by their places."""
    connection = connect(str(path), 1.0, read_only=True)
    try:
        return [record.commit for record in _records(redo_of(path).read_bytes(), progress(connection).store)]
    finally:
        connection.close()


def owes(store: Backend) -> bool:
    """Whether something was told that is not in the store yet."""
    assert isinstance(store, SqliteStore)
    assert store._transactions is not None
    return store._transactions.owes


async def told(store: Backend, change: AnyChange, look: Callable[[], T]) -> T:
    """What there is to see in the moment in which the outcome of a change is told."""
    seen: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def done(outcome: Outcome) -> None:
        if isinstance(outcome, Exception):
            seen.set_exception(outcome)
        else:
            seen.set_result(look())

    store.post(change, done)
    return await seen
