"""The layer below the checksums: it ties each page of a store to its place, and keeps the disk from holding up others.

SQLite's checksum is one of the bytes of a page alone. A page of zeros (a hole in a file, a sector that was wiped) has
the checksum zero, and a page that was written to the wrong place has a right one. So the checksum lies in the file
mixed with the number of its page: neither fits any more. Only pages of stores with checksums are touched.

A call that passes through here holds the interpreter for as long as it takes, and with it every thread: a slow sync
would stop the whole hub. So files are synced, and logs written, over handles of our own, by calls that let go of it
(``_Handle``). What a transaction adds to the log leaves in one piece, when it is synced. Caller: ``sqlite_file.py``.
"""

import ctypes
import errno
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

import apsw

PAGE_BYTES: Final = 4096
CHECKSUM_BYTES: Final = 8
_MAGIC: Final = b"SQLite format 3\0"
_SPREAD: Final = 0x9E3779B97F4A7C15
"""An odd number without a pattern: neighbouring pages differ in all bits (Knuth, TAOCP 6.4)."""
_SYSTEMS_OWN: Final = "unix"
"""What SQLite calls the way to open files with nothing between it and the system."""
_MOST_BYTES: Final = 1 << 20
"""What is kept back of a log; a longer transaction leaves in pieces."""
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the system says where there is no room."""
_LOG_HEADER_BYTES: Final = 32
AHEAD_BYTES: Final = 256 << 10
"""A log that is not synced goes to the disk in parts of this size: whoever syncs it would wait for it all."""
UNSYNCED: Final[set[str]] = set()
"""Logs, by their paths, whose commit is not synced just now: it is safe elsewhere (``redo.py``)."""
SYNCS: Final[Counter[str]] = Counter()
"""How often logs were synced: a commit that changes nothing syncs nothing."""

_SYNC_FILE_RANGE_WRITE: Final = 2
_UNKNOWN: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.ESPIPE, errno.EPERM})
"""What a system or a filesystem says that does not know the call, or may not make it."""
_sync_file_range: Final = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
"""Of Linux alone, and not in Python's own modules."""


def write_all(file: int, data: bytes, offset: int) -> None:
    """Write all of it to an open file; without holding up other threads."""
    left = memoryview(data)
    while left:
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written


class Pages(apsw.VFS):
    """The layer, called ``name``, over the way to open files that is called ``below``; lasts as long as it is held."""

    def __init__(self, name: str, below: str) -> None:
        self.vfs_name, self._below = name, below
        super().__init__(name, below)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        """A file; the store itself with its pages mixed."""
        if flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            return _Store(self._below, name, flags)
        if flags[0] & apsw.SQLITE_OPEN_WAL:
            return _Log(self._below, name, flags)
        return apsw.VFSFile(self._below, name, flags)


class _Handle:
    """A handle of our own on a file that SQLite has open, shared by all who have it open.

    Closing one drops every lock that this process has on its file, whoever took it. So it is closed with the last of
    them, when SQLite has closed its own. A store that nobody closed is closed by the collector, which may come in the
    middle of any of this, in the same thread.
    """

    _guard: Final = threading.RLock()
    _known: ClassVar[dict[tuple[int, int], "_Handle"]] = {}

    def __init__(self, path: str, file: tuple[int, int]) -> None:
        self._number, self._file, self._users = os.open(path, os.O_RDWR | os.O_CLOEXEC), file, 0

    @classmethod
    def of(cls, path: str) -> "_Handle":
        """The handle on the file at ``path``."""
        found = Path(path).stat()
        file = found.st_dev, found.st_ino
        with cls._guard:
            while True:
                handle = cls._known.get(file)
                if handle is None:
                    handle = cls._known[file] = cls(path, file)
                handle._users += 1
                if cls._known.get(file) is handle:  # else it was closed between these lines
                    return handle

    def write(self, data: bytes, offset: int) -> None:
        """Write all of it."""
        write_all(self._number, data, offset)

    def sync(self) -> None:
        """Have on the disk what was written to the file, over whatever handle."""
        getattr(os, "fdatasync", os.fsync)(self._number)

    def begin_writing(self, offset: int, size: int) -> None:
        """Have the system begin to write a part of the file, if it can.

        ``SYNC_FILE_RANGE_WRITE`` alone, which takes no error of what was begun from the next :meth:`sync`.

        Raises:
            OSError: it cannot even begin, and may have dropped what it was to write.
        """
        if _sync_file_range is None:
            return
        part = ctypes.c_int64(offset), ctypes.c_int64(size)
        is_begun = _sync_file_range(self._number, *part, _SYNC_FILE_RANGE_WRITE) == 0
        why = ctypes.get_errno()
        if not is_begun and why not in _UNKNOWN:
            raise OSError(why, os.strerror(why))

    def close(self) -> None:
        """One of those who have it lets go of it; SQLite has closed its own."""
        with self._guard:
            self._users -= 1
            if not self._users and self._known.get(self._file) is self:
                del self._known[self._file]
                os.close(self._number)


