"""Unpack archives that nobody has looked at: nothing is written outside one folder, no link is made or followed.

Only regular files and folders are taken out; links, devices and pipes are left out. A path that climbs, is absolute or
leads through a link ends the whole: an archive that tries that is not one to trust in part. What it may become is
bounded in files, in bytes, and in how much larger than the archive it may be. Modes, owners and times of the archive
count for nothing (an executable stays one). Every folder on the way is opened and walked from, so a link that somebody
puts in its place meanwhile leads nowhere.
"""

import errno
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, Final, NamedTuple

from protocol.errors import BadInput, Problem

MAX_FILES: Final = 100_000
MAX_BYTES: Final = 16 << 30
MAX_RATIO: Final = 200
"""How many times its own size an archive may become; small ones may always become a little."""
FREE_BYTES: Final = 64 << 20
MAX_DEPTH: Final = 64
MAX_NAME_BYTES: Final = 255
_PIECE_BYTES: Final = 1 << 20
_MAX_HEAD_BYTES: Final = 1 << 20
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMING: Final = frozenset({tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
                            tarfile.GNUTYPE_LONGLINK})  # fmt: skip
_BROKEN: Final = (tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError, OSError, ValueError,
                  RuntimeError, NotImplementedError, OverflowError, MemoryError)  # fmt: skip
"""What the library says of bytes that are no such archive."""


class Limits(NamedTuple):
    """What an archive may become."""

    files: int = MAX_FILES
    size_bytes: int = MAX_BYTES
    ratio: int = MAX_RATIO
    free_bytes: int = FREE_BYTES


class Member(NamedTuple):
    """One entry of an archive: where it says it belongs, and what it holds (``None``: it is a folder)."""

    path: str
    content: IO[bytes] | None
    is_executable: bool


def extract(archive: Path, folder: Path, limits: Limits | None = None, *, force: bool = False) -> tuple[str, ...]:
    """Unpack a tar (plain, gz, bz2, xz) or zip into ``folder``; paths of the files. Empty: it is no archive.

    Files that were there before are replaced only with ``force``.

    Raises:
        BadInput: it is broken, tries to leave the folder, or is too large; what was written before stays.
    """
    members = _members(archive)
    if members is None:
        return ()
    unpacker = _Unpacker(folder, archive.stat().st_size, limits or Limits(), force=force)
    try:
        for member in members:
            unpacker.take(member)
    except _BROKEN as exc:
        raise _refused(archive.name, f"is broken: {str(exc)[:200] or type(exc).__name__}") from exc
    return tuple(unpacker.files)


def place(folder: Path, path: str) -> Path:
    """Where ``path`` lies below ``folder``; the folders on the way are made.

    Raises:
        BadInput: it is absolute, climbs, is no name that a file can have, or leads through a link or a file.
    """
    parts, here = _parts(path), folder
    try:
        here.mkdir(parents=True, exist_ok=True)
        for part in parts[:-1]:
            here /= part
            here.mkdir(exist_ok=True)
            if here.is_symlink() or not here.is_dir():
                raise _refused(path, "leads through a link")
    except OSError as exc:
        raise _refused(path, f"cannot be made: {exc.strerror or exc}") from exc
    return here / parts[-1]


@contextmanager
def _above(folder: Path, path: str) -> Iterator[tuple[int, str]]:
    """The directory that ``path`` lies in, open, and its name there; directories on the way are made.

    Raises:
        BadInput: as :func:`place`.
    """
    parts, here = _parts(path), -1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in parts[:-1]:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=here)
            there = os.open(part, _DIRECTORY, dir_fd=here)
            os.close(here)
            here = there
    except OSError as exc:
        if here >= 0:
            os.close(here)
        is_link = exc.errno in {errno.ELOOP, errno.ENOTDIR}
        raise _refused(path, "leads through a link" if is_link else f"cannot be made: {exc.strerror}") from exc
    try:
        yield here, parts[-1]
    finally:
        os.close(here)


def _parts(path: str) -> tuple[str, ...]:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or len(parts) > MAX_DEPTH or any(_is_bad(part) for part in parts):
        raise _refused(path, "is no path inside a folder")
    return parts


