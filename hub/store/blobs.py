"""The bytes of the files that attempts leave: in a folder by their digest (here), or in a bucket (``s3.py`` beside).

A file comes in pieces into ``incoming/``, is counted and hashed on the way, and is kept only when all of it is on the
disk for good: a crash leaves nothing but a draft, which the next start removes. What is kept twice lies here once.
Which digests are still wanted stands in the store's rows; ``hub/services/artifacts.py`` compares the two.
"""

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, NamedTuple, Protocol

PIECE_BYTES: Final = 1 << 20
"""How much of a file is in memory at a time: of one that comes, and of one that is read."""
_DIGEST_CHARS: Final = 64


class BlobsAway(OSError):
    """The place where kept files lie does not answer, or refuses; it may do so later."""


class Place(NamedTuple):
    """What a kept file is: of which attempt, with which digest."""

    task: str
    epoch: int
    sha256: str


class Blob(NamedTuple):
    """What is kept: its digest, its size, and when it was written (Unix ms).

    ``task`` and ``epoch`` say of which attempt it is; empty: of all that have brought these bytes.
    """

    sha256: str
    size_bytes: int
    at_ms: int
    task: str = ""
    epoch: int = 0


class Draft:
    """A file that is coming in."""

    def __init__(self, path: Path) -> None:
        self.path, self.size_bytes = path, 0
        self._digest = hashlib.sha256()
        self._waiting = bytearray()
        self._file: IO[bytes] = path.open("xb", buffering=0)

    @property
    def sha256(self) -> str:
        """The digest of what has come, once :meth:`finish` has been called."""
        return self._digest.hexdigest()

    async def add(self, piece: bytes) -> None:
        """Take more of it.

        Raises:
            OSError: it could not be written.
        """
        self.size_bytes += len(piece)
        self._waiting += piece
        if len(self._waiting) >= PIECE_BYTES:
            await asyncio.to_thread(self._write)

    async def finish(self) -> None:
        """All of it has come: have it on the disk for good.

        Raises:
            OSError: it could not be written.
        """
        await asyncio.to_thread(self._finish)

    def drop(self) -> None:
        """Nobody wants it, or it has its name: close it, and remove what is left of the draft."""
        self._file.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        self._digest.update(self._waiting)
        rest = memoryview(self._waiting)
        while rest:
            rest = rest[self._file.write(rest) :]
        rest.release()
        self._waiting = bytearray()

    def _finish(self) -> None:
        self._write()
        os.fsync(self._file.fileno())
        self._file.close()


class Drafts:
    """Where files come in; what an earlier start has left there goes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for left in folder.iterdir() if folder.is_dir() else ():
            left.unlink()

    def begin(self) -> Draft:
        """A file that begins to come in.

        Raises:
            OSError: it could not be made.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Draft(self._folder / secrets.token_hex(16))


class Blobs(Protocol):
    """Kept files, by their digest."""

    async def keep(self, draft: Draft, place: Place) -> None:
        """Keep a finished draft for good; one that is here already is only made young again.

        Raises:
            OSError: it cannot be kept.
        """
        ...

    def read(self, place: Place, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """The bytes from ``start`` up to ``stop``, piece by piece.

        Raises:
            OSError: they cannot be read; FileNotFoundError: they are not here.
        """
        ...

    def list(self) -> AsyncGenerator[Blob, None]:
        """All that is kept.

        Raises:
            OSError: it cannot be asked.
        """
        ...

    async def tidy(self, now_ms: int) -> int:
        """Remove what unfinished work has left long ago; how much that was.

        Raises:
            OSError: it cannot be done.
        """
        ...

    async def remove(self, blob: Blob) -> None:
        """Forget it; one that is not here is forgotten already.

        Raises:
            OSError: it cannot be removed.
        """
        ...

    async def close(self) -> None:
        """End what is open."""
        ...


class LocalBlobs:
    """Kept files under a folder, which is made with the first of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def keep(self, draft: Draft, _place: Place) -> None:
        """See :class:`Blobs`: files of one digest lie here once, whoever brought them."""
        await asyncio.to_thread(self._keep, draft)

    def _keep(self, draft: Draft) -> None:
        path = self._path(draft.sha256)
        is_new = not path.parent.is_dir()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.path.replace(path)  # over one that is here already: it has the same bytes, and is young now
        _sync(path.parent)
        for above in list(path.parents)[1:4] if is_new else ():
            _sync(above)

    async def read(self, place: Place, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """See :class:`Blobs`."""
        file = await asyncio.to_thread(self._path(place.sha256).open, "rb", 0)
        with file:
            file.seek(start)
            while start < stop:
                piece = await asyncio.to_thread(file.read, min(PIECE_BYTES, stop - start))
                if not piece:
                    message = f"{place.sha256} ends at {start} bytes"
                    raise OSError(message)
                start += len(piece)
                yield piece

    async def list(self) -> AsyncGenerator[Blob, None]:
        """See :class:`Blobs`."""
        for folder in await asyncio.to_thread(_entries, self._folder):
            for path in await asyncio.to_thread(_entries, folder):
                if len(path.name) != _DIGEST_CHARS:
                    continue
                try:
                    found = await asyncio.to_thread(path.stat)
                except FileNotFoundError:
                    continue  # it was forgotten since we began
                yield Blob(path.name, found.st_size, int(found.st_mtime * 1000))

    async def tidy(self, _now_ms: int) -> int:
        """See :class:`Blobs`: drafts lie elsewhere (:class:`Drafts`)."""
        return 0

    async def remove(self, blob: Blob) -> None:
        """See :class:`Blobs`."""
        await asyncio.to_thread(self._path(blob.sha256).unlink, missing_ok=True)

    async def close(self) -> None:
        """See :class:`Blobs`."""

    def _path(self, sha256: str) -> Path:
        assert len(sha256) == _DIGEST_CHARS and sha256.isalnum(), "digests are made here, and safe in paths"  # noqa: PT018 - one fact
        return self._folder / sha256[:2] / sha256


def _entries(folder: Path) -> tuple[Path, ...]:
    return tuple(folder.iterdir()) if folder.is_dir() else ()


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
