"""Copies of the embedded store, made while the hub works: on a schedule, and when somebody asks.

A copy gets its name only when it is on disk and has been opened, read to the end and found whole; a name therefore
promises a copy that can be restored. What cannot be used is put aside under another name, never deleted. A failed copy
is told in the log, as an event and in the hub's health until one succeeds. A store on a server has its own backups:
there is nothing to copy, and whoever asks is told what to use.
"""

import asyncio
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import structlog

from hub.store import copying
from hub.store.changes import Record
from hub.store.rows import moment
from hub.store.store import Store
from protocol.api import BackupList, BackupView, ComponentHealth
from protocol.clock import Clock
from protocol.errors import Conflict, Overloaded, StoreDamaged, StoreFailed
from protocol.events import Event, EventKind

log = structlog.get_logger(__name__)
NAME: Final = re.compile(r"hub-(\d{8}T\d{6}\.\d{3}Z)\.sqlite")
_TIME: Final = "%Y%m%dT%H%M%S"
FIRST_S: Final = 60.0
_LOOK_S: Final = 30.0
_AGAIN_S: Final = 600.0
"""After a failure the next try does not wait for the whole interval."""
_ROOM: Final = 1.1
"""Free space that must be there, as a multiple of the store: the disk is for the queue first."""


class BackupElsewhere(Conflict):
    """The store is on a server, which has its own ways."""

    code = "backup_elsewhere"

    def __str__(self) -> str:
        return (
            "this hub keeps its store in PostgreSQL, which makes its own backups: "
            "pg_dump --format=custom --file=agentcom.dump 'postgresql://USER@HOST/DATABASE', "
            "or continuous archiving (PITR)"
        )


class CopyPort(Protocol):
    """The embedded store, as far as it is copied."""

    async def copy_to(self, path: Path) -> None:
        """Copy the store as it is at the end of the copy, beside running commits."""
        ...