def _is_bad(part: str) -> bool:
    is_drive = len(part) >= 2 and part[1] == ":"  # noqa: PLR2004 - a letter and a colon
    try:
        is_long = len(part.encode()) > MAX_NAME_BYTES
    except UnicodeEncodeError:
        return True
    is_git = part.lower() == ".git"  # what stands there makes git run programs
    return part in {".", ".."} or "\\" in part or "\0" in part or is_drive or is_long or is_git


class _Unpacker:
    def __init__(self, folder: Path, archive_bytes: int, limits: Limits, *, force: bool) -> None:
        self._folder, self._limits, self._force = folder, limits, force
        self._most = min(limits.size_bytes, max(limits.free_bytes, archive_bytes * limits.ratio))
        self._count = self._size_bytes = 0
        self.files: dict[str, None] = {}

    def take(self, member: Member) -> None:
        self._count += 1
        if self._count > self._limits.files:
            raise _refused(member.path, f"is one too many: at most {self._limits.files:,} entries are unpacked")
        path = member.path.removeprefix("./").rstrip("/")
        if path in {"", "."}:
            return
        if member.content is None:
            with _above(self._folder, f"{path}/x"):
                return
        with _above(self._folder, path) as (above, name):
            self._make_room(above, name, path)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            mode = 0o777 if member.is_executable else 0o666
            with open(os.open(name, flags, mode, dir_fd=above), "wb") as file:  # noqa: PTH123 - a descriptor
                self._fill(file, path, member.content)
        self.files[path] = None

    def _make_room(self, above: int, name: str, path: str) -> None:
        try:
            found = os.stat(name, dir_fd=above, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISREG(found.st_mode):
            raise _refused(path, "is there already and is no regular file")
        if path not in self.files and not self._force:
            raise _refused(path, "is there already: unpack into another folder, or replace it with --force")
        os.unlink(name, dir_fd=above)  # a hard link to something outside keeps its content

    def _fill(self, file: IO[bytes], path: str, content: IO[bytes]) -> None:
        while piece := content.read(_PIECE_BYTES):
            self._size_bytes += len(piece)
            if self._size_bytes > self._most:
                raise _refused(path, f"makes it too large: at most {self._most:,} bytes are unpacked of this one")
            file.write(piece)


def _members(archive: Path) -> Iterator[Member] | None:
    try:
        if zipfile.is_zipfile(archive):
            return _of_zip(archive)
        tarfile.open(archive, tarinfo=_Entry).close()
    except _BROKEN:
        return None
    return _of_tar(archive)


def _of_zip(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            mode = entry.external_attr >> 16
            if entry.is_dir():
                yield Member(entry.filename, None, is_executable=False)
            elif stat.S_IFMT(mode) in {0, stat.S_IFREG}:
                with opened.open(entry) as content:
                    yield Member(entry.filename, content, is_executable=bool(mode & 0o100))


def _of_tar(archive: Path) -> Iterator[Member]:
    with tarfile.open(archive, tarinfo=_Entry) as opened:
        for entry in opened:
            opened.members = []  # type: ignore[attr-defined]  # each is looked at once: many of them need no memory
            if entry.isdir():
                yield Member(entry.name, None, is_executable=False)
            elif entry.isreg() and (content := opened.extractfile(entry)) is not None:
                with content:
                    yield Member(entry.name, content, is_executable=bool(entry.mode & 0o100))


class _Entry(tarfile.TarInfo):
    """An entry whose name does not take all memory: the library reads whatever length the archive claims for it."""

    def _proc_member(self, opened: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _NAMING and self.size > _MAX_HEAD_BYTES:
            message = f"a name of {self.size:,} bytes"
            raise tarfile.ReadError(message)
        found: tarfile.TarInfo = super()._proc_member(opened)  # type: ignore[misc]  # the library's own hook
        return found


def _refused(path: str, why: str) -> BadInput:
    return BadInput([Problem("archive", f"{path[:100]!r} {why}")], "archive")
