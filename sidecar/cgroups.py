"""What the kernel counts for the control groups that we and our children are in: kills for memory, forks refused.

Reads both versions of control groups; where there are none, nothing is ever counted. Children that have no groups of
their own share ours, so a difference over a run may be another run's: it is taken for a hint and only where the program
failed. Callers: ``sidecar/process.py``, and ``sidecar/sandbox/groups.py``, which makes groups.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path("/sys/fs/cgroup")
OURS: Final = Path("/proc/self/cgroup")
"""Where the groups are shown, and which of them we are in."""


class Counted(NamedTuple):
    """Since the groups were made: processes ended for want of memory, forks refused."""

    oom_kills: int = 0
    refused_forks: int = 0


def groups_of(membership: Path, root: Path) -> dict[str, Path]:
    """Directories of the control groups in ``membership``, by controller; of version 2 under the name ""."""
    try:
        lines = membership.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        for controller in controllers.split(","):
            here = root / controller / path.lstrip("/") if controller else root / path.lstrip("/")
            if here.is_dir():
                found[controller] = here
    return found


class Counters:
    """The counters of some groups; of those that this process is in if none are named."""

    def __init__(self, folders: Iterable[Path] | None = None) -> None:
        self._memory: tuple[Path, bytes] | None = None
        self._forks: tuple[Path, bytes] | None = None
        for here in groups_of(OURS, ROOT).values() if folders is None else folders:
            self._memory = _first(here, ("memory.events", "memory.oom_control"), b"oom_kill") or self._memory
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
