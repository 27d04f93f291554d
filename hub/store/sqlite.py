"""The embedded store: one SQLite file, one writing connection, every commit synced to disk.

The writer thread owns the writing connection and applies batches; a second thread reads from a snapshot, so a slow
query never holds up a commit. apsw brings its own SQLite (3.7.0 to 3.51.2 have a bug that can corrupt a WAL).
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import apsw
import structlog

from hub.store.backend import Backend
from hub.store.changes import AddTasks, AnyChange, AppendLog, Outcome
from hub.store.migrate import migrate
from hub.store.queries import queries
from hub.store.space import Space
from hub.store.verbs import Verbs
from protocol.errors import StorageFull, StoreFailed
from protocol.events import Event

log = structlog.get_logger(__name__)
T = TypeVar("T")
OLDEST_SQLITE: Final = (3, 51, 3)
DISPENSABLE: Final = (AddTasks, AppendLog)
"""What a full disk refuses: its senders can send it again, or do without."""
_NO_ROOM: Final = StorageFull("the hub's disk is full; new tasks are taken in again when there is room", 5.0)
FULL_PAUSE_S: Final = 0.25
"""How long a batch that found no room waits before it looks again."""
LONG_LOG_PAGES: Final = 1_000
"""From here on the write-ahead log is copied into the store before the next batch; SQLite's own number."""
REFUSALS: Final = (
    apsw.ConstraintError,
    apsw.MismatchError,
    apsw.TooBigError,
    apsw.RangeError,
    apsw.SQLError,
    ArithmeticError,
    TypeError,
    ValueError,
)
"""What the database says of a single change that no row can hold (a broken constraint, a number beyond 64 bits).

Everything else that it says (the disk is full, another program holds the file) is true of all changes: none of them may
be answered as if it had been looked at.
"""