class _File(apsw.VFSFile):
    """One open file that is synced without holding up others."""

    __slots__ = ("_handle", "_is_new")

    def __init__(self, below: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        super().__init__(below, name, flags)
        # What lies below in a test is to see everything that is done.
        is_ours = path and below == _SYSTEMS_OWN and not flags[1] & apsw.SQLITE_OPEN_READONLY
        self._handle = _Handle.of(path) if path and is_ours else None
        self._is_new = True

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        if self._handle is None or self._is_new:
            super().xSync(flags)  # the first one also makes the name of a new file last
            self._is_new = False
        else:
            _try(apsw.SQLITE_IOERR_FSYNC, self._handle.sync)

    def xClose(self) -> None:  # noqa: N802 - SQLite's name
        super().xClose()
        if self._handle is not None:
            self._handle.close()
            self._handle = None


def _try(trouble: int, call: Callable[..., None], *values: Any) -> None:
    """Do it.

    Raises:
        apsw.FullError: there is no room.
        apsw.IOError: it went wrong in another way, called ``trouble``.
    """
    try:
        call(*values)
    except OSError as exc:
        is_full = exc.errno in FULL and trouble == apsw.SQLITE_IOERR_WRITE
        raise apsw.exception_for(apsw.SQLITE_FULL if is_full else trouble) from exc


class _Store(_File):
    """One open store."""

    __slots__ = ("_has_checksums",)

    def __init__(self, below: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._has_checksums = False
        super().__init__(below, name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - SQLite's name
        data = super().xRead(amount, offset)
        if not offset and amount >= 100:  # noqa: PLR2004 - the header
            self._look_at(data)
        return self._mixed(data, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        if not offset:
            self._look_at(data)
        super().xWrite(self._mixed(data, offset), offset)

    def _look_at(self, header: bytes) -> None:
        self._has_checksums = header[:16] == _MAGIC and header[20] == CHECKSUM_BYTES

    def _mixed(self, data: bytes, offset: int) -> bytes:
        if not self._has_checksums or len(data) != PAGE_BYTES:
            return data
        mixed = int.from_bytes(data[-CHECKSUM_BYTES:]) ^ ((offset // PAGE_BYTES + 1) * _SPREAD & 0xFFFFFFFFFFFFFFFF)
        return bytes(data[:-CHECKSUM_BYTES]) + mixed.to_bytes(CHECKSUM_BYTES)


class _Log(_File):
    """One open write-ahead log: the pages of a transaction leave together, when they are to be synced.

    Before that nobody asks for them but the connection itself: a commit is synced before others hear of it
    (``synchronous = FULL``; https://sqlite.org/walformat.html). The sync of one that is :data:`UNSYNCED` is left out,
    which is what SQLite itself does with ``synchronous = NORMAL``: after a power cut the log may lack its last commits,
    never one in between. As there, a log that begins anew has its header synced before anything follows it.
    """

    __slots__ = ("_ahead", "_begin", "_end", "_kept", "_most", "_path")

    def __init__(self, below: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._kept: list[bytes] = []
        self._begin = self._end = self._most = self._ahead = 0
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        super().__init__(below, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        # Called twice for each page of each commit: the few steps, and the slots of the class, are what it costs.
        if offset != self._end or offset >= self._most:
            self._let_go()
            self._begin, self._most = offset, offset + _MOST_BYTES
        self._kept.append(data)
        self._end = offset + len(data)

    def _let_go(self) -> None:
        """Write what was kept back. If that fails it is SQLite's to write again, like everything that it has lost."""
        kept, self._kept = self._kept, []
        begin, self._begin = self._begin, self._end
        if self._handle is not None:
            if kept:
                _try(apsw.SQLITE_IOERR_WRITE, self._handle.write, b"".join(kept), begin)
            return
        for piece in kept:
            super().xWrite(piece, begin)
            begin += len(piece)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        self._let_go()
        if self._path not in UNSYNCED or self._end == _LOG_HEADER_BYTES:
            super().xSync(flags)
            SYNCS[self._path] += 1
            self._ahead = self._end
        elif self._handle is not None and self._end - self._ahead >= AHEAD_BYTES:
            # Whole pages only: the next commit goes on in the last one, and must not wait until that is written.
            end = self._end - self._end % PAGE_BYTES
            _try(apsw.SQLITE_IOERR_FSYNC, self._handle.begin_writing, self._ahead, end - self._ahead)
            self._ahead = end

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - SQLite's name
        self._let_go()
        return super().xRead(amount, offset)

    def xFileSize(self) -> int:  # noqa: N802 - SQLite's name
        self._let_go()
        return super().xFileSize()

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        self._let_go()
        super().xTruncate(newsize)

    def xClose(self) -> None:  # noqa: N802 - SQLite's name
        try:
            self._let_go()
        finally:
            super().xClose()
