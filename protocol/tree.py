"""Files below one directory (a workspace, a project), reached so that no path leads out of it.

Linux opens a path in one step that stays beneath the directory and meets no link (openat2); elsewhere it is walked from
the directory, one name at a time, and no symbolic link is followed. So neither ``..``, nor an absolute path, nor a link
that somebody has planted reaches anything else, and a swap between check and use has nothing to gain. ``.git`` is
refused: what stands there makes git run programs.

It is here because hub and sidecar both need it; no rule of the contract imports it.
"""

import contextlib
import ctypes
import errno
import os
import secrets
import stat
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Final

from protocol.errors import BadInput, Problem, StorageFull
from protocol.limits import MAX_PATH_CHARS

MAX_READ_BYTES: Final = 8 << 20
_KINDS: Final = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def names_of(path: str) -> tuple[str, ...]:
    """The names that ``path`` walks through, none for the workspace itself.

    Raises:
        BadInput: the path is absolute, climbs, names git's own files, or is no path at all.
    """
    problem = ""
    names = tuple(name for name in path.split("/") if name not in {"", "."})
    if "\0" in path or len(path) > MAX_PATH_CHARS or not path.isprintable():
        problem = f"is no usable path: printable characters, at most {MAX_PATH_CHARS}"
    elif path.startswith(("/", "~")) or ".." in names or "\\" in path:
        problem = "leaves the workspace; give a path inside it, like src/a.py"
    elif any(name.lower() == ".git" for name in names):
        problem = "belongs to git itself and is not touched"
    if problem:
        raise BadInput([Problem("path", f"{path[:100]!r} {problem}")], "path")
    return names


