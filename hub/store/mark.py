"""How far a store had come, written down beside it: what tells an old or shortened file from a whole one.

A SQLite file whose log (``-wal``) was cut off, deleted or left behind opens without a complaint, as it was some commits
ago. So each commit is counted in the store itself, and the count is written here after it. This file is never synced:
it may fall behind in a power cut, it can never be ahead of what the store and its redo journal hold. A store that
counts less than its mark has lost commits that were acknowledged. Caller: ``sqlite.py``.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import Final

import structlog
from msgspec import Struct

from protocol.errors import StoreDamaged

log = structlog.get_logger(__name__)
_FORM: Final = struct.Struct("<8sQQ")  # what it is, whose it is, how many commits
_MAGIC: Final = b"acmmark1"


class Progress(Struct, frozen=True):
    """``store`` is the random number of a store, ``commits`` counts what it has committed."""

    store: int
    commits: int


def mark_of(path: Path) -> Path:
    """Where the mark of the store at ``path`` lies."""
    return path.with_name(f"{path.name}-mark")


def read_mark(path: Path) -> Progress | None:
    """The mark of the store at ``path``; ``None`` if there is none, or if a power cut has left half of one."""
    try:
        raw = mark_of(path).read_bytes()
    except FileNotFoundError:
        return None
    if len(raw) != _FORM.size + 4 or zlib.crc32(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
        return None
    magic, store, commits = _FORM.unpack(raw[:-4])
    return Progress(store, commits) if magic == _MAGIC else None


def check_mark(path: Path, found: Progress) -> None:
    """Pass if the store at ``path``, which says ``found`` of itself, is not older than its mark.

    Raises:
        StoreDamaged: commits are missing, or it is another store than the one that was here.
    """
    mark = read_mark(path)
    if mark is None:
        log.info("store_unmarked", path=str(path), next="its mark is made now")
        return
    if mark.store != found.store:
        raise StoreDamaged(str(path), "it is not the store that was in this place before")
    if found.commits < mark.commits:
        missing = mark.commits - found.commits
        raise StoreDamaged(
            str(path),
            f"its last {missing} commit{' is' if missing == 1 else 's are'} gone: it is an older copy, "
            f"or {path.name}-wal or {path.name}-redo was cut off or deleted",
        )


class Mark:
    """The open mark of a store."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self._store = progress.store
        self._file: int | None = None
        try:
            self._file = os.open(mark_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self.write(progress.commits)
            os.ftruncate(self._file, _FORM.size + 4)
        except OSError as exc:
            log.warning("mark_not_written", error=exc.strerror or str(exc), next="an older mark is a safe one")

    def write(self, commits: int) -> None:
        """So many commits are durable now. A disk that does not take it costs a later warning, never a commit."""
        if self._file is None:
            return
        raw = _FORM.pack(_MAGIC, self._store, commits)
        try:
            os.pwrite(self._file, raw + zlib.crc32(raw).to_bytes(4, "little"), 0)
        except OSError as exc:
            log.warning("mark_not_written", error=exc.strerror or str(exc), next="an older mark is a safe one")

    def close(self) -> None:
        """Let go of the file; it stays."""
        if self._file is not None:
            os.close(self._file)
