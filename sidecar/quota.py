"""How much of this machine's disk an attempt may take while it runs.

Once a second the free space is asked for, which costs nothing. The files of an attempt are counted when the disk has
lost so much since the last count that they may be over the limit, and every now and then in any case; a large tree is
counted less often. An attempt that has taken more than it may ends at once, by its own fault. Where the disk is nearly
full though nobody is over the limit, the attempt that has taken most of it ends, by the machine's fault: so that the
others, the sidecar and the owner of the machine can go on. Callers: ``sidecar/rounds.py`` has attempts watched,
``sidecar/app.py`` keeps the watch going.
"""

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog

from protocol.errors import WorkFailed
from protocol.model import AttemptId
from sidecar.errors import DiskFull, DiskQuota
from sidecar.footprint import TooDeep, share_bytes, taken
from sidecar.process import Processes
from sidecar.room import disk_bytes

log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
COUNT_S: Final = 15.0
"""How long a count stands at most, where counting is cheap."""
_REST, _LEAST_REST = 20, 4
"""How many times as long as a count took nothing is counted; and at least, when there is reason to hurry."""
SPARE_BYTES: Final = 256 << 20
"""Free space below which the disk counts as nearly full; on a small disk a sixteenth of it."""
_PART_OF_DISK: Final = 16
_RELIEF_S: Final = 30.0
"""How long it may take until what has ended has left the disk, too."""


class Watched:
    """An attempt whose files are watched inside; made by :meth:`Quota.watch`.

    Attributes:
        attempt, folders: whose files, and where.
        bytes: what they took when they were last counted.
    """

    def __init__(self, quota: "Quota", attempt: AttemptId, folders: Collection[Path]) -> None:
        self._quota, self.attempt, self.folders = quota, attempt, tuple(folders)
        self.bytes = 0
        self.counted_at = self.took_s = 0.0
        self.free_bytes: int | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self.error: WorkFailed | None = None

    async def __aenter__(self) -> Self:
        """From now on."""
        self._task = asyncio.current_task()
        assert self._task is not None, "attempts are tasks"
        self._cancelling = self._task.cancelling()
        self._quota.watched.append(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """No longer.

        Raises:
            DiskQuota, DiskFull: that is why it has ended.
        """
        self._quota.watched.remove(self)
        if self.error is None or self._task is None:
            return
        is_ours = self._task.uncancel() <= self._cancelling
        if is_ours and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise self.error from exc

    def stop(self, error: WorkFailed) -> None:
        """End what runs inside with this error, unless it ends already."""
        if self.error is None and self._task is not None:
            self.error = error
            self._task.cancel()

    def is_due(self, now: float, free_bytes: int, alarm_bytes: int) -> bool:
        """Whether to count it now.

        Args:
            now: the time.
            free_bytes: of the disk.
            alarm_bytes: so much less free space than at the last count is reason to count again.
        """
        if self.free_bytes is None:
            return True
        rested_s = now - self.counted_at
        has_lost = self.free_bytes - free_bytes >= alarm_bytes
        return rested_s >= (self.took_s * _LEAST_REST if has_lost else max(COUNT_S, self.took_s * _REST))


class Quota:
    """The watch over the disk of one sidecar.

    Args:
        processes: of the attempts; without them nothing is watched.
        folder: the disk, by a directory on it.
        most_bytes: what an attempt may take.
        ask: free and total bytes of a disk.

    Attributes:
        watched: the attempts.
    """

    def __init__(
        self,
        processes: Processes | None = None,
        folder: Path = Path(),
        most_bytes: int = 0,
        ask: Callable[[Path], tuple[int, int]] = disk_bytes,
    ) -> None:
        self._processes, self._folder, self._most, self._ask = processes, folder, most_bytes, ask
        self.watched: list[Watched] = []
        self._relieved_at: float | None = None

    def watch(self, attempt: AttemptId, *folders: Path) -> Watched:
        """A context in which the attempt is cancelled as soon as it has taken too much of the disk.

        It then raises :class:`DiskQuota` or :class:`DiskFull`, and what the attempt runs is killed without grace: while
        it says goodbye it could go on filling the disk.
        """
        return Watched(self, attempt, folders)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Count what has to be counted, and end what has taken too much."""
        if self._processes is None or not self.watched:
            return
        try:
            free_bytes, total_bytes = self._ask(self._folder)
            least_bytes = share_bytes(self._folder)
        except OSError as exc:
            self._not_counted(exc)
            return
        spare_bytes = min(SPARE_BYTES, total_bytes // _PART_OF_DISK)
        for each in [*self.watched]:
            alarm_bytes = min(self._most - each.bytes, spare_bytes)
            if each.error is None and each.is_due(asyncio.get_running_loop().time(), free_bytes, alarm_bytes):
                try:
                    await self._count(each, self._processes, free_bytes, least_bytes)
                except OSError as exc:  # of this one: the others are counted
                    self._not_counted(exc, task=each.attempt.task, epoch=each.attempt.epoch)
        if free_bytes < spare_bytes:
            self._relieve(self._processes, free_bytes, spare_bytes)

    def _not_counted(self, exc: OSError, **whose: object) -> None:
        log.warning("disk_not_counted", path=str(self._folder), why=exc.strerror or str(exc), **whose)

    async def _count(self, each: Watched, processes: Processes, free_bytes: int, least_bytes: int) -> None:
        began, find = asyncio.get_running_loop().time(), processes.finder(each.attempt)
        try:
            each.bytes = await asyncio.to_thread(
                lambda: taken(each.folders, self._most, least_bytes, find()),
            )
        except TooDeep:
            self._end(
                each, processes, DiskQuota(self._most, "its directories lie too deep in one another to be counted")
            )
        each.counted_at = asyncio.get_running_loop().time()
        each.took_s, each.free_bytes = each.counted_at - began, free_bytes
        if each.bytes > self._most:
            self._end(each, processes, DiskQuota(self._most))

    def _relieve(self, processes: Processes, free_bytes: int, spare_bytes: int) -> None:
        now = asyncio.get_running_loop().time()
        if self._relieved_at is not None and now - self._relieved_at < _RELIEF_S:
            return
        largest = max(self.watched, key=lambda each: each.bytes, default=None)
        if largest is not None and largest.bytes >= spare_bytes:
            self._relieved_at = now
            self._end(largest, processes, DiskFull(free_bytes, largest.bytes))

    def _end(self, each: Watched, processes: Processes, error: WorkFailed) -> None:
        if each in self.watched and each.error is None:
            log.warning("disk_taken", task=each.attempt.task, epoch=each.attempt.epoch, why=str(error))
            processes.hurry(each.attempt)
            each.stop(error)
