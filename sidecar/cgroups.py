"""What the kernel counts for the control groups that we and our children are in: kills for memory, forks refused.

Reads both versions of control groups; where there are none, nothing is ever counted. Our children share our groups, so
a difference over a run may be another run's: it is taken for a hint and only where the program failed. Caller:
``sidecar/process.py``.
"""

from pathlib import Path
from typing import Final, NamedTuple

_ROOT: Final = Path("/sys/fs/cgroup")


class Counted(NamedTuple):
    """Since the groups were made: processes ended for want of memory, forks refused."""

    oom_kills: int = 0
    refused_forks: int = 0


class Counters:
    """The counters of the groups that this process is in."""

    def __init__(self, membership: Path = Path("/proc/self/cgroup"), root: Path = _ROOT) -> None:
        self._memory: tuple[Path, bytes] | None = None
        self._forks: tuple[Path, bytes] | None = None
        try:
            lines = membership.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return
        for line in lines:
            _, controllers, path = [*line.split(":", 2), "", ""][:3]
            for controller in controllers.split(","):
                here = root / controller / path.lstrip("/") if controller else root / path.lstrip("/")
                if controller in {"", "memory"}:
                    self._memory = _first(here, ("memory.events", "memory.oom_control"), b"oom_kill") or self._memory
                if controller in {"", "pids"}:
                    self._forks = _first(here, ("pids.events",), b"max") or self._forks

    def read(self) -> Counted:
        """What is counted now."""
        return Counted(_count(self._memory), _count(self._forks))


def _first(folder: Path, names: tuple[str, ...], key: bytes) -> tuple[Path, bytes] | None:
    return next(((folder / name, key) for name in names if (folder / name).is_file()), None)


def _count(where: tuple[Path, bytes] | None) -> int:
    if where is None:
        return 0
    path, key = where
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return 0
    return next((int(words[1]) for line in lines if len(words := line.split()) > 1 and words[0] == key), 0)
