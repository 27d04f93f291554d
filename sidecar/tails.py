"""The last output of every attempt in work, on disk: what it said survives a sidecar that is killed in the middle.

Live output is best effort and waits in memory only; the result has its tail, but there is no result yet while the work
goes on. So the tail of each attempt lies in a file of its own, at most a moment old and bounded. It outlives ``kill
-9``, not a power cut (nothing here waits for the disk). It is read when a later start reports the work as lost, and
removed when there is a result. Caller: ``sidecar/runner.py``.
"""

import asyncio
import os
from pathlib import Path
from typing import Final

import structlog

from protocol.limits import MAX_OUTPUT_BYTES
from protocol.model import AttemptId
from protocol.redaction import Redactor

log = structlog.get_logger(__name__)

WRITE_S: Final = 0.1
"""How old a tail on disk may be. However much is said meanwhile, no more than a tail is written then."""


class Tail:
    """The tail of one attempt's output; made by :meth:`Tails.begin`."""

    def __init__(self, path: Path, limit_bytes: int, redactor: Redactor) -> None:
        self._path, self._limit = path, limit_bytes
        self._redactor, self._clean = redactor, redactor.stream()
        self._waiting: list[bytes] = []
        self._waiting_bytes = self._file_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_failing = self._is_cut = False

    def add(self, text: str) -> None:
        """Take a piece of output."""
        piece = text.encode("utf-8", "replace")
        self._waiting.append(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes > 2 * self._limit:
            self._waiting = [b"".join(self._waiting)[-self._limit :]]
            self._waiting_bytes = len(self._waiting[0])
            self._is_cut = True
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WRITE_S, self.write)

    def write(self) -> None:
        """Have the file hold all that was said."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        said = b"".join(self._waiting).decode("utf-8", "replace")
        if self._is_cut:  # what stood before is gone, so it may begin in the middle of a secret
            self._clean, said = self._redactor.stream(), self._redactor.rest(said)
        waiting = self._clean.feed(said).encode("utf-8", "replace")
        self._waiting, self._waiting_bytes, self._is_cut = [], 0, False
        try:
            self._append(waiting)
        except OSError as exc:
            if not self._is_failing:
                log.warning("tail_unwritable", path=str(self._path), why=str(exc), next="the work goes on without")
            self._is_failing = True

    def _append(self, waiting: bytes) -> None:
        if self._file_bytes + len(waiting) <= 2 * self._limit:
            with self._path.open("ab") as file:
                file.write(waiting)
            self._file_bytes += len(waiting)
            return
        kept = ((self._path.read_bytes() if self._file_bytes else b"") + waiting)[-self._limit :]
        draft = self._path.with_suffix(".new")
        draft.write_bytes(kept)
        draft.replace(self._path)
        self._file_bytes = len(kept)

    def close(self) -> None:
        """There is a result, or nobody wants one: forget it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        _remove(self._path)


class Tails:
    """The tails under ``folder``, which is made if it is not there."""

    def __init__(self, folder: Path, limit_bytes: int = MAX_OUTPUT_BYTES, redactor: Redactor | None = None) -> None:
        self._folder, self._limit, self._redactor = folder, limit_bytes, redactor or Redactor()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def begin(self, attempt: AttemptId) -> Tail:
        """The tail of an attempt that begins."""
        _remove(self._path(attempt))
        return Tail(self._path(attempt), self._limit, self._redactor)

    def left(self, attempt: AttemptId) -> str:
        """What an attempt of an earlier start had said at last; empty if nothing is known."""
        try:
            with self._path(attempt).open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - self._limit))
                return file.read().decode("utf-8", "ignore")
        except OSError:
            return ""

    def clear(self) -> None:
        """Remove what earlier starts have left, after it was read."""
        for path in self._folder.iterdir():
            _remove(path)

    def _path(self, attempt: AttemptId) -> Path:
        return self._folder / f"{attempt.task}-e{attempt.epoch}"


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        log.warning("tail_left", path=str(path), why=str(exc))
