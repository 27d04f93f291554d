"""Room on the disk of a sidecar: whether there is enough for new work, and a little kept back for reports.

Below ``FLOOR_BYTES`` the sidecar takes no new work: it would fail for want of room, or take the room of what runs. If
the disk fills up completely, the journal gives up a file (:meth:`Room.release`), so that the reports of running work
are kept. Callers: ``sidecar/journal.py``, and ``sidecar/app.py`` every second.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
FLOOR_BYTES: Final = 64 << 20
FILE_BYTES: Final = 4 << 20
"""The file kept back: a few reports of the largest size, thousands of ordinary ones."""
_PART_OF_DISK: Final = 16


def disk_bytes(folder: Path) -> tuple[int, int]:
    """Free (for us) and total bytes of the file system of ``folder``.

    Raises:
        OSError: it cannot be asked.
    """
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


class Room:
    """The room of one state directory.

    Attributes:
        is_low: there is none for new work.
    """

    def __init__(self, folder: Path, ask: Callable[[Path], tuple[int, int]] = disk_bytes) -> None:
        """Look for the first time.

        Raises:
            OSError: the folder cannot be used.
        """
        self._path, self._ask = folder / "reserve", ask
        free_bytes, total_bytes = ask(folder)
        self._floor_bytes = min(FLOOR_BYTES, total_bytes // _PART_OF_DISK)
        self._file_bytes = min(FILE_BYTES, self._floor_bytes // 2)
        self._is_armed = self._path.exists()
        self.is_low = free_bytes < self._floor_bytes
        self.look()

    def look(self) -> bool:
        """Ask for the free space, keep the file back again if there is room; whether :attr:`is_low` has changed."""
        before = self.is_low
        try:
            free_bytes, _ = self._ask(self._path.parent)
        except OSError as exc:
            log.warning("disk_not_asked", path=str(self._path.parent), why=exc.strerror or str(exc))
            return False
        missing_bytes = 0 if self._is_armed else self._file_bytes
        self.is_low = free_bytes < self._floor_bytes + missing_bytes or not (self._is_armed or self._arm())
        if self.is_low is not before:
            log.warning("disk_changed", is_low=self.is_low, free_mb=free_bytes >> 20, path=str(self._path.parent))
        return self.is_low is not before

    def release(self) -> bool:
        """A write has found no room: give the file up; whether there was one."""
        was_armed, self._is_armed, self.is_low = self._is_armed, False, True
        self._path.unlink(missing_ok=True)
        if was_armed:
            log.error("disk_full", path=str(self._path.parent), next="reports go into what was kept back; no new work")
        return was_armed

    def _arm(self) -> bool:
        try:
            with self._path.open("wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, self._file_bytes)
                else:
                    file.write(bytes(self._file_bytes))
        except OSError as exc:
            log.warning("reserve_not_made", path=str(self._path), why=exc.strerror or str(exc))
            self._path.unlink(missing_ok=True)
            return False
        self._is_armed = True
        return True


async def watch(room: Room, has_room: Callable[[], bool], tell: Callable[[], None]) -> None:
    """Look again and again, and tell at once when there is no room for new work, and when there is again."""
    had_room = has_room()
    while True:
        await asyncio.sleep(LOOK_S)
        room.look()
        if has_room() is not had_room:
            had_room = has_room()
            tell()
