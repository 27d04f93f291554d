"""How much of a disk the files of an attempt take, whatever the work does to hide them.

Counts what is taken, not what is said: blocks, not lengths; a file with several names once; no link is followed. A file
takes its share of the numbers that the file system has for files, too: a million empty ones fill a disk as well. What
has no name any more and is held open is asked of the processes that hold it, and a directory that is closed to its
owner is opened for as long as it takes. Work may change all of it meanwhile; a count ends in any case, because it goes
no further than the limit. Caller: ``sidecar/quota.py``, in a thread.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

_BLOCK: Final = 512
"""Bytes of ``st_blocks``, whatever the file system."""
_PATH_BYTES: Final = 3_000
"""Of a path that is opened at once; the kernel takes 4,096."""
_MOST_STAGES: Final = 64
"""How often a path may be that long: each time a descriptor is held."""

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMED: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE: Final = (FileNotFoundError, NotADirectoryError)
"""What a directory has become that was there a moment ago; or, by its number, a link that leads to itself."""


class TooDeep(Exception):
    """Directories lie in one another so deep that nobody can count them."""


class _Enough(Exception):
    """There is more than anybody wants to know."""


def share_bytes(folder: Path) -> int:
    """What a file costs at least: its share of a disk whose numbers for files are limited.

    Raises:
        OSError: the file system cannot be asked.
    """
    found = os.statvfs(folder)
    return max(_BLOCK, found.f_blocks * found.f_frsize // found.f_files if found.f_files else 0)


def taken(folders: Sequence[Path], most_bytes: int, least_bytes: int = _BLOCK, pids: Iterable[int] = ()) -> int:
    """Bytes that these folders take; more than ``most_bytes`` says only that it is more.

    Args:
        folders: what is counted; one that is not there takes nothing.
        most_bytes: when to stop.
        least_bytes: what a file costs at least.
        pids: processes whose open files count, if they have no name any more.
    Raises:
        TooDeep: nobody can say.
        OSError: we have no descriptor left to look with.
    """
    count = _Count(most_bytes, least_bytes)
    with contextlib.suppress(_Enough):
        for folder in folders:
            with contextlib.suppress(*_GONE), _handle(str(folder.parent), None) as fd:
                count.stage(fd, folder.name, 0)
        count.nameless(pids)
    return count.bytes


class _Count:
    def __init__(self, most_bytes: int, least_bytes: int) -> None:
        self.bytes = 0
        self._most, self._least = most_bytes, least_bytes
        self._devices, self._seen = set[int](), set[tuple[int, int]]()

    def stage(self, root: int, first: str, number: int) -> None:
        """Count what is below a directory of ``root``: own stack and few descriptors, for trees of any shape."""
        if number > _MOST_STAGES:
            raise TooDeep
        waiting, deeper, closed = [first], list[str](), list[str]()
        while waiting:
            path = waiting.pop()
            try:
                names = self._directories(root, path)
            except PermissionError:
                closed.append(path)
                continue
            for inner in (f"{path}/{name}" for name in names):
                (waiting if len(os.fsencode(inner)) <= _PATH_BYTES else deeper).append(inner)
        for how, paths in ((_handle, deeper), (_ajar, closed)):
            for path in paths:
                with contextlib.suppress(*_GONE, PermissionError), how(path, root) as fd:
                    self.stage(fd, ".", number + 1)

    def _directories(self, root: int, path: str) -> list[str]:
        """Add what a directory holds; the names of those in it."""
        found = []
        try:
            fd = os.open(path, _DIRECTORY, dir_fd=root)
        except _GONE:
            return []
        except OSError as exc:
            if exc.errno == errno.ELOOP:
                return []
            raise
        try:
            self._devices.add(os.fstat(fd).st_dev)
            with os.scandir(fd) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        self._add(about := entry.stat(follow_symlinks=False))
                        if stat.S_ISDIR(about.st_mode):
                            found.append(entry.name)
        finally:
            os.close(fd)
        return found

    def nameless(self, pids: Iterable[int]) -> None:
        """Add what these processes hold open though it has no name any more."""
        for about in _open_files(pids):
            if about.st_nlink == 0 and stat.S_ISREG(about.st_mode) and about.st_dev in self._devices:
                self._add(about, is_shared=True)

    def _add(self, about: os.stat_result, *, is_shared: bool = False) -> None:
        if is_shared or (about.st_nlink > 1 and not stat.S_ISDIR(about.st_mode)):
            if (about.st_dev, about.st_ino) in self._seen:
                return
            self._seen.add((about.st_dev, about.st_ino))
        self.bytes += max(about.st_blocks * _BLOCK, self._least)
        if self.bytes > self._most:
            raise _Enough


@contextlib.contextmanager
def _handle(path: str, root: int | None) -> Iterator[int]:
    """A directory that may be closed to us: it can be named, not read."""
    try:
        fd = os.open(path, _NAMED, dir_fd=root)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise FileNotFoundError(exc.errno, exc.strerror, path) from exc
        raise
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _ajar(path: str, root: int) -> Iterator[int]:
    """A directory that its owner has closed, open while we look; as it was behind us, unless the work changed it."""
    with _handle(path, root) as fd:
        here, before = f"/proc/self/fd/{fd}", stat.S_IMODE(os.fstat(fd).st_mode)
        os.chmod(here, before | stat.S_IRUSR | stat.S_IXUSR)  # noqa: PTH101 - no path: what the descriptor names
        try:
            yield fd
        finally:
            if stat.S_IMODE(os.fstat(fd).st_mode) == before | stat.S_IRUSR | stat.S_IXUSR:
                os.chmod(here, before)  # noqa: PTH101 - as above


def _open_files(pids: Iterable[int]) -> Iterator[os.stat_result]:
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        with contextlib.suppress(OSError):  # it has ended, or hides them
            for name in os.listdir(folder):  # noqa: PTH208 - a path object for each would cost more than all the rest
                with contextlib.suppress(OSError):
                    yield os.stat(f"{folder}/{name}")  # noqa: PTH116 - as above
