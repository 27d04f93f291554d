"""Work in progress of attempts: what the next attempt at a task may go on from, and what people see of it.

Sidecars bring it as files of the attempt (``hub/services/artifacts.py``); no file is stored here. An attempt that
failed leaves nothing to go on from: whoever tries again begins anew. One that was lost, or stopped on purpose, does,
and so do those before it, as far as no failure lies between.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec
import structlog

from hub.store import rows
from hub.store.budget_changes import Settle
from hub.store.store import ArtifactRow, AttemptRow, Store
from protocol import codec
from protocol.api import ArtifactView
from protocol.errors import NotFound, StaleAttempt, Unavailable
from protocol.model import AttemptId, AttemptState, Usage
from protocol.progress import DOCUMENT, FOLDER, MAX_DOCUMENT_BYTES, Left, ProgressView, Saved

log = structlog.get_logger(__name__)

PATIENT_ATTEMPTS: Final = 2
"""How many attempts wait for what was left while its bytes cannot be read; the next one begins anew."""

Read = Callable[[ArtifactView, int, int], AsyncGenerator[bytes, None]]
"""The bytes of a kept file from the first number up to the second."""


class Progress:
    """The use cases of work in progress.

    Attributes:
        read: the bytes of a kept file.
    """

    def __init__(self, store: Store, holds: Callable[[AttemptId], bool]) -> None:
        """``holds`` tells whether an attempt is the current one of its task, and its sidecar's."""
        self._store, self._holds = store, holds
        self.read: Read = _no_file

    async def left(self, attempt: AttemptId) -> Left:
        """What earlier attempts have left for this one.

        Raises:
            StaleAttempt: it does not count, or is in other hands.
            Unavailable: its bytes cannot be read now. When :data:`PATIENT_ATTEMPTS` have asked in vain it is given up.
        """
        self._check(attempt)
        attempts = [row for row in await self._store.attempts(attempt.task) if row.epoch < attempt.epoch]
        kept = {(row.epoch, row.path): row for row in await self._store.artifacts(attempt.task)}
        found = _newest(attempts, kept)
        hold = await self._store.hold(attempt.task)
        # What was kept after the task was handed back holds the note already.
        is_new = hold is not None and hold.ended_ms is not None and (found is None or found.epoch <= hold.epoch)
        note = hold.note if hold is not None and is_new else ""
        if found is None:
            return Left(note=note)
        try:
            saved = await self._saved(kept[found.epoch, DOCUMENT])
        except Unavailable as exc:
            if attempt.epoch - found.epoch <= PATIENT_ATTEMPTS:
                raise
            log.warning("progress_given_up", task=attempt.task, epoch=found.epoch, why=str(exc), next="begins anew")
            saved = None
        reported = any(_tells(row) for row in attempts if row.epoch >= found.epoch)
        if saved is not None and not reported:
            # The attempt that asks will report what that one has used: what that one has told itself, or tells later,
            # would count twice.
            await self._store.commit(Settle(task=attempt.task, epoch=found.epoch, usage=Usage(), is_inherited=True))
        return Left(
            note=note,
            epoch=found.epoch,
            sidecar=found.agent,
            boot=found.boot,
            reported=reported,
            saved=saved,
        )

    async def bundle(self, attempt: AttemptId, path: str) -> tuple[ArtifactView, AsyncGenerator[bytes, None]]:
        """A file of what was left, and its bytes.

        Raises:
            StaleAttempt: the attempt that asks does not count, or is in other hands.
            NotFound: there is no such file.
        """
        self._check(attempt)
        attempts = [row for row in await self._store.attempts(attempt.task) if row.epoch < attempt.epoch]
        kept = {(row.epoch, row.path): row for row in await self._store.artifacts(attempt.task)}
        found = _newest(attempts, kept)
        row = kept.get((found.epoch, path)) if found is not None and path.startswith(f"{FOLDER}/") else None
        if row is None:
            raise NotFound("file of the work in progress", path[:100])
        view = rows.artifact(row)
        return view, self.read(view, 0, view.size_bytes)

    async def view(self, task: str, attempts: Sequence[AttemptRow]) -> ProgressView | None:
        """How far the work on a task had come when it was last kept; ``None``: nothing is kept that counts."""
        for _ in range(2):
            with suppress(Unavailable):  # a newer one has just taken its place, or its bytes are at another hub
                return await self._seen(task, attempts)
        return None

    async def _seen(self, task: str, attempts: Sequence[AttemptRow]) -> ProgressView | None:
        kept = {(row.epoch, row.path): row for row in await self._store.artifacts(task)}
        found = _newest(attempts, kept)
        if found is None:
            return None
        document = kept[found.epoch, DOCUMENT]
        saved = await self._saved(document)
        if saved is None:
            return None
        bundle = kept.get((found.epoch, saved.bundle))
        return ProgressView(
            epoch=found.epoch,
            iteration=saved.iteration,
            turn=saved.turn,
            ref=saved.ref,
            commit=saved.commit,
            usage=saved.used,
            iterations=saved.iterations,
            transcript=document.id,
            bundle=bundle.id if bundle is not None else "",
            at=rows.moment(document.at_ms),
        )

    def _check(self, attempt: AttemptId) -> None:
        if not self._holds(attempt):
            raise StaleAttempt(attempt.task, attempt.epoch, None, None)

    async def _saved(self, row: ArtifactRow) -> Saved | None:
        if row.size_bytes > MAX_DOCUMENT_BYTES:
            return None
        raw = b"".join([piece async for piece in self.read(rows.artifact(row), 0, row.size_bytes)])
        try:
            return msgspec.json.decode(raw, type=Saved)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            log.warning("progress_unreadable", task=row.task, epoch=row.epoch, why=str(exc))
            return None


async def _no_file(artifact: ArtifactView, _start: int, _stop: int) -> AsyncGenerator[bytes, None]:
    nothing: tuple[bytes, ...] = ()
    for piece in nothing:
        yield piece
    raise Unavailable(f"this hub keeps no files, and so not {artifact.path}")


_LEAVE: frozenset[AttemptState] = frozenset({AttemptState.LOST, AttemptState.CANCELLED})


def _newest(attempts: Sequence[AttemptRow], kept: dict[tuple[int, str], ArtifactRow]) -> AttemptRow | None:
    """The last attempt that has left something, if none that failed came after it."""
    for row in reversed(attempts):
        if row.ended_ms is not None and row.state not in _LEAVE:
            return None
        if (row.epoch, DOCUMENT) in kept:
            return row
    return None


def _tells(row: AttemptRow) -> bool:
    """Whether the attempt's report says what was used."""
    if row.result is None:
        return False
    usage = codec.decode_result(row.result).usage
    return usage.input_tokens + usage.output_tokens > 0
