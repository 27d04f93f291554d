"""The transactions of the embedded store: a batch each, on disk before anybody is told of it.

Two ways lead there. Most batches are synced with the store's log. A short one may be noted in the redo journal instead
(``redo.py``), which is quicker; then it is owed: its transaction stays open until it is committed, without a sync.
Nothing else may use the connection before that, or read what was acknowledged. All of this belongs to one thread at a
time. Caller: ``sqlite.py``.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

import apsw
import structlog

from hub.store import copying, pages
from hub.store.changes import AnyChange
from hub.store.mark import Mark
from hub.store.pace import Patience
from hub.store.plain import Plain
from hub.store.redo import Redo, Statement
from hub.store.sqlite_file import is_damage, said
from hub.store.sqlite_statements import REFUSALS, SqliteStatements, at_once
from hub.store.writer import Written
from protocol.errors import StoreDamaged, StoreFailed

log = structlog.get_logger(__name__)
T = TypeVar("T")
LONG_LOG_PAGES: Final = 3_000
"""From here on the write-ahead log is copied into the store before the next batch: 12 MiB, three times SQLite's own.

The pages at the ends of tables and indices change in every batch, and are copied once for all of them.
"""
LONGEST_LOG_PAGES: Final = 12_000
"""From here on it is copied even where short batches are noted: the next one would wait for it.

They write the same few pages again and again, so the copy grows far less than the log.
"""
_NOT_NOW: Final = (apsw.BusyError, apsw.LockedError)
"""Another program holds the file, or reads what is to be copied."""


class Transactions:
    """The writing connection of an open store.

    Attributes:
        verbs: what applies changes.
        failure: of what comes after a commit; nothing may be written any more.
    """

    def __init__(
        self, connection: apsw.Connection, path: str, patience: Patience, mark: Mark | None, redo: Redo | None
    ) -> None:
        """Begin to write.

        Args:
            connection: to a store that was looked through and is up to date.
            path: what it is called in errors.
            patience: how long another program that holds the file is waited for.
            mark: where it is written down how far the store has come.
            redo: where short batches are noted.
        """
        self._connection, self._path, self._patience = connection, path, patience
        self._mark, self._redo = mark, redo
        self._log = connection.filename_wal
        self._statements = SqliteStatements(connection)
        self.verbs = Plain(self._statements)
        self.failure: StoreFailed | None = None
        self._is_doubtful = False
        self._log_pages = 0
        self._owed: Sequence[Statement] = ()  # what was acknowledged, and is not committed
        connection.set_wal_hook(self._grown)
        connection.set_busy_handler(patience)

    @property
    def owes(self) -> bool:
        """What was acknowledged last is not in the store yet: see :meth:`pay`."""
        return bool(self._owed)

    @property
    def is_log_too_long(self) -> bool:
        """The write-ahead log is to be copied, whoever waits for that: see :meth:`follow_up`."""
        return self._log_pages >= LONGEST_LOG_PAGES

    def close(self) -> None:
        """Let go of all files."""
        if self._is_doubtful:
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._connection.close()
        for beside in (self._mark, self._redo):
            if beside is not None:
                beside.close()

    # --- batches ------------------------------------------------------------------------------------------------------

    def begins_at_once(self) -> bool:
        """Begin a transaction that may be noted, if nobody has to be waited for; whether it has begun."""
        if self.failure is not None or (self._redo is not None and not self._redo.has_room):
            return False  # the store is to sync the next batch: hundreds of commits with it
        self._patience.may_wait = False
        try:
            self._statements.execute("BEGIN IMMEDIATE")
        except apsw.Error:
            return False  # another program holds the file, or worse: whoever waits for it says what it is
        finally:
            self._patience.may_wait = True
        return True

    def apply(self, batch: list[AnyChange], *, may_be_noted: bool = False) -> Written:
        """Write a batch in one transaction, the one that has begun if there is one; it lasts when this returns.

        Args:
            batch: what to apply; nothing is owed of the one before.
            may_be_noted: so little is written that the journal may take it; then it is owed.
        Raises:
            apsw.FullError: there is no room, and nothing was stored.
            StoreFailed: nothing can be written any more.
        """
        assert not self._owed, "what was acknowledged comes first"
        if self.failure is not None:
            raise self.failure
        try:
            try:
                return self._transaction(self.verbs.batch, batch, may_be_noted=may_be_noted)
            except REFUSALS:
                # A bug in one verb must not take the others of its batch along: once more, each undone by itself.
                log.exception("batch_failed", changes=len(batch))
                return self._transaction(self.verbs.each, batch)
        except apsw.FullError:
            raise
        except (apsw.Error, OSError) as exc:
            if _is_full(exc):
                raise apsw.FullError(str(exc)) from exc
            raise self._failed(exc) from exc

    def _transaction(
        self,
        apply: Callable[[list[AnyChange]], Coroutine[Any, Any, T]],
        batch: list[AnyChange],
        *,
        may_be_noted: bool = False,
    ) -> T:
        execute = self._statements.execute
        if not self._connection.in_transaction:
            execute("BEGIN IMMEDIATE")
        try:
            if may_be_noted and self._redo is not None:
                self._statements.remember()
            done = at_once(apply(batch))
            if not self._note():
                self._commit_synced()
        except BaseException:
            self._statements.remembered()
            self.verbs.lost()
            if self._connection.in_transaction:  # an error may have ended it already
                execute("ROLLBACK")
            raise
        if self._mark is not None:  # before anybody is told: what was acknowledged is missed if it is gone
            self._mark.write(self._statements.commits)
        return done

    def _commit_synced(self) -> None:
        before = pages.SYNCS[self._log]
        self._statements.execute("COMMIT")
        if self._redo is not None and pages.SYNCS[self._log] > before:  # else nothing was changed
            self._redo.restart()

    def _note(self) -> bool:
        """Have what was written in the journal; ``False``: the store has to sync it."""
        written = self._statements.remembered()
        if written and self._redo is not None and self._redo.add(self._statements.commits, written):
            self._owed = written
            return True
        return False

    def pay(self) -> bool:
        """Commit what the journal alone has; ``False``: not now, as there is no room.

        Raises:
            StoreFailed: it went wrong; the journal keeps it for the next start, and nothing is written any more.
        """
        if self.failure is not None:
            raise self.failure
        try:
            if not self._connection.in_transaction:  # it found no room before
                self._statements.execute("BEGIN IMMEDIATE")
                for text, values in self._owed:
                    self._statements.execute(text, values)
            self._commit_unsynced()
        except apsw.Error as exc:
            is_held = isinstance(exc, _NOT_NOW) and not self._patience.may_wait
            if self._is_undone() and (is_held or _is_full(exc)):
                return False
            self.failure = self._failed(exc)
            raise self.failure from exc
        self._owed = ()
        return True

    def _commit_unsynced(self) -> None:
        pages.UNSYNCED.add(self._log)
        try:
            self._statements.execute("COMMIT")
        finally:
            pages.UNSYNCED.discard(self._log)

    def pays_at_once(self) -> bool:
        """As :meth:`pay`; for another program that holds the file it is not now, either."""
        self._patience.may_wait = False
        try:
            return self.pay()
        finally:
            self._patience.may_wait = True

    def _is_undone(self) -> bool:
        """Whether nothing of the transaction is left; the error that comes first is the one to tell of."""
        try:
            if self._connection.in_transaction:  # an error may have ended it already
                self._statements.execute("ROLLBACK")
        except apsw.Error:
            return False
        return True

    def _failed(self, exc: Exception) -> StoreFailed:
        """What an error means after which nothing can be promised any more."""
        # The WAL may lack what a failed sync has dropped. Its checksums tell the next start where it ends; copied
        # into the database as the last connection closes, its gaps would be damage.
        self._is_doubtful = True
        if is_damage(exc):
            return StoreDamaged(self._path, said(exc))
        return StoreFailed(f"the store {self._path} cannot be written: {exc}")

    # --- the log ------------------------------------------------------------------------------------------------------

    def _grown(self, _connection: apsw.Connection, _database: str, count: int) -> int:
        self._log_pages = count
        return apsw.SQLITE_OK

    def follow_up(self) -> None:
        """See to what a commit leaves to do: copy the log into the store, if it is long.

        SQLite does so too, but keeps what fails to itself. A sync that fails here is as bad as one of a commit. Without
        room, or with a reader in the way, the log goes on for now, and the next batch tries again. Nobody who waits for
        the commit waits for this.

        Raises:
            StoreFailed: it went wrong; nothing is written after it.
        """
        if self._log_pages >= LONG_LOG_PAGES:
            self._checkpoint(lambda: self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE))

    def shorten_log(self) -> bool:
        """Put the write-ahead log into the store and cut it off; ``False`` if it cannot be now (try again).

        Raises:
            StoreFailed: it went wrong; nothing is written after it.
        """
        self._patience.may_wait = False  # a reader is not waited for: commits would wait too
        try:
            busy = self._checkpoint(lambda: copying.number(self._connection, "PRAGMA wal_checkpoint(TRUNCATE)"))
        finally:
            self._patience.may_wait = True
        return busy == 0

    def _checkpoint(self, do: Callable[[], T]) -> T | None:
        """What it returns; ``None``: not now."""
        try:
            return do()
        except apsw.Error as exc:
            if isinstance(exc, _NOT_NOW) or _is_full(exc):
                return None
            self.failure = self._failed(exc)
            raise self.failure from exc


def _is_full(exc: BaseException) -> bool:
    """Whether there was no room, if only for the index of the log."""
    return isinstance(exc, apsw.FullError) or getattr(exc, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE
