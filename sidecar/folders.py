"""Files, directories and locks on this disk: claim one, walk one, write one that lasts.

Knows no git and no attempt. Callers: ``sidecar/workspace.py``, ``sidecar/cache.py`` and ``sidecar/app.py``.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from protocol.removal import opened, remove_tree

_MOST_OPEN: Final = 200
"""Directories that are held open at a time: as many levels of them may hold several others."""


def claim(lock: Path) -> int | None:
    """Descriptor of an exclusive lock that ends with this process at the latest; ``None`` if somebody has it."""
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


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


def remove_links(root: Path) -> list[str]:
    """Remove every entry below, however deep, that is neither file nor directory; their names.

    Work may change the tree meanwhile, so every directory is opened in the one that held it, and none through a link.

    Raises:
        OSError: an entry cannot be removed, or the tree is nested beyond sense.
    """
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    left: list[tuple[int, list[str]]] = [(top, [])]
    removed: list[str] = []
    try:
        left[0][1].extend(_without_links(top, removed))
        while left:
            fd, below = left[-1]
            child = opened(below.pop(), fd) if below else None
            if not below:
                left.pop()
                os.close(fd)
            if child is not None:
                left.append((child, []))
                left[-1][1].extend(_without_links(child, removed))
            if len(left) > _MOST_OPEN:
                raise OSError(errno.ELOOP, "too many directories in one another", str(root))
    finally:
        for fd, _ in left:
            os.close(fd)
    return removed


def _without_links(folder: int, removed: list[str]) -> list[str]:
    """Remove what is neither file nor directory from this directory; names of its directories."""
    with os.scandir(folder) as found:
        kinds = [
            (entry.name, entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False)) for entry in found
        ]
    for name, is_folder, is_file in kinds:
        if not (is_folder or is_file):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
                removed.append(name)
    return [name for name, is_folder, _ in kinds if is_folder]


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
    write_new(str(path), text)


def write_new(name: str, text: str, folder: int | None = None) -> None:
    """Write a file that must not be there yet; ``folder``: descriptor of the directory that its name is for."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=folder), "w", encoding="utf-8") as file:
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
