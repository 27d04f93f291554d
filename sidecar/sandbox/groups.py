"""A control group for every attempt: how much memory, how many processes and processors its programs get together.

Control groups of version 1 are made below those that the sidecar is in, where it may write there (as root). Those of
version 2 are made in the sidecar's own group, if that was given to it (``Delegate=yes`` in its systemd unit) and nobody
else is in it: the sidecar then goes into a group beside them, because only a group without members can give limits.
Where neither works, :attr:`Groups.works` is false and every program has limits of its own instead
(``sidecar/sandbox/cell.py``).

The launcher enters the group by itself, through a descriptor of ours; what it starts is in it from the beginning.
"""

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog

from sidecar import guard as search
from sidecar.cgroups import OURS, ROOT, Counted, Counters, groups_of
from sidecar.sandbox.policy import Limits

log = structlog.get_logger(__name__)

_PREFIX: Final = "agentcom-"
_WANTED: Final = ("memory", "pids", "cpu")
_numbers = itertools.count(1)
"""Of groups of this process, which no two have in common."""
_PERIOD_US: Final = 100_000
_EMPTY_LOOKS: Final = 200
"""How often a group is looked at until it is empty, at intervals of 10 ms."""


class Groups:
    """Makes the control groups of this sidecar's attempts.

    Args:
        limits: of each attempt.
        membership, root: where the kernel says in which groups we are, and shows them.

    Attributes:
        works: groups can be made here; known after :meth:`find`.
    """

    def __init__(self, limits: Limits, membership: Path = OURS, root: Path = ROOT) -> None:
        self._limits, self._membership, self._root = limits, membership, root
        self._parents: dict[str, Path] = {}
        """By controller; of version 2 all in one directory."""
        self.works = False

    def find(self) -> bool:
        """Find out by trying whether groups with these limits can be made; sweeps up what dead sidecars have left."""
        found = groups_of(self._membership, self._root)
        own = found.pop("", None)
        wanted = _WANTED if self._limits.cpus else _WANTED[:2]
        self._parents = {name: found[name] for name in wanted if name in found}
        if not self._parents and own and self._take(own):
            self._parents = dict.fromkeys(_WANTED, own)
        for folder in {*self._parents.values()}:
            _sweep(folder)
        try:
            group = self.make()
        except OSError as exc:
            log.info("no_control_groups", why=str(exc), next="limits per process instead")
            return False
        self.works = bool(group.folders)
        group.remove()
        return self.works

    def make(self) -> "Group":
        """A new group, empty, with its limits.

        Raises:
            OSError: the system does not let us.
        """
        name = f"{_PREFIX}{os.getpid()}-{next(_numbers)}"
        group = Group(tuple(dict.fromkeys(folder / name for folder in self._parents.values())))
        try:
            for folder in group.folders:
                folder.mkdir()
            for controller, folder in self._parents.items():
                for file, value, is_needed in self._settings(controller):
                    if is_needed or (folder / name / file).exists():
                        _write(folder / name / file, value)
        except OSError:
            group.remove()
            raise
        return group

    def _settings(self, controller: str) -> Iterator[tuple[str, str, bool]]:
        """Files of one controller, what is written into each, and whether it has to be there."""
        limits, is_one = self._limits, "cgroup.controllers" not in _names(self._parents[controller])
        match controller:
            case "memory" if is_one:
                yield "memory.limit_in_bytes", str(limits.memory_bytes), True
                yield "memory.memsw.limit_in_bytes", str(limits.memory_bytes), False  # with what is swapped out
            case "memory":
                yield "memory.max", str(limits.memory_bytes), True
                yield "memory.swap.max", "0", False
            case "pids":
                yield "pids.max", str(limits.processes), True
            case "cpu" if limits.cpus and is_one:
                yield "cpu.cfs_quota_us", str(int(limits.cpus * _PERIOD_US)), True
            case "cpu" if limits.cpus:
                yield "cpu.max", f"{int(limits.cpus * _PERIOD_US)} {_PERIOD_US}", True

    def _take(self, own: Path) -> bool:
        """Leave our own group of version 2, with our children, for one below it, so that it can give limits."""
        if not {"memory", "pids"} <= {*_read(own / "cgroup.controllers").split()}:
            return False
        aside, ours = own / f"{_PREFIX}{os.getpid()}-self", [os.getpid(), *search.children()]
        try:
            aside.mkdir(exist_ok=True)
            for pid in ours:
                _write(aside / "cgroup.procs", str(pid))
            _write(own / "cgroup.subtree_control", " ".join(f"+{name}" for name in _WANTED))
        except OSError as exc:
            log.info("control_group_not_ours", group=str(own), why=str(exc), next="limits per process instead")
            for pid in ours:
                with contextlib.suppress(OSError):
                    _write(own / "cgroup.procs", str(pid))
            with contextlib.suppress(OSError):
                aside.rmdir()
            return False
        return True


class Group:
    """The control group of one attempt: a directory, or with version 1 one for each controller."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self.folders = folders

    @contextlib.contextmanager
    def doors(self) -> Iterator[tuple[int, ...]]:
        """Descriptors; who writes ``0`` into all of them is in the group."""
        with contextlib.ExitStack() as stack:
            fds = []
            for folder in self.folders:
                # A thread that moves itself needs no lock of the whole system; a process does, for 10 ms and more.
                door = folder / "tasks" if (folder / "tasks").exists() else folder / "cgroup.procs"
                fds.append(os.open(door, os.O_WRONLY | os.O_CLOEXEC))
                stack.callback(os.close, fds[-1])
            yield tuple(fds)

    def counted(self) -> Counted:
        """What the kernel has ended and refused in it so far."""
        return Counters(self.folders).read()

    async def close(self) -> int:
        """Kill whatever is still in it, and remove it; how many were killed."""
        killed = set[int]()
        for _ in range(_EMPTY_LOOKS):
            found = {pid for folder in self.folders for pid in _members(folder)}
            if not found and self.remove():
                break
            for file in (folder / "pids.max" for folder in self.folders):
                # Nobody in it may start anything any more, so that we are quicker than whoever multiplies.
                if file.exists():
                    _write(file, "0")
            killed |= {pid for pid in found if search.send(pid, signal.SIGKILL)}
            await asyncio.sleep(0.01)
        else:
            log.error("control_group_left", group=str(self.folders[0]), next="removed at the next start")
        return len(killed)

    def remove(self) -> bool:
        """Remove it if nothing runs in it; whether it is gone."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                folder.rmdir()
        return not any(folder.exists() for folder in self.folders)


def _sweep(folder: Path) -> None:
    """Remove groups of sidecars that are no more, and kill what is in them."""
    for left in folder.glob(f"{_PREFIX}*-*"):
        owner = left.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not search.is_process(int(owner)):
            for pid in _members(left):
                search.send(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                left.rmdir()


def _members(folder: Path) -> list[int]:
    """Processes in a group; one of another process table is 0 there, and nobody that we could end."""
    return [int(pid) for pid in _read(folder / "cgroup.procs").split() if pid != "0"]


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _write(path: Path, value: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
