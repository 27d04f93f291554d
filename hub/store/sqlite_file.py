"""The file of the embedded store: how it is opened, and how damage to it is found.

Every page carries a checksum, written and looked at by SQLite's own shim for files (``cksumvfs``, in C): a page that is
not what was written is never read as if it were. The write-ahead log has checksums of its own, and ``mark.py`` knows
how long it was. At the start a store of ordinary size is looked through as well; a larger one is looked through by each
backup. Measured and weighed in docs/decisions/0009. Callers: ``sqlite.py``, ``copying.py``.
"""

import re
import threading
import time
from pathlib import Path
from typing import Any, Final, cast

import apsw
import apsw.sqlite_extra
import structlog

from hub.store.mark import Progress, check_mark, mark_of
from hub.store.pages import CHECKSUM_BYTES, PAGE_BYTES, Pages
from hub.store.queries import queries
from hub.store.redo import content_of, pending, redo_of
from protocol.errors import StoreDamaged, StoreFailed

log = structlog.get_logger(__name__)
OLDEST_SQLITE: Final = (3, 51, 3)
MAX_CHECKED_BYTES: Final = 256 << 20
"""Up to here a store is looked through before it serves: half a second where it is in the page cache."""
_VFS: Final = "cksmvfs"
_LOADING: Final = threading.Lock()
_LAYERS: Final[dict[str, Pages]] = {}
"""What the shim lies over, by the way to open files below that; tests put their own there. The last one counts."""
_MAGIC: Final = b"SQLite format 3\0"
_HEADER_BYTES: Final = 100
_BAD_PAGE: Final = re.compile(rf"page (\d+): unable to get the page. error code={int(apsw.SQLITE_IOERR_DATA)}\b")
_FIRST_WITH_CHECKSUMS: Final = 4
"""The migration that came with them."""

DAMAGE: Final = (apsw.CorruptError, apsw.NotADBError)
"""Errors that say that a file is not what was written; a failed checksum is an I/O error with its own number."""


def _set_up() -> None:
    """SQLite, before its first use: it need not count the bytes that it has, under a lock, at each piece of memory."""
    if not apsw.connections():  # else somebody has begun to use it, and it stays as it is
        apsw.shutdown()
        apsw.config(apsw.SQLITE_CONFIG_MEMSTATUS, 0)
        apsw.initialize()


_set_up()


def _load() -> str:
    """The name of the shim; it lies over the ordinary way to open files, as that is now, and is for ours alone."""
    if tuple(int(part) for part in apsw.sqlite_lib_version().split(".")) < OLDEST_SQLITE:
        raise StoreFailed(
            f"SQLite {apsw.sqlite_lib_version()} has a known corruption bug; install apsw 3.51.3 or newer"
        )
    default = apsw.vfs_names()[0]
    if _LAYERS and default == next(reversed(_LAYERS)):
        return _VFS
    if _VFS in apsw.vfs_names():
        apsw.unregister_vfs(_VFS)
    pages = _LAYERS.pop(default, None) or Pages(f"agentcom-pages-over-{default}", default)
    connection = apsw.Connection(":memory:")
    apsw.set_default_vfs(pages.vfs_name)  # the shim takes what it finds in front as what it lies over
    try:
        apsw.sqlite_extra.load(connection, "cksumvfs")
    except apsw.sqlite_extra.NotAvailable as exc:
        raise StoreFailed(
            "this apsw was built without its extra programs, so no checksums can be kept; "
            "install the wheel: pip install --force-reinstall --only-binary :all: apsw"
        ) from exc
    finally:
        connection.close()
        apsw.set_default_vfs(default)
    _LAYERS[default] = pages
    return _VFS