class Tree:
    """The files below ``root``, which must be a directory; ``walks``: name by name, as on a kernel without openat2."""

    def __init__(self, root: Path, *, walks: bool = False) -> None:
        self.root, self._walks = root, walks

    @contextlib.contextmanager
    def _directory(self, names: tuple[str, ...], *, make: bool = False, lasting: bool = False) -> Iterator[int]:
        """A file descriptor of the directory that ``names`` lead to."""
        here = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if names and not (make or self._walks) and (there := _beneath(here, names)) is not None:
                os.close(here)
                here, names = there, ()
            for name in names:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, dir_fd=here)
                        if lasting:
                            os.fsync(here)
                there = os.open(name, _DIRECTORY, dir_fd=here)
                os.close(here)
                here = there
            yield here
        finally:
            os.close(here)

    def exists(self, path: str) -> bool:
        """Whether a file or directory is there; a link, or anything behind one, is not.

        Raises:
            BadInput: the path leaves the workspace.
        """
        return self.kind(path) in {"file", "directory"}

    def kind(self, path: str) -> str:
        """What is there: ``file``, ``directory``, ``link`` or ``other``; empty for nothing, or what is behind a link.

        Raises:
            BadInput: the path leaves the workspace.
        """
        found = self._stat(names_of(path))
        return "" if found is None else _KINDS.get(stat.S_IFMT(found.st_mode), "other")

    def kind_for_sure(self, path: str) -> str:
        """As :meth:`kind`, but only what is not there is nothing: what cannot be looked at may be anything.

        Raises:
            BadInput: the path leaves the workspace, leads through a link, or cannot be looked at.
        """
        names = names_of(path)
        for above in range(1, len(names)):
            kind = self._sure(names[:above], path)
            if kind == "link":
                raise _refusal(path, "leads through a link; links are not followed")
            if kind != "directory":
                return ""
        return self._sure(names, path)

    def _sure(self, names: tuple[str, ...], path: str) -> str:
        try:
            found = self._look(names)
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as exc:
            raise _refusal(path, _why(exc)) from exc
        return _KINDS.get(stat.S_IFMT(found.st_mode), "other")

    def size_bytes(self, path: str) -> int:
        """How large a regular file is; 0 if there is none.

        Raises:
            BadInput: the path leaves the workspace.
        """
        found = self._stat(names_of(path))
        return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else 0

    def _stat(self, names: tuple[str, ...]) -> os.stat_result | None:
        try:
            return self._look(names)
        except OSError:
            return None

    def _look(self, names: tuple[str, ...]) -> os.stat_result:
        if not names:
            return self.root.lstat()
        with self._directory(names[:-1]) as above:
            return os.stat(names[-1], dir_fd=above, follow_symlinks=False)

    def read_whole(self, path: str, limit_bytes: int) -> bytes:
        """All of a regular file.

        Raises:
            BadInput: the path leaves the workspace, there is no regular file, or it holds more than ``limit_bytes``.
        """
        content = self.read_bytes(path, limit_bytes + 1)
        if len(content) > limit_bytes:
            raise _refusal(path, f"holds more than {limit_bytes >> 20} MiB")
        return content

    def read_bytes(self, path: str, limit_bytes: int = MAX_READ_BYTES) -> bytes:
        """At most ``limit_bytes`` from the beginning of a regular file.

        Raises:
            BadInput: the path leaves the workspace, or there is no regular file; the text says which.
        """
        with self.opened(path) as file:
            try:
                return file.read(limit_bytes)
            except OSError as exc:
                raise _refusal(path, _why(exc)) from exc

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[IO[bytes]]:
        """A regular file, open for reading.

        Raises:
            BadInput: as :meth:`read_bytes`.
        """
        opened, _ = self.open(path)
        with opened:
            yield opened

    def open(self, path: str) -> tuple[IO[bytes], int]:
        """A regular file, open for reading (the caller closes it), and its length.

        Raises:
            BadInput: as :meth:`read_bytes`.
        """
        names = names_of(path)
        # O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with self._directory(names[:-1]) as above:
                file = os.open(names[-1] if names else ".", flags, dir_fd=above)
        except OSError as exc:
            raise _refusal(path, _why(exc)) from exc
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            os.close(file)
            raise _refusal(path, "is no regular file")
        return os.fdopen(file, "rb"), found.st_size

    def write_bytes(self, path: str, content: bytes, *, lasting: bool = False) -> None:
        """Replace or create a file, directories included; whoever reads meanwhile sees the old or the new one whole.

        Args:
            path, content: the file.
            lasting: only return when it survives a power cut.

        Raises:
            BadInput: the path leaves the workspace, or something that is no regular file stands there.
            StorageFull: the disk has no room for it, or its owner may have no more.
        """
        names = names_of(path)
        if not names:
            raise _refusal(path, "is the workspace itself")
        try:
            with self._directory(names[:-1], make=True, lasting=lasting) as above:
                _replace(above, names[-1], path, content, lasting=lasting)
        except OSError as exc:
            if exc.errno in _FULL:
                raise StorageFull(f"{path[:100]!r} was not written: {exc.strerror}") from exc
            raise _refusal(path, _why(exc)) from exc

    def entries(self, path: str) -> list[tuple[str, str]]:
        """``(name, kind)`` of what a directory holds, sorted; kind is ``file``, ``directory``, ``link`` or ``other``.

        Raises:
            BadInput: the path leaves the workspace, or is no directory.
        """
        try:
            with self._directory(names_of(path)) as here, os.scandir(here) as listed:
                return sorted((entry.name, _kind(entry)) for entry in listed if entry.name.lower() != ".git")
        except OSError as exc:
            raise _refusal(path, _why(exc)) from exc

    def listing(self, path: str) -> list["Entry"]:
        """What a directory holds, sorted by name.

        Raises:
            BadInput: the path leaves the workspace, or is no directory.
        """
        try:
            with self._directory(names_of(path)) as here, os.scandir(here) as listed:
                # A name that cannot be printed is no path that anybody could ask for.
                names = (entry for entry in listed if entry.name.lower() != ".git" and entry.name.isprintable())
                found = [_entry(entry) for entry in names]
        except OSError as exc:
            raise _refusal(path, _why(exc)) from exc
        return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.name)

    def remove(self, path: str) -> None:
        """Remove a file, a link (never what it points to), or an empty directory.

        Raises:
            BadInput: the path leaves the workspace, or nothing there can be removed.
        """
        names = names_of(path)
        if not names:
            raise _refusal(path, "is the workspace itself")
        try:
            with self._directory(names[:-1]) as above:
                if stat.S_ISDIR(os.stat(names[-1], dir_fd=above, follow_symlinks=False).st_mode):
                    os.rmdir(names[-1], dir_fd=above)
                else:
                    os.unlink(names[-1], dir_fd=above)
        except OSError as exc:
            raise _refusal(path, _why(exc)) from exc


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a directory; ``kind`` as in :meth:`Tree.entries`, time as Unix nanoseconds."""

    name: str
    kind: str
    size_bytes: int
    changed_ns: int


def _entry(entry: os.DirEntry[str]) -> Entry | None:
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None  # removed since the directory was read
    return Entry(entry.name, _kind(entry), found.st_size, found.st_mtime_ns)


_OPENAT2: Final = 437
_RESOLVE: Final = 0x08 | 0x04 | 0x02  # BENEATH, NO_SYMLINKS, NO_MAGICLINKS


@cache
def _libc() -> ctypes.CDLL | None:
    """The C library, if this kernel has openat2 and lets us use it."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        there = _openat2(libc, here, ".")
    except OSError:
        return None  # older than Linux 5.6, or a filter of system calls that does not know it
    finally:
        os.close(here)
    os.close(there)
    return libc