class SqliteStore(Backend):
    """A :class:`hub.store.store.Store` in one file; ``:memory:`` for tests."""

    def __init__(self, path: Path | str, *, busy_s: float = 10.0, space: Space | None = None) -> None:
        """Prepare a store; :meth:`open` opens it.

        Args:
            path: the file; it is made if it is new, for its owner alone.
            busy_s: how long another program may hold the file before nothing can be promised any more.
            space: the room on its disk, with a part of it kept back.
        """
        super().__init__("sqlite")
        self._path, self._busy_s = str(path), busy_s
        self._is_memory = self._path == ":memory:"
        self._sql = queries("sqlite")
        self._write_thread = ThreadPoolExecutor(1, "store-write")
        self._read_thread = self._write_thread if self._is_memory else ThreadPoolExecutor(1, "store-read")
        self._writing: apsw.Connection | None = None
        self._reading: apsw.Connection | None = None
        self._verbs: Verbs | None = None
        self._is_closed = False
        self._is_doubtful = False
        self._log_pages = 0
        self._closing = asyncio.Event()
        self._space = space
        self._is_without_room = False

    # --- life ---------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the file, bring its schema up to date, start the writer.

        Raises:
            StoreFailed: the file cannot be used; the text says why and what to do.
        """
        try:
            await self._in(self._write_thread, self._open)
        except StoreFailed as exc:
            # A start writes a little, too: it gets what was kept back for such a day.
            if not isinstance(exc.__cause__, apsw.FullError) or self._space is None or not self._space.release():
                raise
            await self._in(self._write_thread, self._open)
        self._writer.start()

    def _open(self) -> None:
        try:
            if not self._is_memory:
                Path(self._path).touch(mode=0o600)  # SQLite gives its companions the rights of the file
            self._writing = _connect(self._path, self._busy_s)
            migrate(self._writing)
            self._writing.set_wal_hook(self._grown)
            self._verbs = Verbs(SqliteStatements(self._writing))
            self.newest_event = _number(self._writing, self._sql["last_event"])
            self._reading = self._writing if self._is_memory else _connect(self._path, self._busy_s)
        except (apsw.Error, OSError) as exc:
            raise StoreFailed(
                f"cannot open the store {self._path}: {exc}; restore a backup or use another --data-dir"
            ) from exc

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

        await self._in(self._write_thread, shut)
        self._write_thread.shutdown()
        self._read_thread.shutdown()

    # --- writing ------------------------------------------------------------------------------------------------------

    @property
    def trouble(self) -> str:
        """That no commit finds room, not even with what was kept back; empty if all is well."""
        return "the disk is full, nothing can be stored" if self._is_without_room else ""

    async def _apply(self, batch: list[AnyChange]) -> tuple[list[Outcome], list[Event]]:
        try:
            return await self._in(self._write_thread, lambda: self._apply_now(batch))
        except apsw.FullError:
            return await self._apply_without_room(batch)

    async def _apply_without_room(self, batch: list[AnyChange]) -> tuple[list[Outcome], list[Event]]:
        """The batch without what can be had again, on what was kept back; tried until there is room for it.

        Nothing of it was stored, and nothing is answered before it is: that is what tells a full disk from a broken
        one.
        """
        needed: list[AnyChange] = [change for change in batch if not isinstance(change, DISPENSABLE)]
        if self._space is not None:
            self._space.release()
        while True:
            try:
                done, events = await self._in(self._write_thread, lambda: self._apply_now(needed))
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

    def _copy_log(self) -> None:
        """Copy the write-ahead log into the store, if it is long: SQLite does so too, but keeps what fails to itself.

        A sync that fails here is as bad as one of a commit. Without room, or with a reader in the way, the log goes on
        for now, and the next batch tries again.
        """
        if self._log_pages >= LONG_LOG_PAGES:
            assert self._writing is not None, "the store is open"
            with contextlib.suppress(apsw.FullError, apsw.BusyError, apsw.LockedError):
                self._writing.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _apply_now(self, batch: list[AnyChange]) -> tuple[list[Outcome], list[Event]]:
        assert self._writing is not None, "the store is open"
        assert self._verbs is not None, "the store is open"
        try:
            self._copy_log()
            try:
                return _transaction(self._writing, self._verbs.batch, batch)
            except REFUSALS:
                # A bug in one verb must not take the others of its batch along: once more, each undone by itself.
                log.exception("batch_failed", changes=len(batch))
                return _transaction(self._writing, self._verbs.each, batch)
        except apsw.FullError:
            raise
        except apsw.Error as exc:
            if getattr(exc, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE:  # full too: the index of its log
                raise apsw.FullError(str(exc)) from exc
            # The WAL may lack what a failed sync has dropped. Its checksums tell the next start where it ends; copied
            # into the database as the last connection closes, its gaps would be damage.
            self._is_doubtful = True
            raise StoreFailed(f"the store {self._path} cannot be written: {exc}") from exc

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _in(self, thread: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, call)

    async def _rows(self, name: str, *values: Any) -> list[tuple[Any, ...]]:
        def read() -> list[tuple[Any, ...]]:
            assert self._reading is not None, "the store is open"
            return self._reading.execute(self._sql[name], values).fetchall()

        return await self._in(self._read_thread, read)

    async def _next_boot(self, now_ms: int) -> int:
        assert self._writing is not None, "the store is open"
        writing = self._writing
        try:
            try:
                return await self._in(self._write_thread, lambda: _number(writing, self._sql["next_boot"], now_ms))
            except apsw.FullError:
                if self._space is None or not self._space.release():
                    raise
            return await self._in(self._write_thread, lambda: _number(writing, self._sql["next_boot"], now_ms))
        except apsw.Error as exc:
            raise StoreFailed(f"cannot start: the store {self._path} cannot be written: {exc}") from exc


class SqliteStatements:
    """The writing connection for :class:`Verbs`: every statement is answered before the call returns."""

    refusals: ClassVar[tuple[type[Exception], ...]] = REFUSALS
    fatal: ClassVar[tuple[type[Exception], ...]] = ()

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._sql = queries("sqlite")

    def why(self, exc: Exception) -> str:
        """A refusal in words."""
        return str(exc)

    async def rows(self, name: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        """What the query finds."""
        # Read to the end: a RETURNING statement that is left half-way keeps the transaction from committing.
        return self._cursor.execute(self._sql[name], values).fetchall()

    async def changed(self, name: str, *values: Any) -> int:
        """Rows that the statement has changed."""
        self._cursor.execute(self._sql[name], values)
        return self._connection.changes()

    async def many(self, name: str, values: Sequence[tuple[Any, ...]]) -> None:
        """The statement once for each of ``values``."""
        self._cursor.executemany(self._sql[name], values)


def _transaction(
    connection: apsw.Connection, apply: Callable[[list[AnyChange]], Coroutine[Any, Any, T]], batch: list[AnyChange]
) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        done = _at_once(apply(batch))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return done


def _at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing, in a thread that has no event loop."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise AssertionError("SQLite answers at once, so its verbs wait for nothing")


def _number(connection: apsw.Connection, query: str, *values: int) -> int:
    found: Any = connection.execute(query, values).fetchall()[0][0]
    return int(found or 0)


def _connect(path: str, busy_s: float) -> apsw.Connection:
    if tuple(int(part) for part in apsw.sqlite_lib_version().split(".")) < OLDEST_SQLITE:
        message = f"SQLite {apsw.sqlite_lib_version()} has a known corruption bug; install apsw 3.51.3 or newer"
        raise StoreFailed(message)
    connection = apsw.Connection(path, statementcachesize=200)
    connection.set_busy_timeout(int(busy_s * 1000))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # NORMAL loses acknowledged commits in a power cut
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection
