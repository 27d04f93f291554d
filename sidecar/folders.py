"""Files, directories and locks on this disk: claim one, remove one, write one that lasts.

Knows no git and no attempt. Callers: ``sidecar/workspace.py``, ``sidecar/cache.py`` and ``sidecar/app.py``.
"""

import contextlib
import fcntl
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PASSES: Final = 3


def claim(lock: Path) -> int | None:
    """Descriptor of an exclusive lock that ends with this process at the latest; ``None`` if somebody has it."""
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def remove_tree(path: Path) -> bool:
    """Remove a directory with everything in it, also what was made read-only; whether it is gone now.

    However deep it is: work makes what it likes, and neither our stack nor the longest path may bound what we remove.
    So every directory is moved up to the first one before it is emptied. Nothing is followed out of it.
    """
    for _ in range(_PASSES):  # something may still be making files there
        if not os.path.lexists(path):
            return True
        with contextlib.suppress(OSError):
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            else:
                _empty(path)
                path.rmdir()
    return not os.path.lexists(path)


def _empty(path: Path) -> None:
    top = _opened(str(path), None)
    if top is None:
        return
    try:
        token, below = secrets.token_hex(8), _clear(top, top, "", 0)
        count, left = len(below), below
        while left:
            name = left.pop()
            fd = _opened(name, top)
            if fd is None:
                continue
            try:
                raised = _clear(fd, top, token, count)
            finally:
                os.close(fd)
            count += len(raised)
            left += raised
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)


def _clear(fd: int, top: int, token: str, count: int) -> list[str]:
    """Remove the files of a directory and move its directories to ``top``; their names there."""
    raised = []
    with os.scandir(fd) as found:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
    for name, is_folder in entries:
        with contextlib.suppress(OSError):
            if not is_folder:
                os.unlink(name, dir_fd=fd)
            elif fd == top:
                raised.append(name)
            else:
                place = f"{token}-{count + len(raised)}"
                _loosen(name, fd)  # what is moved elsewhere has to be writable itself
                os.rename(name, place, src_dir_fd=fd, dst_dir_fd=top)
                raised.append(place)
    return raised


def _opened(name: str, folder: int | None) -> int | None:
    """A directory that may be read and changed now; ``None``: it cannot be had."""
    with contextlib.suppress(OSError):
        _loosen(name, folder)
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    return None


def _loosen(name: str, folder: int | None) -> None:
    """Let us into a directory; what has become a link meanwhile is not followed."""
    if sys.platform != "linux":
        os.chmod(name, stat.S_IRWXU, dir_fd=folder, follow_symlinks=False)
        return
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if os.fstat(fd).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(f"/proc/self/fd/{fd}", stat.S_IRWXU)  # noqa: PTH101 - a descriptor that only names it
    finally:
        os.close(fd)


def walk(root: Path) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Every directory below, however deep, with what is in it; what cannot be read is left out, no link is followed."""
    left = [str(root)]
    while left:
        folder = left.pop()
        try:
            with os.scandir(folder) as found:
                entries = list(found)
        except OSError:
            continue
        yield folder, entries
        left += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def size_bytes(root: Path, most: int | None = None) -> int:
    """What all files below take; who wants to know whether it is more than ``most`` hears that as soon as it is."""
    total = 0
    for _, entries in walk(root):
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                total += 0 if entry.is_dir(follow_symlinks=False) else entry.stat(follow_symlinks=False).st_size
        if most is not None and total > most:
            break
    return total


def is_young(path: Path, most_s: float) -> bool:
    """Whether there is a file that was written no longer ago than that."""
    try:
        return time.time() - path.stat().st_mtime < most_s
    except FileNotFoundError:
        return False


def write_afresh(path: Path, text: str) -> None:
    """Put a file of ours where work can write, whatever it has put there: a link is replaced, never followed."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)


def write_lasting(path: Path, text: str) -> None:
    """Write a small file so that a crash or a power cut leaves either all of it or what was there before."""
    draft = path.with_name(f".{path.name}.new")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