def _openat2(libc: ctypes.CDLL, above: int, path: str) -> int:
    """A descriptor of a directory beneath ``above``. https://man7.org/linux/man-pages/man2/openat2.2.html."""
    how = struct.pack("=QQQ", _DIRECTORY, 0, _RESOLVE)
    found: int = libc.syscall(_OPENAT2, above, os.fsencode(path), how, len(how))
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return found


def _beneath(above: int, names: tuple[str, ...]) -> int | None:
    """The directory that ``names`` lead to, opened in one step; ``None`` if it has to be walked."""
    libc = _libc()
    if libc is None:
        return None
    try:
        return _openat2(libc, above, "/".join(names))
    except OSError as exc:
        if exc.errno == errno.EAGAIN:
            return None  # something was renamed meanwhile, so the kernel would not promise
        raise


def _replace(above: int, name: str, path: str, content: bytes, *, lasting: bool) -> None:
    try:
        found = os.stat(name, dir_fd=above, follow_symlinks=False).st_mode
    except FileNotFoundError:
        mode = None
    else:
        if not stat.S_ISREG(found):
            raise _refusal(path, "is there and is no regular file")
        mode = stat.S_IMODE(found)
    # A new file that takes the old one's name: a hard link to something outside keeps its content.
    fresh = f".{secrets.token_hex(8)}.new"
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=above)
    try:
        with os.fdopen(file, "wb") as opened:
            if mode is not None:
                os.fchmod(file, mode)
            opened.write(content)
            if lasting:
                opened.flush()
                os.fsync(file)
        os.rename(fresh, name, src_dir_fd=above, dst_dir_fd=above)
        if lasting:
            os.fsync(above)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=above)
        raise


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "directory"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


def _refusal(path: str, why: str) -> BadInput:
    return BadInput([Problem("path", f"{path[:100]!r} {why}")], "path")


def _why(exc: OSError) -> str:
    match exc.errno:
        case errno.ENOENT:
            return "is not there"
        case errno.ELOOP:
            return "is a link; links are not followed"
        case errno.ENOTDIR:
            return "is no directory, or leads through a link or a file"
        case errno.EISDIR:
            return "is a directory"
        case errno.ENOTEMPTY | errno.EEXIST:
            return "is a directory that is not empty"
        case _:
            return f"cannot be used: {exc.strerror}"
