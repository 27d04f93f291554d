"""Remove a directory of this disk whatever somebody has made in it. Callers: hub and sidecar, wherever others write."""

import contextlib
import os
import secrets
import stat
import sys
from pathlib import Path
from typing import Final

_PASSES: Final = 3


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
    top = opened(str(path), None)
    if top is None:
        return
    try:
        token, below = secrets.token_hex(8), _clear(top, top, "", 0)
        count, left = len(below), below
        while left:
            name = left.pop()
            fd = opened(name, top)
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


def opened(name: str, folder: int | None) -> int | None:
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