def connect(path: str, busy_s: float, *, read_only: bool = False, is_alone: bool = False) -> apsw.Connection:
    """A connection to the store, checksums on.

    Args:
        path: the file, made if it is not there (unless ``read_only``); ``:memory:`` for tests.
        busy_s: how long another program may hold the file.
        read_only: change nothing.
        is_alone: one file with nothing beside it, and nothing synced: for a copy that is synced when it is whole.
    Raises:
        StoreFailed: this installation cannot keep a store.
        apsw.Error: the file cannot be opened.
    """
    with _LOADING:
        vfs = _load()
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(path, flags=flags, vfs=vfs, statementcachesize=200)
    connection.set_busy_timeout(int(busy_s * 1000))
    if read_only:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # it could not get the lock for that
    else:
        if not connection.execute("PRAGMA page_count").fetchall()[0][0]:
            connection.reserve_bytes("main", CHECKSUM_BYTES)
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        if is_alone:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = OFF")
        else:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # NORMAL loses acknowledged commits in a power cut
            connection.execute("PRAGMA journal_size_limit = 67108864")
        # What is replaced or removed leaves no rest in its page: an address of a notifier once lay there in clear.
        connection.execute("PRAGMA secure_delete = FAST")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def is_damage(exc: BaseException) -> bool:
    """Whether a database error says that the file is not what was written."""
    return isinstance(exc, DAMAGE) or getattr(exc, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA


def unusable(path: str, exc: Exception) -> StoreFailed:
    """What an error says of a store that was to be opened."""
    if is_damage(exc):
        return StoreDamaged(path, said(exc))
    return StoreFailed(f"cannot open the store {path}: {exc}; restore a backup or use another --data-dir")


def check_place(path: Path) -> None:
    """Pass if a store can be here, or be made.

    Raises:
        StoreDamaged: one was here, and is gone, or is none.
    """
    if not path.exists() and mark_of(path).exists():
        raise StoreDamaged(str(path), "the file is gone, though a store was here")
    check_header(path)


def check_header(path: Path) -> None:
    """Pass if the file is new, or begins as a store of ours does.

    Raises:
        StoreDamaged: it does not.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return
    if not head:
        return
    if len(head) < _HEADER_BYTES or head[:16] != _MAGIC or head[21:24] != b"\x40\x20\x20":
        raise StoreDamaged(str(path), "it does not begin as a store does")
    if int.from_bytes(head[16:18]) != PAGE_BYTES or head[20] not in {0, CHECKSUM_BYTES}:
        raise StoreDamaged(str(path), "its first bytes are not those of a store")


def check_pages(connection: apsw.Connection, path: str, *, deep: bool, limit: int) -> None:
    """Look through a store that is about to serve; one from before there were checksums gets them.

    Args:
        deep: look at everything, whatever the size.
        limit: up to this size, in bytes, all pages are looked at in any case.
    Raises:
        StoreDamaged: something is not as it was written.
    """
    schema = schema_of(connection)
    if not has_checksums(connection):
        if schema >= _FIRST_WITH_CHECKSUMS:
            raise StoreDamaged(path, "its first bytes are not those of a store with checksums")
        check_whole(connection, path, deep=True)
        connection.reserve_bytes("main", CHECKSUM_BYTES)
        connection.execute("VACUUM")  # writes every page anew, with room for its checksum
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        log.info("checksums_added", path=path)
    began = time.monotonic()
    size = Path(path).stat().st_size
    if deep or size <= limit:
        check_whole(connection, path, deep=deep)
        log.info("store_checked", path=path, mib=size >> 20, deep=deep, seconds=round(time.monotonic() - began, 3))
    else:
        log.info("store_not_checked", path=path, mib=size >> 20, next="each page when it is read, all with each backup")


def has_checksums(connection: apsw.Connection) -> bool:
    """Whether the pages of this store carry checksums. An empty file will."""
    return connection.reserve_bytes("main", -1) == CHECKSUM_BYTES or not schema_of(connection)


def damage_of(connection: apsw.Connection, path: Path) -> str:
    """What is wrong with a store that is only looked at; empty if nothing was found."""
    try:
        if not has_checksums(connection):
            return "its pages carry no checksums"
        noted = content_of(path)  # first: a hub that works meanwhile only gets further than that
        found = progress(connection)
        left = len(pending(path, found, noted))
        check_mark(path, Progress(found.store, found.commits + left))
        check_whole(connection, str(path), deep=False)
    except StoreDamaged as exc:
        return exc.damage
    except apsw.Error as exc:
        if not is_damage(exc):
            raise
        return said(exc)
    what = f"its last {left} commits are" if left > 1 else "its last commit is"
    return f"{what} still in {redo_of(path).name}: a hub that starts here puts that in" if left else ""


def check_whole(connection: apsw.Connection, path: str, *, deep: bool) -> None:
    """Look through all pages.

    Args:
        deep: compare indexes with their tables too; takes several times as long.
    Raises:
        StoreDamaged: something is not as it was written.
    """
    try:
        found = connection.execute(f"PRAGMA {'integrity' if deep else 'quick'}_check(5)").fetchall()
    except apsw.Error as exc:
        if not is_damage(exc):
            raise
        raise StoreDamaged(path, said(exc)) from exc
    if found != [("ok",)]:
        raise StoreDamaged(path, _first_line(str(found[0][0])))


def _first_line(found: str) -> str:
    """The first thing that the check has found, in words."""
    lines = [line for line in found.splitlines() if not line.startswith("***")] or [found]
    page = _BAD_PAGE.search(lines[0])
    return f"page {page[1]} is not what was written: its checksum is wrong" if page else lines[0][:200]


def said(exc: BaseException) -> str:
    """A database error in words; a failed checksum calls itself an I/O error."""
    if getattr(exc, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA:
        return "the checksum of a page is wrong: its bytes are not those that were written"
    return str(exc)


def replay(connection: apsw.Connection, path: Path) -> None:
    """Write to a store what was acknowledged out of the journal of ``path`` and is not in it, in one transaction.

    Raises:
        StoreDamaged: the journal does not go on where the store ends, or does not fit to it.
        apsw.Error, OSError: it cannot be read or written.
    """
    if not redo_of(path).exists() or schema_of(connection) < _FIRST_WITH_CHECKSUMS:
        return
    left = pending(path, progress(connection))
    if not left:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for record in left:
            for text, values in record.statements:
                connection.execute(text, values)
        if progress(connection).commits != left[-1].commit:
            raise apsw.ConstraintError("it counts its commits otherwise")
        connection.execute("COMMIT")
    except apsw.Error as exc:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if not isinstance(exc, (apsw.ConstraintError, apsw.MismatchError, apsw.SQLError)):
            raise
        raise StoreDamaged(str(path), f"what {redo_of(path).name} holds for it does not fit to it: {exc}") from exc
    log.info("commits_replayed", path=str(path), commits=len(left), newest=left[-1].commit)


def settle_log(connection: apsw.Connection) -> None:
    """Copy into the store what a process before has left in the log; a reader that is in the way leaves it for later.

    It may have been killed before a sync, or because one failed: then what is read well here is not on the disk, though
    a sync of the log would say so. The journal begins anew, so nothing may need what is in it any more.
    """
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)


def progress(connection: apsw.Connection) -> Progress:
    """How far the store says it has come."""
    rows: Any = connection.execute(queries("sqlite")["progress"]).fetchall()
    return Progress(*rows[0])


def schema_of(connection: apsw.Connection) -> int:
    """Number of the last migration that the store has seen."""
    return cast("int", connection.execute("PRAGMA user_version").fetchall()[0][0])
