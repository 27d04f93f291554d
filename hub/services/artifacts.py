"""The files that attempts leave: taken in while the attempt counts, told of, read, and forgotten with their task.

An upload belongs to an attempt that this hub has in hand; it is looked at before the first byte and again when the row
is written, so a file of a late attempt never counts. It is acknowledged when its bytes and its row are on the disk for
good. What no row names any more (a task was forgotten, an upload came too late) is removed an hour later.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Final

import structlog
from msgspec import Struct

from hub.core.fleet import Fleet
from hub.store import rows
from hub.store.blobs import Blob, Blobs, BlobsAway, Draft, Drafts, Place
from hub.store.hub_changes import PutArtifact
from hub.store.space import Space
from hub.store.store import ArtifactRow, Store
from protocol import schema
from protocol.api import ArtifactList, ArtifactView
from protocol.clock import Clock
from protocol.errors import (
    ArtifactTooLarge,
    BadInput,
    NotFound,
    Overloaded,
    Problem,
    StorageFull,
    StoreFailed,
    Unavailable,
)
from protocol.ids import TASK_ID, IdMaker
from protocol.limits import ARTIFACT_BYTES, ARTIFACTS_BYTES, MAX_ARTIFACTS
from protocol.model import FINAL_STATES, AttemptId
from protocol.progress import is_for_machines

log = structlog.get_logger(__name__)
MAX_AT_ONCE: Final = 32
"""Uploads at a time; each holds a piece in memory."""
EVERY_S: Final = 3_600.0
FIRST_S: Final = 60.0
YOUNG_MS: Final = 3_600_000
"""Bytes that no row names are left alone for so long: their row may be on its way."""
RETRY_AFTER_S: Final = 5.0
_MIB: Final = 1 << 20


class Allowance(Struct, frozen=True, kw_only=True):
    """How large a file may be, all files of one attempt, and all that are kept (0: as the disk allows), in bytes."""

    file_bytes: int = ARTIFACT_BYTES
    attempt_bytes: int = ARTIFACTS_BYTES
    all_bytes: int = 0


class Upload(Struct, frozen=True, kw_only=True):
    """A file that an attempt wants to have kept: where it lay, and what its sender says of it."""

    attempt: AttemptId
    path: str
    size_bytes: int
    sha256: str


class Artifacts:
    """The use cases of kept files.

    Args:
        hub: the boot of this hub, which answers for attempts.
        space: the room on this hub's disk; ``None``: nobody looks at it.
    """

    def __init__(  # noqa: PLR0913 - the parts it is made of
        self,
        store: Store,
        fleet: Fleet,
        clock: Clock,
        drafts: Drafts,
        blobs: Blobs,
        *,
        random_bits: Callable[[int], int],
        allowance: Allowance | None = None,
        space: Space | None = None,
        hub: int = 0,
    ) -> None:
        self._store, self._fleet, self._clock = store, fleet, clock
        self._drafts, self._blobs, self._space, self._hub = drafts, blobs, space, hub
        self._ids, self._allowance = IdMaker(random_bits), allowance or Allowance()
        self._kept_bytes = 0
        self._arriving: dict[Draft, int] = {}
        # Digests whose bytes are here, or nearly, and whose row is on its way: the sweep leaves them alone. Who enters
        # and who removes hold the lock, so nothing is removed between the look at the rows and its end.
        self._entering = Counter[str]()
        self._sweeping = asyncio.Lock()

    # --- taking in ----------------------------------------------------------------------------------------------------

    async def receive(self, upload: Upload, pieces: AsyncIterator[bytes]) -> ArtifactView:
        """Keep a file; its bytes come as ``pieces``.

        Raises:
            BadInput: the path leaves the workspace, or the bytes are not those that were announced.
            ArtifactTooLarge: the file is too large, or there are too many.
            StaleAttempt: the attempt does not count, or is in other hands.
            StorageFull: there is no room for it.
            Overloaded: too many come in at once.
        """
        if problem := schema.path_problem(upload.path) or ("" if upload.path.isprintable() else "is not printable"):
            raise BadInput([Problem("query path", problem)], "artifact")
        self._check_counts(upload.attempt)
        earlier = await self._store.artifacts(upload.attempt.task)
        self._check_size(upload, earlier)
        self._check_room(upload)
        if len(self._arriving) >= MAX_AT_ONCE:
            raise Overloaded(f"{MAX_AT_ONCE} other files are coming in", RETRY_AFTER_S)
        draft = self._drafts.begin()
        self._arriving[draft] = upload.size_bytes
        try:
            await self._take(upload, draft, pieces)
            return await self._keep(upload, draft, earlier)
        except BlobsAway as exc:
            raise Unavailable(f"the file could not be kept: {exc}", RETRY_AFTER_S) from exc
        except OSError as exc:
            if isinstance(exc, ConnectionError | TimeoutError):
                raise  # the sender is gone
            raise StorageFull(f"the file could not be kept: {exc.strerror or exc}", RETRY_AFTER_S) from exc
        finally:
            del self._arriving[draft]
            draft.drop()

    async def _keep(self, upload: Upload, draft: Draft, earlier: list[ArtifactRow]) -> ArtifactView:
        async with self._sweeping:
            self._entering[upload.sha256] += 1
        try:
            await self._blobs.keep(draft, Place(upload.attempt.task, upload.attempt.epoch, upload.sha256))
            self._kept_bytes += upload.size_bytes
            kept = await self._enter(upload)
            await self._drop_replaced(upload, earlier)
            return kept
        finally:
            self._entering[upload.sha256] -= 1
            if not self._entering[upload.sha256]:
                del self._entering[upload.sha256]

    async def _drop_replaced(self, upload: Upload, earlier: list[ArtifactRow]) -> None:
        """Work in progress comes anew with every turn: the bytes that it takes the place of go at once."""
        for row in earlier:
            if is_for_machines(row.path) and (row.epoch, row.path) == (upload.attempt.epoch, upload.path):
                await self.drop(row)

    async def drop(self, row: ArtifactRow) -> None:
        """Remove the bytes of a file that was forgotten, unless another one has the same."""
        try:
            async with self._sweeping:
                if not self._entering[row.sha256] and not await self._store.is_kept(row.sha256):
                    await self._blobs.remove(Blob(row.sha256, row.size_bytes, row.at_ms, row.task, row.epoch))
                    self._kept_bytes = max(0, self._kept_bytes - row.size_bytes)
        except OSError as exc:
            log.warning("artifact_left", task=row.task, epoch=row.epoch, why=str(exc), next="removed by the sweep")

    async def _take(self, upload: Upload, draft: Draft, pieces: AsyncIterator[bytes]) -> None:
        async for piece in pieces:
            if draft.size_bytes + len(piece) > upload.size_bytes:
                raise _not_as_announced(f"more than the {upload.size_bytes} bytes that were announced")
            await draft.add(piece)
        if draft.size_bytes < upload.size_bytes:
            raise _not_as_announced(f"{draft.size_bytes} of {upload.size_bytes} bytes came; send it again")
        await draft.finish()
        if draft.sha256 != upload.sha256:
            raise _not_as_announced(f"its SHA-256 is {draft.sha256}, {upload.sha256} was announced; send it again")

    async def _enter(self, upload: Upload) -> ArtifactView:
        attempt, now_ms = upload.attempt, self._clock.now_ms()
        self._check_counts(attempt)
        change = PutArtifact(
            at_ms=now_ms,
            id=self._ids.make(now_ms),
            task=attempt.task,
            epoch=attempt.epoch,
            path=upload.path,
            size_bytes=upload.size_bytes,
            sha256=upload.sha256,
            hub=self._hub,
        )
        artifact = await self._store.commit(change)
        return ArtifactView(
            id=artifact,
            task=attempt.task,
            epoch=attempt.epoch,
            path=upload.path,
            size_bytes=upload.size_bytes,
            sha256=upload.sha256,
            at=rows.moment(now_ms),
        )

    def _check_counts(self, attempt: AttemptId) -> None:
        self._fleet.check_counts(attempt, self._clock.monotonic())

    def _check_size(self, upload: Upload, kept: list[ArtifactRow]) -> None:
        most = self._allowance
        if upload.size_bytes > most.file_bytes:
            size = f"{upload.size_bytes:,} bytes; a file that is kept has at most {most.file_bytes:,}"
            raise ArtifactTooLarge(upload.path, f"{size} (artifact_max_mb)")
        kind = is_for_machines(upload.path)  # what machines keep takes no room from what the task wants kept
        others = [
            row
            for row in kept
            if (row.epoch, is_for_machines(row.path)) == (upload.attempt.epoch, kind) and row.path != upload.path
        ]
        if len(others) >= MAX_ARTIFACTS:
            raise ArtifactTooLarge(upload.path, f"an attempt keeps at most {MAX_ARTIFACTS:,} files")
        together = sum(row.size_bytes for row in others) + upload.size_bytes
        if together > most.attempt_bytes:
            size = f"{together:,} bytes with the others; an attempt keeps at most {most.attempt_bytes:,}"
            raise ArtifactTooLarge(upload.path, f"{size} (artifacts_of_task_mb)")

    def _check_room(self, upload: Upload) -> None:
        coming = sum(self._arriving.values()) + upload.size_bytes
        most = self._allowance.all_bytes
        if most and self._kept_bytes + coming > most:
            raise StorageFull(f"the files that are kept take up what they may, {most:,} bytes", RETRY_AFTER_S)
        space = self._space
        if space is None:
            return
        missing = sum(size - draft.size_bytes for draft, size in self._arriving.items()) + upload.size_bytes
        if space.state != "ok" or space.free_bytes - missing < space.floor_bytes:
            raise StorageFull(f"the hub's disk has no room for {upload.size_bytes:,} bytes", RETRY_AFTER_S)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def list(self, task: str) -> ArtifactList:
        """Files of a task, those of all its attempts, without what machines keep of work in progress.

        Raises:
            NotFound: there is no such task.
        """
        if not TASK_ID.fullmatch(task) or await self._store.task(task) is None:
            raise NotFound("task", task)
        kept = [row for row in await self._store.artifacts(task) if not is_for_machines(row.path)]
        return ArtifactList(artifacts=tuple(rows.artifact(row) for row in kept))

    async def find(self, artifact: str) -> ArtifactView:
        """One file.

        Raises:
            NotFound: there is no such file.
        """
        row = await self._store.artifact(artifact) if TASK_ID.fullmatch(artifact) else None
        if row is None:
            raise NotFound("artifact", artifact[:100])
        return rows.artifact(row)

    async def read(self, artifact: ArtifactView, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Its bytes from ``start`` up to ``stop``, piece by piece.

        Raises:
            Unavailable: they are not here, or cannot be read.
        """
        try:
            place = Place(artifact.task, artifact.epoch, artifact.sha256)
            async with aclosing(self._blobs.read(place, start, stop)) as pieces:
                async for piece in pieces:
                    yield piece
        except FileNotFoundError as exc:
            raise Unavailable(f"artifact {artifact.id} is not where this hub keeps files; ask another one") from exc
        except OSError as exc:
            raise Unavailable(f"artifact {artifact.id} cannot be read: {exc.strerror or exc}") from exc

    # --- forgetting ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Remove what nobody wants any more, again and again, until cancelled."""
        wait_s = FIRST_S
        while True:
            try:
                await self.sweep()
            except StoreFailed:
                return  # the hub is ending
            except (OSError, Unavailable) as exc:
                log.warning("artifacts_not_swept", why=str(exc), next=f"again in {EVERY_S:g} s")
            await asyncio.sleep(wait_s)
            wait_s = EVERY_S

    async def sweep(self) -> int:
        """Remove bytes that no row names and count the others; how many were removed."""
        kept_bytes, now_ms = 0, self._clock.now_ms()
        removed = await self._blobs.tidy(now_ms)
        async with aclosing(self._blobs.list()) as blobs:
            async for blob in blobs:
                if blob.at_ms < now_ms - YOUNG_MS and await self._remove_orphan(blob):
                    removed += 1
                else:
                    kept_bytes += blob.size_bytes
        self._kept_bytes = kept_bytes
        if removed:
            log.info("artifacts_removed", count=removed, kept_mb=kept_bytes // _MIB)
        return removed

    async def _remove_orphan(self, blob: Blob) -> bool:
        async with self._sweeping:
            if self._entering[blob.sha256] or await self._is_wanted(blob):
                return False
            await self._blobs.remove(blob)
            return True

    async def _is_wanted(self, blob: Blob) -> bool:
        """Whether a row names it, or may yet: an attempt that is not over may be bringing it to another hub."""
        if not blob.task:
            return await self._store.is_kept(blob.sha256)
        rows_of_task = await self._store.artifacts(blob.task)
        if any((row.epoch, row.sha256) == (blob.epoch, blob.sha256) for row in rows_of_task):
            return True
        task = await self._store.task(blob.task)
        return task is not None and task.state not in FINAL_STATES and task.epoch <= blob.epoch

    async def close(self) -> None:
        """End what is open."""
        await self._blobs.close()


def _not_as_announced(problem: str) -> BadInput:
    return BadInput([Problem("", problem)], "artifact")
