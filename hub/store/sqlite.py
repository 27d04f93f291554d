"""The embedded store: one SQLite file, one writing connection, every commit synced to disk.

The writer thread owns the writing connection and applies batches, save short ones of a quick disk while it has nothing
to do (``pace.py``); a second thread reads from a snapshot, so a slow query never holds up a commit. apsw brings its own
SQLite (3.7.0 to 3.51.2 have a bug that can corrupt a WAL). How the file is opened and looked through is
``sqlite_file.py``, how it is copied while it is written ``copying.py``.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw
import structlog

from hub.store import copying, sqlite_file
from hub.store.backend import Backend
from hub.store.changes import AddTasks, AnyChange, AppendLog
from hub.store.hand import Hand
from hub.store.many_changes import Submissions
from hub.store.mark import Mark, check_mark, mark_of
from hub.store.migrate import migrate
from hub.store.pace import Pace, Patience
from hub.store.plain import Plain
from hub.store.queries import migrations, queries
from hub.store.space import Space
from hub.store.sqlite_file import connect, is_damage, said
from hub.store.sqlite_statements import REFUSALS, SqliteStatements, at_once
from hub.store.writer import Landed, Written, awaited
from protocol.errors import ReadOnly, StorageFull, StoreDamaged, StoreFailed, Unavailable

log = structlog.get_logger(__name__)
T = TypeVar("T")
DISPENSABLE: Final = (AddTasks, Submissions, AppendLog)
"""What a full disk refuses: its senders can send it again, or do without."""
_NO_ROOM: Final = StorageFull("the hub's disk is full; new tasks are taken in again when there is room", 5.0)
FULL_PAUSE_S: Final = 0.25
"""How long a batch that found no room waits before it looks again."""
LONG_LOG_PAGES: Final = 3_000
"""From here on the write-ahead log is copied into the store before the next batch: 12 MiB, three times SQLite's own.

The pages at the ends of tables and indices change in every batch, and are copied once for all of them.
"""
READ_S: Final = 2.0
"""A reader that is older than this keeps the write-ahead log from being used again, so it is stopped."""
READ_STEPS: Final = 20_000
"""Steps of SQLite's machine between two looks at the clock: about a millisecond."""


