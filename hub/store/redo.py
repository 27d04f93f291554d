"""The redo journal: what a short batch has to write, on disk before the store has it.

A commit of one task changes a dozen pages, and all of them would have to be on disk before anybody hears of it. Here
the statements themselves are written down, a page or two in a file that has its size already, and one sync makes them
last; the store commits them right after the answers, without a sync of its own. Whoever opens a store after a crash
takes over what is missing in it (``sqlite_file.replay``), in order, from the first commit that it lacks.

Every commit that the store itself has synced makes all that was noted before it superfluous: then the journal begins at
its start again. Records lie at whole pages, so no write touches one that was acknowledged. Weighed in
docs/decisions/0043. Callers: ``sqlite_transactions.py``, ``sqlite_file.py``.
"""

import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
import structlog

from hub.store.mark import Progress
from hub.store.pages import FULL, PAGE_BYTES, write_all
from protocol.errors import StoreDamaged

log = structlog.get_logger(__name__)
REDO_BYTES: Final = 4 << 20
"""Room for nearly a thousand short batches; then the store syncs one itself, and whoever sent it waits for that."""
LARGEST_BYTES: Final = 64 << 10
"""More than a short batch takes: its specs and results, the texts of its statements, its events."""
_HEAD: Final = struct.Struct("<8sQQII")  # what it is, whose it is, which commit, how long, checksum of all but itself
_MAGIC: Final = b"\xff\0redo01"
"""Never a part of what tasks say: that is text, which holds no such bytes."""
Statement = tuple[str, Sequence[Any]]
"""The text of one, and the values that go into it."""


class Record(msgspec.Struct, frozen=True):
    """What one commit has written."""

    commit: int
    statements: Sequence[Statement]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[tuple[str, list[Any]]]).decode


def redo_of(path: Path) -> Path:
    """Where the journal of the store at ``path`` lies."""
    return path.with_name(f"{path.name}-redo")


class RedoFile:
    """The open file of a journal, of its full size from the start: a sync of what lies in it has no size to sync."""

    size_bytes: ClassVar[int] = REDO_BYTES

    def __init__(self, path: Path) -> None:
        """Open it, and make it if it is not there or not whole.

        Raises:
            OSError: it cannot be.
        """
        self.path = path
        self._number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(self._number).st_size != self.size_bytes:
                self._make()
        except OSError:
            self.close()
            raise

    def _make(self) -> None:
        os.ftruncate(self._number, 0)
        self.write(bytes(self.size_bytes), 0)
        os.fsync(self._number)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def write(self, data: bytes, offset: int) -> None:
        """Write all of it."""
        write_all(self._number, data, offset)

    def sync(self) -> None:
        """Have on the disk what was written."""
        getattr(os, "fdatasync", os.fsync)(self._number)

    def close(self) -> None:
        """Let go of the file; it stays."""
        os.close(self._number)


OpenRedo = Callable[[Path], RedoFile]


class Redo:
    """The journal of one open store, for its writer alone."""

    def __init__(self, file: RedoFile, store: int) -> None:
        """Take nothing before the first :meth:`restart`: what is in it may be nowhere else.

        Args:
            file: what is written to; it is closed with this.
            store: the random number of the store.
        """
        self._file, self._store, self._end = file, store, file.size_bytes

    @property
    def has_room(self) -> bool:
        """Whether a short batch finds room."""
        return self._end + LARGEST_BYTES <= self._file.size_bytes

    def add(self, commit: int, statements: Sequence[Statement]) -> bool:
        """Have on disk what a commit writes; ``False``: it cannot be noted, and nothing says that it was.

        After ``False`` the store has to sync that commit itself, and then says so (:meth:`restart`).

        Raises:
            OSError: the disk has failed; what was noted last may be there or not.
        """
        body = _body(statements)
        if body is None or self._end + _HEAD.size + len(body) > self._file.size_bytes:
            return False
        raw = _record(self._store, commit, body)
        try:
            self._file.write(raw, self._end)
        except OSError as exc:
            if exc.errno in FULL:
                return False
            raise
        self._file.sync()
        self._end += len(raw)
        return True

    def restart(self) -> None:
        """The store has synced everything that was noted."""
        self._end = 0

    def close(self) -> None:
        """Let go of the file; it stays, with what the store may not have synced."""
        self._file.close()


def content_of(path: Path) -> bytes:
    """What the journal of the store at ``path`` holds; a page that the disk does not return holds nothing.

    What was in it may be long outdated. If it was not, there is a gap, or a mark that the store has not come to.

    Raises:
        OSError: there may be one, and it cannot be opened.
    """
    try:
        file = os.open(redo_of(path), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        places = range(0, os.fstat(file).st_size, PAGE_BYTES)
        return b"".join([_page(file, place) for place in places])
    finally:
        os.close(file)


def _page(file: int, place: int) -> bytes:
    try:
        return os.pread(file, PAGE_BYTES, place).ljust(PAGE_BYTES, b"\0")
    except OSError as exc:
        log.warning("redo_not_read", place=place, error=exc.strerror or str(exc))
        return bytes(PAGE_BYTES)


def pending(path: Path, found: Progress, raw: bytes | None = None) -> list[Record]:
    """What the journal of the store at ``path`` has beyond ``found``, in order.

    Args:
        raw: what it holds, if it was read before.
    Raises:
        StoreDamaged: something between them is missing.
        OSError: the journal cannot be opened.
    """
    raw = content_of(path) if raw is None else raw
    left = [record for record in _records(raw, found.store) if record.commit > found.commits]
    if [record.commit for record in left] != list(range(found.commits + 1, found.commits + 1 + len(left))):
        raise StoreDamaged(
            str(path),
            f"it ends with commit {found.commits}, and {redo_of(path).name} does not go on from there: "
            "it is an older copy, or one of the two was changed",
        )
    return left


def _body(statements: Sequence[Statement]) -> bytes | None:
    """The statements as they are noted; ``None`` if they cannot be."""
    try:
        return _encode(statements)
    except (ValueError, TypeError, OverflowError):  # what the database takes all the same: it has run them
        return None


def _record(store: int, commit: int, body: bytes) -> bytes:
    """What is written for one commit, up to the end of its last page."""
    head = _HEAD.pack(_MAGIC, store, commit, len(body), 0)
    head = _HEAD.pack(_MAGIC, store, commit, len(body), zlib.crc32(body, zlib.crc32(head)))
    return head + body + bytes(-(len(head) + len(body)) % PAGE_BYTES)


def _records(raw: bytes, store: int) -> Iterator[Record]:
    """Every whole record of a store, by its place; what else there is was never acknowledged, or is older."""
    place = 0
    while place + _HEAD.size <= len(raw):
        magic, whose, commit, size, checksum = _HEAD.unpack_from(raw, place)
        body = raw[place + _HEAD.size : place + _HEAD.size + size]
        head = _HEAD.pack(magic, whose, commit, size, 0)
        if (magic, whose, len(body)) == (_MAGIC, store, size) and zlib.crc32(body, zlib.crc32(head)) == checksum:
            yield Record(commit, _decode(body))
            place += -(-(_HEAD.size + size) // PAGE_BYTES) * PAGE_BYTES
        else:
            place += PAGE_BYTES
