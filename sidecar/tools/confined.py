"""Files of a workspace, reached so that no path leads out of it.

Every path is walked from the workspace's directory, one name at a time, and no symbolic link is followed; so neither
``..``, nor an absolute path, nor a link that the work has planted reaches anything else, and a swap between check and
use has nothing to gain. ``.git`` is refused: what stands there makes git run programs.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from protocol.errors import BadInput, Problem
from protocol.limits import MAX_PATH_CHARS

MAX_READ_BYTES: Final = 8 << 20
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
    """The files below ``root``, which must be a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextlib.contextmanager
    def _directory(self, names: tuple[str, ...], *, make: bool = False) -> Iterator[int]:
        """A file descriptor of the directory that ``names`` lead to."""
        here = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in names:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, dir_fd=here)
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
        """``file`` or ``directory``; empty for anything else, also for what is behind a link.

        Raises:
            BadInput: the path leaves the workspace.
        """
        found = self._stat(names_of(path))
        if found is None:
            return ""
        return "file" if stat.S_ISREG(found.st_mode) else "directory" if stat.S_ISDIR(found.st_mode) else ""

    def size_bytes(self, path: str) -> int:
        """How large a regular file is; 0 if there is none.

        Raises:
            BadInput: the path leaves the workspace.
        """
        found = self._stat(names_of(path))
        return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else 0

    def _stat(self, names: tuple[str, ...]) -> os.stat_result | None:
        if not names:
            return self.root.lstat()
        try:
            with self._directory(names[:-1]) as above:
                return os.stat(names[-1], dir_fd=above, follow_symlinks=False)
        except OSError:
            return None

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
            BadInput: the path leaves the workspace, or there is no regular file; the text says which.
        """
        names = names_of(path)
        try:
            with self._directory(names[:-1]) as above:
                # O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                found = os.open(names[-1] if names else ".", flags, dir_fd=above)
        except OSError as exc:
            raise _refusal(path, _why(exc)) from exc
        try:
            if not stat.S_ISREG(os.fstat(found).st_mode):
                raise _refusal(path, "is no regular file")
            with os.fdopen(found, "rb", closefd=False) as file:
                yield file
        finally:
            os.close(found)

    def write_bytes(self, path: str, content: bytes) -> None:
        """Replace or create a file, directories included; whoever reads meanwhile sees the old or the new one whole.

        Raises:
            BadInput: the path leaves the workspace, or something that is no regular file stands there.
        """
        names = names_of(path)
        if not names:
            raise _refusal(path, "is the workspace itself")
        try:
            with self._directory(names[:-1], make=True) as above:
                _replace(above, names[-1], path, content)
        except OSError as exc:
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


def _replace(above: int, name: str, path: str, content: bytes) -> None:
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
        os.rename(fresh, name, src_dir_fd=above, dst_dir_fd=above)
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
        case _:
            return f"cannot be used: {exc.strerror}"
