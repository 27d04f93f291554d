"""One hub a data directory: whoever uses the files in it holds its lock. Callers: ``app.py``, ``recovery.py``."""

import fcntl
from pathlib import Path
from typing import IO

from protocol.errors import BadInput, Problem


def hold(folder: Path) -> IO[str]:
    """The lock of ``folder``, which is made if it is not there; closing it lets go. The kernel frees that of the dead.

    Raises:
        BadInput: another hub holds it, or the folder cannot be used.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / "hub.lock").open("a+", encoding="utf-8")
    except OSError as exc:
        raise _unusable(f"cannot use {folder}: {exc.strerror or exc}") from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        lock.close()
        raise _unusable(f"another hub uses {folder}; stop it or give another --data-dir") from exc
    return lock


def _unusable(why: str) -> BadInput:
    return BadInput([Problem("data_dir", why)], "settings")