class Backups:
    """The use cases of backups.

    Args:
        source: the embedded store; ``None`` for one on a server.
        folder: where copies lie; made when the first one is.
        every_s: seconds between copies of the schedule; 0: only when asked.
        keep: how many copies stay.
        space: free bytes where a folder is.
    """

    def __init__(
        self,
        store: Store,
        source: CopyPort | None,
        clock: Clock,
        folder: Path,
        *,
        every_s: float,
        keep: int,
        space: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    ) -> None:
        self._store, self._source, self._clock, self._folder = store, source, clock, folder
        self._every_s, self._keep, self._space = every_s, keep, space
        self._one_at_a_time = asyncio.Lock()
        self._problem, self._began_ms = "", clock.now_ms()

    async def make(self, by: str) -> BackupView:
        """Make a copy now; answers when it is on disk and has been looked through.

        Raises:
            BackupElsewhere: the store is on a server.
            Conflict: a copy is being made.
            StoreFailed: it cannot be written.
            StoreDamaged: the store itself is not what was written.
        """
        if self._source is None:
            raise BackupElsewhere
        if self._one_at_a_time.locked():
            raise Conflict("a backup is being made already; ask again when it is done")
        async with self._one_at_a_time:
            began = self._clock.monotonic()
            try:
                facts, path = await self._make(self._source)
            except (StoreFailed, OSError) as exc:
                failure = exc if isinstance(exc, StoreFailed) else StoreFailed(f"cannot make a backup: {exc}")
                self._problem = str(failure)
                log.error("backup_failed", why=str(failure))  # noqa: TRY400 - what failed is said, where does not matter
                self._tell(EventKind.BACKUP_FAILED, reason=str(failure), by=by)
                raise failure from exc
            self._problem = ""
            seconds = round(self._clock.monotonic() - began, 2)
            log.info("backup_made", path=str(path), mib=facts.size_bytes >> 20, tasks=facts.tasks, seconds=seconds)
            self._tell(
                EventKind.BACKUP_MADE, name=path.name, bytes=facts.size_bytes, tasks=facts.tasks, seconds=seconds, by=by
            )
            await asyncio.to_thread(self._thin)
            return _view(path)

    async def _make(self, source: CopyPort) -> tuple[copying.CopyFacts, Path]:
        at_ms = self._clock.now_ms()
        draft = self._folder / f".draft-{at_ms}"
        await asyncio.to_thread(self._prepare, draft)
        await source.copy_to(draft)
        path = self._folder / name_of(at_ms)
        return await asyncio.to_thread(finish, draft, path, at_ms), path

    def _prepare(self, draft: Path) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for left in self._folder.glob(".draft-*"):
            left.unlink()  # half a copy of a hub that ended; the store itself is whole
        draft.touch(mode=0o600)
        store = self._folder.parent / "hub.sqlite"
        needed = int(store.stat().st_size * _ROOM) if store.exists() else 0
        free = self._space(self._folder)
        if free < needed:
            raise StoreFailed(
                f"a backup needs {needed >> 20} MiB free in {self._folder}, there are {free >> 20}; "
                "free some space, or keep fewer backups (backup_keep)"
            )

    def _thin(self) -> None:
        for old in backups_in(self._folder)[self._keep :]:
            old.unlink(missing_ok=True)
            log.info("backup_removed", path=str(old), kept=self._keep)

    def _tell(self, kind: EventKind, **facts: object) -> None:
        self._store.post(Record(Event(kind=kind, at_ms=self._clock.now_ms(), facts=facts)))

    async def list(self) -> BackupList:
        """The copies that are there, newest first."""
        return await asyncio.to_thread(self._list)

    def _list(self) -> BackupList:
        return BackupList(backups=tuple(_view(path) for path in backups_in(self._folder)))

    def health(self) -> ComponentHealth:
        """Whether there is a copy as young as the schedule promises."""
        if self._source is None:
            return ComponentHealth(state="ok", detail="made by the PostgreSQL server, not by this hub")
        if self._problem:
            return ComponentHealth(state="degraded", detail=f"the last one failed: {self._problem}")
        found = self._list().backups
        newest = f"newest {found[0].at:%Y-%m-%d %H:%M:%SZ}" if found else "none yet"
        if not self._every_s:
            return ComponentHealth(state="ok", detail=f"{newest}; only when asked for (backup_every_s is 0)")
        return ComponentHealth(state="ok", detail=f"{newest}, {len(found)} kept")

    def overdue(self) -> float | None:
        """Age of the newest copy, or of this hub, in times of the schedule; ``None``: there is no schedule."""
        if self._source is None or not self._every_s:
            return None
        found = self._list().backups
        newest_ms = max(found[0].at.timestamp() * 1000 if found else 0.0, self._began_ms)
        return (self._clock.now_ms() - newest_ms) / 1000 / self._every_s

    async def run(self) -> None:
        """Make copies on schedule, until cancelled; none in the first minute, in which others want the disk."""
        if self._source is None or not self._every_s:
            return
        await asyncio.sleep(FIRST_S)
        while True:
            wait_s = self._due_in_s()
            if wait_s > 0:
                await asyncio.sleep(min(wait_s, _LOOK_S))
                continue
            try:
                await self.make("schedule")
            except StoreDamaged:
                return  # the hub is ending, and says what to do
            except (Conflict, Overloaded, StoreFailed):
                await asyncio.sleep(min(_AGAIN_S, self._every_s))  # told already

    def _due_in_s(self) -> float:
        newest = next(iter(backups_in(self._folder)), None)
        if newest is None:
            return 0.0
        return self._every_s - (self._clock.now_ms() / 1000 - _made_at(newest).timestamp())


def finish(draft: Path, path: Path, at_ms: int) -> copying.CopyFacts:
    """Look through a fresh copy and give it its name; one that is not whole is put aside.

    Raises:
        StoreFailed: it cannot be used.
    """
    try:
        facts = copying.settle(draft, at_ms)
    except StoreDamaged as exc:
        aside = path.with_suffix(".damaged")
        draft.replace(aside)
        raise StoreFailed(f"the copy is not whole ({exc.damage}); it was put aside as {aside}") from exc
    draft.replace(path)
    copying.sync(path)
    return facts


def name_of(at_ms: int) -> str:
    """The name of a copy that was made at this time."""
    return f"hub-{moment(at_ms):{_TIME}}.{at_ms % 1000:03}Z.sqlite"


def backups_in(folder: Path) -> list[Path]:
    """Copies that were looked through, newest first."""
    try:
        found = [path for path in folder.iterdir() if NAME.fullmatch(path.name)]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda path: path.name, reverse=True)


def _made_at(path: Path) -> datetime:
    found = NAME.fullmatch(path.name)
    assert found is not None, "only names of ours are asked for"
    return datetime.strptime(found[1], f"{_TIME}.%fZ").replace(tzinfo=UTC)


def _view(path: Path) -> BackupView:
    return BackupView(name=path.name, path=str(path), at=_made_at(path), size_bytes=path.stat().st_size)
