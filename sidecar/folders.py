"""Files, directories and locks on this disk: claim one, remove one, write one that lasts.

Knows no git and no attempt. Callers: ``sidecar/workspace.py``, ``sidecar/cache.py`` and ``sidecar/app.py``.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


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
    """Remove a directory with everything in it, also what was made read-only; whether it is gone now."""

    def loosen(remove: Callable[..., Any], where: str, _: object) -> None:
        with contextlib.suppress(OSError):
            for folder in (os.path.dirname(where), where):  # noqa: PTH120 - shutil speaks in strings
                if stat.S_ISDIR(os.lstat(folder).st_mode):
                    os.chmod(folder, 0o700)  # noqa: PTH101 - as above
            if remove in {os.open, os.scandir, os.listdir}:
                shutil.rmtree(where, ignore_errors=True)
            else:
                remove(where)

    shutil.rmtree(path, onerror=loosen)
    if path.is_symlink() or path.is_file():
        path.unlink()
    return not path.exists()


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
