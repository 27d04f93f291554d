"""The embedded store: one SQLite file, one writing connection, every commit synced to disk.

The writer thread owns the writing connection and applies batches, save short ones of a quick disk while it has nothing
to do (``pace.py``): those are written on the event loop, and what they leave to do is done before anything else is
asked of the store. A second thread reads from a snapshot, so a slow query never holds up a commit. apsw brings its own
SQLite (3.7.0 to 3.51.2 have a bug that can corrupt a WAL). How a batch is made to last is ``sqlite_transactions.py``,
how the file is opened and looked through ``sqlite_file.py``, how it is copied while it is written ``copying.py``.
"""

import asyncio
import time
from collections.abc import Callable
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
from hub.store.mark import Mark, check_mark
from hub.store.migrate import migrate
from hub.store.pace import Pace, Patience
from hub.store.queries import migrations, queries
from hub.store.redo import OpenRedo, Redo, RedoFile, redo_of
from hub.store.space import Space
from hub.store.sqlite_file import connect, is_damage, said
from hub.store.sqlite_transactions import Transactions
from hub.store.writer import Landed, Written, awaited
from protocol.errors import ReadOnly, StorageFull, StoreDamaged, StoreFailed, Unavailable

log = structlog.get_logger(__name__)
T = TypeVar("T")
DISPENSABLE: Final = (AddTasks, Submissions, AppendLog)
"""What a full disk refuses: its senders can send it again, or do without."""
_NO_ROOM: Final = StorageFull("the hub's disk is full; new tasks are taken in again when there is room", 5.0)
FULL_PAUSE_S: Final = 0.25
"""How long a batch that found no room waits before it looks again."""
ANSWER_TURNS: Final = 2
"""Turns of the loop from a commit to its last answer: assignments leave at once, then outcomes are told."""
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
        open_redo: OpenRedo = RedoFile,
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
            open_redo: opens the file of the redo journal.
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
        self._transactions: Transactions | None = None
        self._pace, self._open_redo = pace or Pace(), open_redo
        self._paying: asyncio.TimerHandle | None = None
        self._debts, self._took_s = 0, 0.0  # batches that were noted; seconds that the last of them took
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
                sqlite_file.check_place(Path(self._path))
                Path(self._path).touch(mode=0o600)  # SQLite gives its companions the rights of the file
            self._writing = connect(self._path, self._busy_s)
            if not self._is_memory:
                sqlite_file.check_pages(self._writing, self._path, deep=self._is_deep, limit=self._max_checked_bytes)
                sqlite_file.replay(self._writing, Path(self._path))
            migrate(self._writing)
            self._look()
            mark = redo = None
            if not self._is_memory:
                found = sqlite_file.progress(self._writing)
                check_mark(Path(self._path), found)
                sqlite_file.settle_log(self._writing)
                mark, redo = Mark(Path(self._path), found), self._redo(found.store)
            self._transactions = Transactions(self._writing, self._path, self._patience, mark, redo)
            self._reading = self._writing if self._is_memory else connect(self._path, self._busy_s)
            if not self._is_memory:
                self._reading.set_progress_handler(self._is_late, READ_STEPS)
        except (apsw.Error, OSError) as exc:
            raise sqlite_file.unusable(self._path, exc) from exc

    def _redo(self, store: int) -> Redo | None:
        try:
            return Redo(self._open_redo(redo_of(Path(self._path))), store)
        except OSError as exc:
            log.warning("redo_not_made", error=exc.strerror or str(exc), next="every commit is synced with the store")
            return None

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
            raise sqlite_file.unusable(self._path, exc) from exc

    def _look(self) -> None:
        assert self._writing is not None, "the store is open"
        self.newest_event = copying.number(self._writing, self._sql["last_event"])

    async def close(self) -> None:
        """Write what waits and close; closing twice is closing once."""
        if self._closing.is_set():
            return
        self._closing.set()
        await self._writer.close()
        if self._paying is not None:
            self._paying.cancel()
        self._pay_or_fail()  # what finds no room is in the journal, for the next start
        transactions, self._transactions = self._transactions, None

        def shut() -> None:
            if self._reading is not None and self._reading is not self._writing:
                self._reading.close()
            if (writing := transactions or self._writing) is not None:
                writing.close()

        await self._at(self._write_thread, shut)
        self._write_thread.shutdown()
        self._read_thread.shutdown()

    # --- writing ------------------------------------------------------------------------------------------------------

    @property
    def trouble(self) -> str:
        """That no commit finds room, not even with what was kept back; empty if all is well."""
        return "the disk is full, nothing can be stored" if self._is_without_room else ""

    def _begin(self, batch: list[AnyChange], landed: Landed) -> None:
        assert self._transactions is not None, "the store is open"
        try:
            is_paid = self._pays()
        except StoreFailed as exc:
            landed(exc)
            return
        if not is_paid:
            self._write_without_room(batch, landed)
            return
        loop = asyncio.get_running_loop()
        is_short = self._transactions.verbs.is_short(batch)
        if is_short and self._begins_here():
            self._write_here(batch, landed, loop)
        else:
            self._write_thread.post(partial(self._write_away, batch, landed, loop, is_short=is_short))

    def _begins_here(self) -> bool:
        """Begin the transaction of a short batch, if it is to be written here and now; whether it has begun."""
        assert self._transactions is not None, "the store is open"
        return self._pace.is_quick and self._write_thread.is_idle and self._transactions.begins_at_once()

    def _write_here(self, batch: list[AnyChange], landed: Landed, loop: asyncio.AbstractEventLoop) -> None:
        """Write a short batch, tell of it, and see to the rest when whoever waited for it has been told."""
        assert self._transactions is not None, "the store is open"
        took_s = self._write(batch, landed, lambda call, *values: call(*values), may_be_noted=True)
        if self._transactions.owes:
            self._took_s, self._debts = took_s, self._debts + 1
            _turns_later(loop, ANSWER_TURNS, partial(self._pay_debt, self._debts))
        elif took_s:
            self._pace.took(took_s)
            self._see_to_log(loop)

    def _write_away(
        self, batch: list[AnyChange], landed: Landed, loop: asyncio.AbstractEventLoop, *, is_short: bool
    ) -> None:
        """Write a batch, tell the loop of it, and see to the rest; in the writer's thread."""
        if took_s := self._write(batch, landed, loop.call_soon_threadsafe):
            if is_short:
                self._pace.took(took_s)
            self._see_to_rest(loop)

    def _write(
        self, batch: list[AnyChange], landed: Landed, tell: Callable[..., object], *, may_be_noted: bool = False
    ) -> float:
        """Write a batch, and ``tell`` the loop of it; the seconds that it took, 0 if it was not stored."""
        began = time.monotonic()
        try:
            written = self._apply_now(batch, may_be_noted=may_be_noted)
        except apsw.FullError:
            tell(self._write_without_room, batch, landed)
        except BaseException as exc:  # noqa: BLE001 - the writer fails by it, whatever it is
            tell(landed, exc)
        else:
            took_s = time.monotonic() - began
            tell(landed, written)
            return took_s
        return 0.0

    def _apply_now(self, batch: list[AnyChange], *, may_be_noted: bool = False) -> Written:
        assert self._transactions is not None, "the store is open"
        return self._transactions.apply(batch, may_be_noted=may_be_noted)

    def _see_to_log(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the writer's thread copy a log that is too long; on the event loop, when nothing is owed."""
        if self._transactions is not None and self._transactions.is_log_too_long:
            self._write_thread.post(partial(self._see_to_rest, loop))

    def _see_to_rest(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to what a commit leaves to do, in the writer's thread; who closes the store meanwhile does it all."""
        if (transactions := self._transactions) is None:
            return
        try:
            transactions.follow_up()
        except StoreFailed as exc:
            loop.call_soon_threadsafe(self._writer.fail, exc)

    # --- what a short batch leaves to do ------------------------------------------------------------------------------

    def _pays(self) -> bool:
        """Put into the store what the journal alone has; ``False``: it finds no room, and is tried again.

        On the event loop. Nobody may write or read before that: what was acknowledged is not there.

        Raises:
            StoreFailed: it went wrong, and nothing is written any more.
        """
        transactions = self._transactions
        if transactions is None or not transactions.owes:
            return True
        if not self._write_thread.is_idle:
            return False  # it found no room, and is tried there
        began = time.monotonic()
        if transactions.pays_at_once() or (
            self._space is not None and self._space.release() and transactions.pays_at_once()
        ):
            self._pace.took(self._took_s + time.monotonic() - began)
            self._is_without_room = False
            self._see_to_log(asyncio.get_running_loop())
            return True
        self._is_without_room = True
        if self._paying is None and not self._closing.is_set():
            self._paying = asyncio.get_running_loop().call_later(FULL_PAUSE_S, self._pay_again)
        return False

    def _pay_debt(self, number: int) -> None:
        if number == self._debts:  # else it is paid, and the next one is not answered yet
            self._pay_or_fail()

    def _pay_again(self) -> None:
        self._paying = None
        self._pay_or_fail()

    def _pay_or_fail(self) -> None:
        try:
            self._pays()
        except StoreFailed as exc:
            self._writer.fail(exc)

    def _apply_wholly(self, batch: list[AnyChange]) -> Written:
        """Write a batch with what follows; what the one before it has left to do comes first, and may make room."""
        assert self._transactions is not None, "the store is open"
        self._transactions.follow_up()
        if self._transactions.owes and not self._transactions.pay():
            raise apsw.FullError("what was acknowledged before finds no room")
        written = self._apply_now(batch)
        self._transactions.follow_up()
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
                done, events = await self._at(self._write_thread, lambda: self._apply_wholly(needed))
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
        assert self._transactions is not None, "the store is open"
        try:
            return await self._in(self._write_thread, self._transactions.shorten_log)
        except StoreFailed as exc:
            self._writer.fail(exc)
            raise

    async def copy_to(self, path: Path) -> None:
        """Copy the store as it is at the end of the copy, beside running commits.

        Raises:
            StoreDamaged: the store is not what was written.
            StoreFailed: the copy cannot be written.
        """
        assert self._writing is not None, "the store is open"
        try:
            await copying.copy(self._copy_step, partial(self._at, self._write_thread), self._writing, path)
        except StoreDamaged as exc:
            self._found_damage(exc)
            raise

    async def _copy_step(self, step: Callable[[], bool]) -> bool:
        if not self._pays():
            raise StoreFailed(f"no copy can be made: {self.trouble}")
        return await self._at(self._write_thread, step)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _in(self, thread: Hand, call: Callable[[], T]) -> T:
        """What a call in a thread returns, when all that was acknowledged is there to be read.

        Raises:
            Unavailable: the disk has no room for it.
        """
        if not self._pays():
            raise Unavailable(f"{self.trouble}; ask again when there is room")
        return await self._at(thread, call)

    async def _at(self, thread: Hand, call: Callable[[], T]) -> T:
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


def _turns_later(loop: asyncio.AbstractEventLoop, turns: int, call: Callable[[], None]) -> None:
    """Call it when the loop has done so often what waited."""
    if turns:
        loop.call_soon(_turns_later, loop, turns - 1, call)
    else:
        call()
