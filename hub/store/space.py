"""Room on the disk of a store: how much is left, and a file of it kept back for the day when there is none.

Two lines of defence, so that the results of running work always find room. Below ``floor_bytes`` of free space no new
tasks are taken in (:class:`StorageFull`). If the disk fills up completely all the same (others write to it too), the
store gives the file up (:meth:`Space.release`) and goes on with what that frees. When there is room again the file is
made anew. Callers: ``hub/store/sqlite.py`` when a write finds no room, ``hub/services/watch.py`` every second.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import structlog

from protocol.errors import StorageFull

log = structlog.get_logger(__name__)

State = Literal["ok", "low", "full"]
MAX_FILE_BYTES: Final = 16 << 20
"""The file kept back: room for some thousand results, and little enough to be left lying in a forgotten folder."""
RETRY_AFTER_S: Final = 5.0
_PART_OF_DISK: Final = 8
_MIB: Final = 1 << 20


def disk_bytes(folder: Path) -> tuple[int, int]:
    """Free (for us) and total bytes of the file system of ``folder``.

    Raises:
        OSError: it cannot be asked.
    """
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


class Space:
    """The room of one data directory.

    Attributes:
        state: ``ok``; ``low``: only running work may still write; ``full``: a write has found no room since it was
            ``ok`` the last time.
        free_bytes, floor_bytes: what is left, and below what it is ``low``.
        is_armed: the file is there.
    """

    def __init__(self, folder: Path, reserve_mb: int, *, ask: Callable[[Path], tuple[int, int]] = disk_bytes) -> None:
        """Look at the disk for the first time.

        Args:
            folder: the data directory; it exists.
            reserve_mb: the wanted floor, in MiB; on a small disk an eighth of it counts instead. 0: nothing is kept.
            ask: free and total bytes.
        Raises:
            OSError: the folder cannot be used.
        """
        self._path, self._ask = folder / "reserve", ask
        self.free_bytes, total_bytes = ask(folder)
        self.floor_bytes = min(reserve_mb * _MIB, total_bytes // _PART_OF_DISK)
        self._file_bytes = min(MAX_FILE_BYTES, self.floor_bytes // 2)
        self.state: State = "ok"
        self._seen: State = "ok"
        self.is_armed = _blocks_bytes(self._path) >= self._file_bytes
        self.look()

    @property
    def detail(self) -> str:
        """The room in words."""
        free = f"{self.free_bytes // _MIB} MiB free"
        if self.state == "ok":
            return free
        least = f"{free}, new tasks are taken in from {(self.floor_bytes + self._missing_bytes) // _MIB} MiB on"
        return f"the disk is full: {least}" if self.state == "full" else least

    def check(self) -> None:
        """Pass if there is room for new tasks.

        Raises:
            StorageFull: there is not.
        """
        if self.state != "ok":
            raise StorageFull(f"the hub's disk has no room for new tasks ({self.detail})", RETRY_AFTER_S)

    def look(self) -> bool:
        """Ask for the free space, keep the file back again if there is room; whether the state is new since then.

        What a write has found since the last look is told before it is looked at again: a disk that was full for less
        than a round would otherwise never be heard of.
        """
        try:
            self.free_bytes, _ = self._ask(self._path.parent)
        except OSError as exc:
            log.warning("disk_not_asked", path=str(self._path.parent), why=exc.strerror or str(exc))
        else:
            if self.state == self._seen:
                self._judge()
        is_new, self._seen = self.state != self._seen, self.state
        return is_new

    def release(self) -> bool:
        """A write has found no room: give the file up; whether that frees any."""
        was_armed, self.is_armed = self.is_armed, False
        self._path.unlink(missing_ok=True)
        if self.state != "full" or was_armed:
            self.state = "full"
            log.error("disk_full", path=str(self._path.parent), reserve_freed=was_armed, next="no new tasks for now")
        return was_armed

    def _judge(self) -> None:
        if self.free_bytes < self.floor_bytes + self._missing_bytes:
            self.state = "full" if self.state == "full" else "low"
        elif self.is_armed or self._arm():
            self.state = "ok"

    @property
    def _missing_bytes(self) -> int:
        return 0 if self.is_armed else self._file_bytes

    def _arm(self) -> bool:
        try:
            with self._path.open("wb") as file:
                _allocate(file.fileno(), self._file_bytes)
        except OSError as exc:
            log.warning("reserve_not_made", path=str(self._path), why=exc.strerror or str(exc))
            self._path.unlink(missing_ok=True)
            return False
        self.is_armed = True
        self.free_bytes -= self._file_bytes
        return True


def _blocks_bytes(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512  # the unit of POSIX, whatever the file system's own is
    except OSError:
        return 0


def _allocate(file: int, size_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size_bytes)
    else:
        os.write(file, bytes(size_bytes))