class SqliteStore(Backend):
    """A :class:`hub.store.store.Store` in one file; ``:memory:`` for tests."""

    def __init__(
        self,
        path: Path | str,
        *,
        busy_s: float = 10.0,
        space: Space | None = None,
        read_only: bool = False,
        deep: bool = False,
        max_checked_bytes: int = sqlite_file.MAX_CHECKED_BYTES,
        pace: Pace | None = None,
    ) -> None:
        """Prepare a store; :meth:`open` opens it.

        Args:
            path: the file; it is made if it is new, for its owner alone.
            busy_s: how long another program may hold the file before nothing can be promised any more.
            space: the room on its disk, with a part of it kept back.
            read_only: show what is there, change nothing; a store that is damaged can be looked at so.
            deep: look through everything before serving, however large it is.
            max_checked_bytes: up to this size the store is looked through before it serves in any case.
            pace: says when the disk is quick enough for the event loop to wait for it.
        """
        super().__init__("sqlite")
        self._path, self._busy_s, self._patience = str(path), busy_s, Patience(busy_s)
        self._is_memory = self._path == ":memory:"
        self._is_read_only, self._is_deep, self._max_checked_bytes = read_only, deep, max_checked_bytes
        self._sql = queries("sqlite")
        self._write_thread = Hand("store-write")
        self._read_thread = self._write_thread if self._is_memory else Hand("store-read")
        self._writing: apsw.Connection | None = None
        self._reading: apsw.Connection | None = None
        self._statements: SqliteStatements | None = None
        self._verbs: Plain | None = None
        self._mark: Mark | None = None
        self._pace = pace or Pace()
        self._is_closed = False
        self._is_doubtful = False
        self._failure: StoreFailed | None = None  # of what comes after a commit; nothing may be written any more
        self._log_pages = 0
        self._closing = asyncio.Event()
        self._space = space
        self._is_without_room = False
        self._write_without_room = awaited(self._apply_without_room)
        self._read_until = float("inf")

    # --- life ---------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the file, look through it, bring its schema up to date, start the writer.

        Raises:
            StoreDamaged: it is not what was written.
            StoreFailed: the file cannot be used; the text says why and what to do.
        """
        if self._is_read_only:
            self._writer.refuse(ReadOnly())
        begin = self._open_read_only if self._is_read_only else self._open
        try:
            await self._in(self._write_thread, begin)
        except StoreFailed as exc:
            # A start writes a little, too: it gets what was kept back for such a day.
            if not isinstance(exc.__cause__, apsw.FullError) or self._space is None or not self._space.release():
                raise
            await self._in(self._write_thread, begin)
        if not self._is_read_only:
            self._writer.start()

    def _open(self) -> None:
        try:
            if not self._is_memory:
                self._check_place()
                Path(self._path).touch(mode=0o600)  # SQLite gives its companions the rights of the file
            self._writing = connect(self._path, self._busy_s)
            if not self._is_memory:
                sqlite_file.check_pages(self._writing, self._path, deep=self._is_deep, limit=self._max_checked_bytes)
            migrate(self._writing)
            self._writing.set_wal_hook(self._grown)
            self._writing.set_busy_handler(self._patience)
            self._statements = SqliteStatements(self._writing)
            self._verbs = Plain(self._statements)
            self._look()
            if not self._is_memory:
                found = sqlite_file.progress(self._writing)
                check_mark(Path(self._path), found)
                self._mark = Mark(Path(self._path), found)
            self._reading = self._writing if self._is_memory else connect(self._path, self._busy_s)
            if not self._is_memory:
                self._reading.set_progress_handler(self._is_late, READ_STEPS)
        except (apsw.Error, OSError) as exc:
            raise self._unusable(exc) from exc

    def _open_read_only(self) -> None:
        try:
            sqlite_file.check_header(Path(self._path))
            self._reading = self._writing = connect(self._path, self._busy_s, read_only=True)
            schema, known = sqlite_file.schema_of(self._reading), len(migrations("sqlite"))
            if schema != known:
                raise StoreFailed(
                    f"the store has schema {schema}, this build reads {known}; look at it with its own build"
                )
            self._look()
            self._reading.set_progress_handler(self._is_late, READ_STEPS)
            self.damage = sqlite_file.damage_of(self._reading, Path(self._path))
        except (apsw.Error, OSError) as exc:
            raise self._unusable(exc) from exc

    def _check_place(self) -> None:
        path = Path(self._path)
        if not path.exists() and mark_of(path).exists():
            raise StoreDamaged(self._path, "the file is gone, though a store was here")
        sqlite_file.check_header(path)

    def _look(self) -> None:
        assert self._writing is not None, "the store is open"
        self.newest_event = copying.number(self._writing, self._sql["last_event"])

    def _unusable(self, exc: Exception) -> StoreFailed:
        if is_damage(exc):
            return StoreDamaged(self._path, said(exc))
        return StoreFailed(f"cannot open the store {self._path}: {exc}; restore a backup or use another --data-dir")

    async def close(self) -> None:
        """Write what waits and close; closing twice is closing once."""
        if self._is_closed:
            return
        self._is_closed = True
        self._closing.set()
        await self._writer.close()

        def shut() -> None:
            for connection in {id(c): c for c in (self._reading, self._writing) if c is not None}.values():
                if self._is_doubtful:
                    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                connection.close()
            if self._mark is not None:
                self._mark.close()

        await self._in(self._write_thread, shut)
        self._write_thread.shutdown()
        self._read_thread.shutdown()

    # --- writing ------------------------------------------------------------------------------------------------------

    @property
    def trouble(self) -> str:
        """That no commit finds room, not even with what was kept back; empty if all is well."""
        return "the disk is full, nothing can be stored" if self._is_without_room else ""

    def _begin(self, batch: list[AnyChange], landed: Landed) -> None:
        loop = asyncio.get_running_loop()
        if self._has_begun_here(batch):
            if self._write(batch, landed, loop.call_soon) and self._log_pages >= LONG_LOG_PAGES:
                self._write_thread.post(partial(self._see_to_rest, loop))
        else:
            self._write_thread.post(partial(self._write_away, batch, landed, loop))

    def _has_begun_here(self, batch: list[AnyChange]) -> bool:
        """Whether a batch is written here and now; then its transaction has begun."""
        assert self._verbs is not None, "the store is open"
        if not (self._pace.is_quick and self._write_thread.is_idle and self._verbs.is_short(batch)):
            return False
        assert self._statements is not None, "the store is open"
        if self._failure is not None:
            return False
        self._patience.may_wait = False
        try:
            self._statements.execute("BEGIN IMMEDIATE")
        except apsw.Error:
            return False  # another program holds the file, or worse: the thread waits for it, or says what it is
        finally:
            self._patience.may_wait = True
        return True

    def _write_away(self, batch: list[AnyChange], landed: Landed, loop: asyncio.AbstractEventLoop) -> None:
        """Write a batch, tell the loop of it, and see to the rest; in the writer's thread."""
        if self._write(batch, landed, loop.call_soon_threadsafe):
            self._see_to_rest(loop)

    def _write(self, batch: list[AnyChange], landed: Landed, tell: Callable[..., object]) -> bool:
        """Write a batch, and ``tell`` the loop of it; whether it was stored."""
        began = time.monotonic()
        try:
            written = self._apply_now(batch)
        except apsw.FullError:
            tell(self._write_without_room, batch, landed)
        except BaseException as exc:  # noqa: BLE001 - the writer fails by it, whatever it is
            tell(landed, exc)
        else:
            self._pace.took(time.monotonic() - began)
            tell(landed, written)
            return True
        return False

    def _see_to_rest(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to what a commit leaves to do, in the writer's thread."""
        try:
            self._follow_up()
        except StoreFailed as exc:
            loop.call_soon_threadsafe(self._writer.fail, exc)

    def _apply_wholly(self, batch: list[AnyChange]) -> Written:
        """Write a batch with what follows; what the one before it has left to do comes first, and may make room."""
        self._follow_up()
        written = self._apply_now(batch)
        self._follow_up()
        return written

    async def _apply_without_room(self, batch: list[AnyChange]) -> Written:
        """The batch without what can be had again, on what was kept back; tried until there is room for it.

        Nothing of it was stored, and nothing is answered before it is: that is what tells a full disk from a broken
        one.
        """
        needed: list[AnyChange] = [change for change in batch if not isinstance(change, DISPENSABLE)]
        if self._space is not None:
            self._space.release()
        while True:
            try:
                done, events = await self._in(self._write_thread, lambda: self._apply_wholly(needed))
            except apsw.FullError:
                self._is_without_room = True
                await self._pause()
            else:
                self._is_without_room = False
                outcomes = iter(done)
                return [_NO_ROOM if isinstance(change, DISPENSABLE) else next(outcomes) for change in batch], events

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._closing.wait(), FULL_PAUSE_S)
        except TimeoutError:
            return
        raise StoreFailed("the hub stops while its disk is full; what waited was not acknowledged")

    def _grown(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _follow_up(self) -> None:
        """See to what a commit leaves to do; nobody who waits for the commit waits for this.

        Raises:
            StoreFailed: it went wrong; nothing is written after it.
        """
        try:
            self._copy_log()
        except apsw.Error as exc:
            if not _is_full(exc):
                self._failure = self._failed(exc)
                raise self._failure from exc

    def _copy_log(self) -> None:
        """Copy the write-ahead log into the store, if it is long: SQLite does so too, but keeps what fails to itself.

        A sync that fails here is as bad as one of a commit. Without room, or with a reader in the way, the log goes on
        for now, and the next batch tries again.
        """
        if self._log_pages >= LONG_LOG_PAGES:
            assert self._writing is not None, "the store is open"
            with contextlib.suppress(apsw.BusyError, apsw.LockedError):
                self._writing.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _apply_now(self, batch: list[AnyChange]) -> Written:
        assert self._verbs is not None, "the store is open"
        if self._failure is not None:
            raise self._failure
        try:
            try:
                return self._transaction(self._verbs.batch, batch)
            except REFUSALS:
                # A bug in one verb must not take the others of its batch along: once more, each undone by itself.
                log.exception("batch_failed", changes=len(batch))
                return self._transaction(self._verbs.each, batch)
        except apsw.FullError:
            raise
        except apsw.Error as exc:
            if _is_full(exc):
                raise apsw.FullError(str(exc)) from exc
            raise self._failed(exc) from exc

    def _failed(self, exc: apsw.Error) -> StoreFailed:
        """What an error means after which nothing can be promised any more."""
        # The WAL may lack what a failed sync has dropped. Its checksums tell the next start where it ends; copied
        # into the database as the last connection closes, its gaps would be damage.
        self._is_doubtful = True
        if is_damage(exc):
            return StoreDamaged(self._path, said(exc))
        return StoreFailed(f"the store {self._path} cannot be written: {exc}")

    def _transaction(self, apply: Callable[[list[AnyChange]], Coroutine[Any, Any, T]], batch: list[AnyChange]) -> T:
        assert self._statements is not None, "the store is open"
        assert self._writing is not None, "the store is open"
        execute = self._statements.execute
        if not self._writing.in_transaction:
            execute("BEGIN IMMEDIATE")
        try:
            done = at_once(apply(batch))
            execute("COMMIT")
        except BaseException:
            assert self._verbs is not None, "the store is open"
            self._verbs.lost()
            if self._writing.in_transaction:
                execute("ROLLBACK")
            raise
        if self._mark is not None:  # before anybody is told: what was acknowledged is missed if it is gone
            self._mark.write(self._statements.commits)
        return done

    # --- upkeep -------------------------------------------------------------------------------------------------------

    @property
    def wal_bytes(self) -> int:
        """Size of the write-ahead log."""
        try:
            return Path(f"{self._path}-wal").stat().st_size
        except OSError:
            return 0

    async def shorten_log(self) -> bool:
        """Put the write-ahead log into the store and cut it off; ``False`` if a reader is in the way (try again)."""
        return await self._in(self._write_thread, self._shorten_log)

    def _shorten_log(self) -> bool:
        assert self._writing is not None, "the store is open"
        self._patience.may_wait = False  # a reader is not waited for: commits would wait too
        try:
            busy = copying.number(self._writing, "PRAGMA wal_checkpoint(TRUNCATE)")
        except apsw.BusyError:
            return False
        finally:
            self._patience.may_wait = True
        return not busy

    async def copy_to(self, path: Path) -> None:
        """Copy the store as it is at the end of the copy, beside running commits.

        Raises:
            StoreDamaged: the store is not what was written.
            StoreFailed: the copy cannot be written.
        """
        assert self._writing is not None, "the store is open"
        try:
            await copying.copy(lambda step: self._in(self._write_thread, step), self._writing, path)
        except StoreDamaged as exc:
            self._found_damage(exc)
            raise

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _in(self, thread: Hand, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, call)

    def _is_late(self) -> bool:
        return time.monotonic() > self._read_until

    async def _rows(self, name: str, *values: Any) -> list[tuple[Any, ...]]:
        def read() -> list[tuple[Any, ...]]:
            assert self._reading is not None, "the store is open"
            self._read_until = time.monotonic() + READ_S
            return self._reading.execute(self._sql[name], values).fetchall()

        try:
            return await self._in(self._read_thread, read)
        except apsw.InterruptError as exc:
            raise Unavailable(f"reading took longer than {READ_S:g} s and was stopped; ask for less at once") from exc
        except apsw.Error as exc:
            if not is_damage(exc):
                raise
            damage = StoreDamaged(self._path, said(exc))
            self._found_damage(damage)
            raise damage from exc

    async def _next_boot(self, now_ms: int) -> int:
        if self._is_read_only:
            return 0
        assert self._writing is not None, "the store is open"
        writing, query = self._writing, self._sql["next_boot"]
        try:
            try:
                return await self._in(self._write_thread, lambda: copying.number(writing, query, now_ms))
            except apsw.FullError:
                if self._space is None or not self._space.release():
                    raise
            return await self._in(self._write_thread, lambda: copying.number(writing, query, now_ms))
        except apsw.Error as exc:
            if is_damage(exc):
                raise StoreDamaged(self._path, said(exc)) from exc
            raise StoreFailed(f"cannot start: the store {self._path} cannot be written: {exc}") from exc


def _is_full(exc: apsw.Error) -> bool:
    """Whether there was no room, if only for the index of the log."""
    return isinstance(exc, apsw.FullError) or getattr(exc, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE
