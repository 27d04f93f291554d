"""Remember on disk which attempts this sidecar has accepted and which reports the hub has not acknowledged.

The journal saves time, never truth: the hub owns the tasks. It survives ``kill -9`` whole. What a power cut may take is
decided by what it would cost:

- A report is synced before it leaves (``synchronous=FULL`` for its commit): work that is done, and paid for, is not
  done again, however long the hub is away. Only the report of a task of nothing is not worth it.
- The boot epoch is synced before it is used: it must never repeat.
- An accepted attempt is written, not synced, before the hub hears of it. A power cut also ends its processes, and the
  hub gives the attempt away as soon as the sidecar is back under a new boot. One fsync per attempt would buy nothing.

Changes wait in memory until :meth:`Journal.commit` writes all of them in one transaction; ``sidecar/link.py`` calls it
before anything leaves for the hub. What the hub has acknowledged is forgotten when nobody waits for a commit: after a
crash it is told once more, and the hub knows it. A commit that fails is logged, and its changes wait for the next one;
one that finds the disk full gets what was kept back for it (``sidecar/room.py``). Until the journal writes again no new
work is taken.

Refuses a second owner of the same state directory. Callers: ``sidecar/runner.py``, ``sidecar/app.py``.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, Self

import apsw
import structlog

from protocol.errors import BadInput, Conflict, Problem
from protocol.model import AttemptId, AttemptState
from sidecar.room import Room

log = structlog.get_logger(__name__)

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS attempts (
    task TEXT NOT NULL, epoch INTEGER NOT NULL, sidecar TEXT NOT NULL, boot INTEGER NOT NULL,
    state TEXT NOT NULL, iteration INTEGER NOT NULL, spec BLOB NOT NULL, report BLOB,
    PRIMARY KEY (task, epoch)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS noted (
    task TEXT NOT NULL, epoch INTEGER NOT NULL, report BLOB NOT NULL, PRIMARY KEY (task, epoch)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_ACCEPT: Final = "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, 'accepted', 0, ?, NULL)"
_PROGRESS: Final = "UPDATE attempts SET state = ?, iteration = ? WHERE task = ? AND epoch = ?"
_FINISHED: Final = (
    "INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, x'', ?)"
    " ON CONFLICT (task, epoch) DO UPDATE SET state = excluded.state, iteration = excluded.iteration,"
    " report = excluded.report"
)
_NOTED: Final = "INSERT OR REPLACE INTO noted VALUES (?, ?, ?)"
_UNNOTED: Final = "DELETE FROM noted WHERE task = ? AND epoch = ?"
_ENTRIES: Final = (
    "SELECT sidecar, boot, task, epoch, state, iteration, attempts.report, noted.report"
    " FROM attempts LEFT JOIN noted USING (task, epoch)"
)
_ACKNOWLEDGED: Final = "DELETE FROM attempts WHERE task = ? AND epoch = ?"
MAX_DONE: Final = 64
"""Attempts that are acknowledged and still written down, where there is always something more urgent."""
_DAMAGE: Final = (apsw.CorruptError, apsw.NotADBError)

Binding = tuple[str | int | bytes, ...]


@contextlib.contextmanager
def in_state_dir(folder: Path) -> Iterator[None]:
    """Tell in one line what is wrong with the place, if its files cannot be used.

    Raises:
        BadInput: something is in the way, the disk is full or cannot be written.
    """
    try:
        yield
    except (OSError, apsw.Error) as exc:
        why = f"{exc.strerror}: {exc.filename or folder}" if isinstance(exc, OSError) else f"{exc}: {folder}"
        raise BadInput([Problem("state_dir", f"cannot be used: {why}")], "settings") from exc


class StateDirInUse(Conflict):
    """Another sidecar runs on this state directory."""

    code = "state_dir_in_use"

    def __init__(self, path: Path, owner: str) -> None:
        self.path, self.owner = path, owner
        super().__init__(path, owner)

    def __str__(self) -> str:
        return (
            f"another sidecar (process {self.owner}) runs on {self.path}; stop it, or give this one its own --state-dir"
        )


class StateLock:
    """The right to be the one sidecar of a state directory; the kernel takes it back when the process ends."""

    def __init__(self, state_dir: Path) -> None:
        """Take the lock, making the directory if it is not there.

        Raises:
            StateDirInUse: another process has it.
        """
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = state_dir / "lock"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._file, 32).decode(errors="replace").strip()
            os.close(self._file)
            raise StateDirInUse(state_dir, owner or "unknown") from None
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let another sidecar have the directory."""
        os.close(self._file)


class Entry(NamedTuple):
    """One attempt in the journal.

    Attributes:
        report: the encoded Report message, ``None`` while it was still in work.
        noted: what it would have reported if its place had been given back by then; ``None``: nothing stood yet.
    """

    attempt: AttemptId
    state: AttemptState
    iteration: int
    report: bytes | None
    noted: bytes | None = None


class Journal:
    """The attempts of one sidecar, in a SQLite file."""

    def __init__(self, path: Path, room: Room | None = None) -> None:
        """Open the file, or a fresh one; ``room`` is that of its disk.

        One that is damaged is renamed aside (``journal.db.damaged-1``) and kept for a person to look at.
        """
        self._waiting: list[tuple[str, Binding]] = []
        self._done: dict[Binding, None] = {}  # acknowledged: may be forgotten with any later commit
        self._must_last = False
        self._lasts = False  # whether the connection syncs its commits
        self._is_failing = False
        self._room = room
        try:
            self._db = _opened(path)
        except _DAMAGE as exc:
            aside = _set_aside(path)
            log.error(  # noqa: TRY400 - what is wrong with the file is told; a trace of ours adds nothing
                "journal_damaged", path=str(path), kept_as=str(aside), problem=str(exc), next="fresh journal"
            )
            self._db = _opened(path)
        self._alone = self._db.cursor().execute

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what waits and close the file."""
        self.commit()
        self._db.close()

    # --- who we are -------------------------------------------------------------------------------------------------

    @property
    def last_boot(self) -> int:
        """The boot epoch of the last start; 0 if there was none."""
        return int(self._db.execute("SELECT value FROM facts WHERE name = 'boot'").get or 0)

    def next_boot(self, now_ms: int) -> int:
        """A boot epoch larger than every one before; stored, with an fsync, before it is returned.

        It starts from the time, so that even a sidecar whose state was deleted does not repeat an old one.
        """
        with self._db:
            boot = max(self.last_boot + 1, now_ms)
            self._db.execute("INSERT OR REPLACE INTO facts VALUES ('boot', ?)", (boot,))
        self._db.execute("PRAGMA wal_checkpoint(FULL)").get  # noqa: B018 - runs the statement; it syncs WAL and database
        return boot

    # --- attempts ---------------------------------------------------------------------------------------------------

    def accept(self, attempt: AttemptId, spec: bytes) -> None:
        """The attempt is ours and will start."""
        if self._done:
            self._forget_before(attempt)
        self._waiting.append((_ACCEPT, (attempt.task, attempt.epoch, attempt.sidecar, attempt.boot, spec)))

    def progress(self, attempt: AttemptId, state: AttemptState, iteration: int) -> None:
        """The attempt has moved on."""
        self._waiting.append((_PROGRESS, (state.value, iteration, attempt.task, attempt.epoch)))

    def note(self, attempt: AttemptId, report: bytes) -> None:
        """What this encoded Report says will be so, unless the attempt ends otherwise."""
        self._waiting.append((_NOTED, (attempt.task, attempt.epoch, report)))

    def finished(
        self, attempt: AttemptId, state: AttemptState, iteration: int, report: bytes, *, must_last: bool = True
    ) -> None:
        """The attempt has ended with this encoded Report; kept until the hub acknowledges it.

        Args:
            attempt, state, iteration, report: what is kept.
            must_last: also over a power cut: the next commit is synced.
        """
        if self._done:
            self._forget_before(attempt)
        if must_last:
            self._must_last = True
            self._waiting.append((_UNNOTED, (attempt.task, attempt.epoch)))
        self._waiting.append(
            (_FINISHED, (attempt.task, attempt.epoch, attempt.sidecar, attempt.boot, state, iteration, report))
        )

    def acknowledged(self, attempt: AttemptId) -> None:
        """The hub has the report, or does not want it: forget the attempt."""
        self._done[attempt.task, attempt.epoch] = None

    def _forget_before(self, attempt: AttemptId) -> None:
        """What is written of an attempt stands behind its own acknowledgement."""
        if (attempt.task, attempt.epoch) in self._done:
            self._forget()

    def _forget(self) -> None:
        self._waiting += [(_ACKNOWLEDGED, binding) for binding in self._done]
        self._done.clear()

    def commit(self, *, tidy: bool = True) -> bool:
        """Write all changes that wait, in one transaction.

        Args:
            tidy: also forget what is acknowledged, for which nobody waits.

        Returns:
            Whether all changes are written; without ``tidy`` what is acknowledged may still wait to be forgotten.
            ``False``: the disk refused; the changes wait for the next commit.
        """
        if self._done and (tidy or len(self._done) >= MAX_DONE):
            self._forget()
        if not self._waiting:
            return True
        try:
            try:
                self._write()
            except apsw.FullError:
                if self._room is None or not self._room.release():
                    raise
                self._write()
        except (apsw.Error, OSError) as exc:
            if not self._is_failing:
                log.error(  # noqa: TRY400 - the disk's problem is told; a trace of ours adds nothing
                    "journal_failed", problem=str(exc), waiting=len(self._waiting), next="retry at next change"
                )
            self._is_failing = True
            return False
        if self._is_failing:
            log.info("journal_recovered", written=len(self._waiting))
        self._is_failing = self._must_last = False
        self._waiting.clear()
        return True

    def _write(self) -> None:
        if self._lasts is not self._must_last:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if self._must_last else 'NORMAL'}")
            self._lasts = self._must_last
        if len(self._waiting) == 1:  # a statement alone is a transaction
            self._alone(*self._waiting[0])
            return
        with self._db:
            for statement, bindings in _runs(self._waiting):
                self._db.executemany(statement, bindings)

    @property
    def has_room(self) -> bool:
        """Whether new work may be taken: what it does can be written down."""
        return not self._is_failing and (self._room is None or not self._room.is_low)

    def held(self) -> list[Entry]:
        """Attempts that were in work, oldest task first."""
        return self._entries("attempts.report IS NULL")

    def reports(self) -> list[Entry]:
        """Attempts that have ended and whose report is not acknowledged, oldest task first."""
        return self._entries("attempts.report IS NOT NULL")

    def _entries(self, which: str) -> list[Entry]:
        self.commit()
        return [
            Entry(AttemptId(sidecar, boot, task, epoch), AttemptState(state), iteration, report, noted)
            for sidecar, boot, task, epoch, state, iteration, report, noted in self._db.execute(
                f"{_ENTRIES} WHERE {which} ORDER BY task, epoch"
            )
        ]


def _runs(changes: Iterable[tuple[str, Binding]]) -> list[tuple[str, list[Binding]]]:
    """Neighbours with the same statement together, in order: one ``executemany`` each."""
    runs: list[tuple[str, list[Binding]]] = []
    for statement, binding in changes:
        if not runs or runs[-1][0] is not statement:
            runs.append((statement, []))
        runs[-1][1].append(binding)
    return runs


def _opened(path: Path) -> apsw.Connection:
    db = apsw.Connection(str(path))
    try:
        db.set_busy_timeout(100)
        db.execute("PRAGMA journal_mode = WAL").get  # noqa: B018 - runs the statement
        db.execute("PRAGMA synchronous = NORMAL")
        with db:
            db.execute(_SCHEMA)
        _check(db)
        db.execute("DELETE FROM noted WHERE NOT EXISTS (SELECT 1 FROM attempts a WHERE a.task = noted.task)")
    except BaseException:
        db.close()
        raise
    return db


def _check(db: apsw.Connection) -> None:
    """Raise if the file is damaged; a table of ours with other columns is as good as damage."""
    damage = db.execute("PRAGMA quick_check(1)").get
    if damage != "ok":
        raise apsw.CorruptError(str(damage))
    columns = [row[1] for row in db.execute("PRAGMA table_info(attempts)")]
    if columns != ["task", "epoch", "sidecar", "boot", "state", "iteration", "spec", "report"]:
        raise apsw.CorruptError(f"unknown columns {columns}")


def _set_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + suffix))
    return aside
