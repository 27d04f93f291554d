"""Copy an embedded store while it is written, and look through the copy before anybody relies on it.

The copy is made by SQLite's backup interface on the writing connection itself, a few pages at a time between two
batches: what is committed meanwhile reaches the copy too, so it never has to begin again, and no reader keeps the
write-ahead log from being used again. A copy counts only when it has been opened, read to the end and compared with
what it says of itself. Callers: ``sqlite.py``; ``hub/recovery.py`` for a store that nobody uses.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, cast

import apsw
import structlog
from msgspec import Struct

from hub.store import sqlite_file
from hub.store.migrate import missing
from hub.store.queries import migrations, queries
from hub.store.sqlite_file import check_whole, connect, is_damage, said, schema_of
from protocol.errors import StoreDamaged, StoreFailed

log = structlog.get_logger(__name__)
STEP_S: Final = 0.002
"""How long a step may keep the next commit waiting."""
SHARE: Final = 0.5
"""Part of the time that the copy may take from the writer."""
FIRST_PAGES: Final = 32
MAX_PAGES: Final = 4096
_BUSY_S: Final = 10.0

Run = Callable[[Callable[[], bool]], Awaitable[bool]]


class CopyFacts(Struct, frozen=True, kw_only=True):
    """What a copy that was looked through holds."""

    at_ms: int
    """When it was made (Unix ms); of a store that is no copy, when its last event happened."""
    tasks: int
    newest_event: int
    size_bytes: int
    schema: int


async def copy(run: Run, end: Run, source: apsw.Connection, path: Path) -> None:
    """Copy ``source`` to ``path`` as it is at the end of the copy.

    Args:
        run: runs a step where ``source`` may be used, between other work.
        end: runs the last one there, whatever has come before.
    Raises:
        StoreDamaged: the source is not what was written.
        StoreFailed: the copy cannot be written.
    """
    steps = _Steps(source, path)
    try:
        while await run(steps.step):  # noqa: ASYNC110 - the sleep is room for others, it waits for nothing
            await asyncio.sleep(steps.took_s * (1 - SHARE) / SHARE)
    finally:
        await end(steps.close)


class _Steps:
    """A copy under way. The size of a step follows the time that the last one took."""

    def __init__(self, source: apsw.Connection, path: Path) -> None:
        self._source, self._path = source, path
        self._target: apsw.Connection | None = None
        self._backup: Any = None
        self._pages = FIRST_PAGES
        self.took_s = 0.0

    def step(self) -> bool:
        """Copy some pages; ``False`` when all are there."""
        began = time.perf_counter()
        try:
            if self._backup is None:
                self._target = connect(str(self._path), _BUSY_S, is_alone=True)
                # The layers below learn from the first page that there are checksums; others may be written before it.
                self._target.execute("PRAGMA user_version = 1")
                self._backup = self._target.backup("main", self._source, "main")
            is_done = bool(self._backup.step(self._pages))
        except apsw.BusyError:
            is_done = False  # somebody else reads or checkpoints: the next step will do
        except apsw.Error as exc:
            if is_damage(exc):
                raise StoreDamaged(self._source.filename, said(exc)) from exc
            raise StoreFailed(f"cannot write the copy {self._path}: {exc}") from exc
        self.took_s = max(time.perf_counter() - began, 1e-6)
        self._pages = max(1, min(MAX_PAGES, int(self._pages * min(2.0, STEP_S / self.took_s))))
        return not is_done

    def close(self) -> bool:
        """Let go of both ends; says nothing of whether the copy is whole."""
        for part in (self._backup, self._target):
            if part is not None:
                part.close(True)  # noqa: FBT003 - force: the parameter has no name in both classes
        return True


def copy_whole(source: Path, path: Path, *, as_it_is: bool = False) -> None:
    """Copy a store that nobody writes to, with what is in the log and in the journal beside it.

    Args:
        as_it_is: commits may be missing between store and journal; then the copy is the store without its journal.
    Raises:
        StoreDamaged, StoreFailed: as :func:`copy`.
    """
    sqlite_file.check_header(source)
    try:
        reading = connect(str(source), _BUSY_S, read_only=True)
    except apsw.Error as exc:
        raise StoreFailed(f"cannot read {source}: {exc}") from exc
    steps = _Steps(reading, path)
    try:
        while steps.step():
            continue
    finally:
        steps.close()
        reading.close()
    try:
        _replay(source, path)
    except StoreDamaged as exc:
        if not as_it_is:
            raise
        log.warning("journal_left_out", path=str(source), why=exc.damage)


def _replay(source: Path, path: Path) -> None:
    """Put into a copy what the journal of its source holds beyond it."""
    try:
        copied = connect(str(path), _BUSY_S, is_alone=True)
        try:
            sqlite_file.replay(copied, source)
        finally:
            copied.close()
    except (apsw.Error, OSError) as exc:
        if is_damage(exc):
            raise StoreDamaged(str(path), said(exc)) from exc
        raise StoreFailed(f"cannot write the copy {path}: {exc}") from exc


def settle(path: Path, at_ms: int) -> CopyFacts:
    """Look through a fresh copy, write down when it was made, put it on disk.

    Raises:
        StoreDamaged: it is not what it should be.
        StoreFailed: it cannot be written.
    """
    sql = queries("sqlite")
    try:
        connection = connect(str(path), _BUSY_S, is_alone=True)
        try:
            connection.execute(sql["set_copied"], (at_ms,))
            facts = _looked_through(connection, path)
        finally:
            connection.close()
    except apsw.Error as exc:
        if is_damage(exc):
            raise StoreDamaged(str(path), said(exc)) from exc
        raise StoreFailed(f"cannot check the copy {path}: {exc}") from exc
    sync(path)
    return facts


def look_through(path: Path) -> CopyFacts:
    """Look through a store that nobody writes to, with whatever log lies beside it.

    Raises:
        StoreDamaged: it is not what was written, or no store at all.
        StoreFailed: it cannot be read, or a newer build wrote it.
    """
    sqlite_file.check_header(path)
    try:
        connection = connect(str(path), _BUSY_S, read_only=True)
        try:
            return _looked_through(connection, path)
        finally:
            connection.close()
    except apsw.Error as exc:
        if is_damage(exc):
            raise StoreDamaged(str(path), said(exc)) from exc
        raise StoreFailed(f"cannot read {path}: {exc}") from exc


def _looked_through(connection: apsw.Connection, path: Path) -> CopyFacts:
    schema = schema_of(connection)
    if not schema:
        raise StoreDamaged(str(path), "it is empty, or no store of a hub")
    missing(migrations("sqlite"), schema)  # raises if a newer build wrote it
    if not sqlite_file.has_checksums(connection):
        raise StoreDamaged(str(path), "its pages carry no checksums")
    check_whole(connection, str(path), deep=True)
    sql = queries("sqlite")
    counted = {state: n for state, n in connection.execute(sql["counts"]).fetchall() if n}
    found = dict(cast("list[tuple[str, int]]", connection.execute(sql["count_rows"]).fetchall()))
    if counted != found:
        raise StoreDamaged(str(path), f"its tasks do not add up: {counted} by its count, {found} by its rows")
    if number(connection, sql["count_without_spec"]):
        raise StoreDamaged(str(path), "tasks are there without what they should do")
    newest, last = number(connection, sql["last_event"]), number(connection, sql["last_event_row"])
    if last > newest:
        raise StoreDamaged(str(path), f"event {last} is there, its count ends at {newest}")
    return CopyFacts(
        at_ms=number(connection, sql["copied"]) or number(connection, sql["last_event_at"]),
        tasks=sum(found.values()),
        newest_event=newest,
        size_bytes=path.stat().st_size,
        schema=schema,
    )


def number(connection: apsw.Connection, query: str, *values: int) -> int:
    """The one number that a query finds; 0 for none."""
    rows: Any = connection.execute(query, values).fetchall()
    return int(rows[0][0] or 0) if rows else 0


def sync(path: Path) -> None:
    """Put a file and its name on disk.

    Raises:
        StoreFailed: the disk does not take it.
    """
    try:
        for each, flags in ((path, os.O_RDWR), (path.parent, os.O_RDONLY)):
            handle = os.open(each, flags | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    except OSError as exc:
        raise StoreFailed(f"cannot put {path} on disk: {exc.strerror or exc}") from exc
