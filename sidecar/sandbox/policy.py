"""What a confined program sees, and what of it may be changed.

Pure but for looking at which directories are there. Decides nothing about how that is enforced
(``sidecar/sandbox/bubblewrap.py``, ``landlock.py``). Caller: ``sidecar/sandbox/cell.py``.

A program sees the system's programs and settings, the directories of the search path, what the host's owner has named,
and the places of its own attempt. It does not see home directories, the state directory of the sidecar with everybody
else's work, nor anything under /var, /run, /srv or /mnt. It may write in its workspace, its scratch directory, which is
also its /tmp and its home, and where the owner said so.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix", "/snap")
SECRETS: Final = (
    *("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers", "/etc/sudoers.d"),
    *("/etc/ssh", "/etc/ssl/private", "/etc/pki/tls/private", "/etc/wireguard", "/etc/krb5.keytab"),
    *("/etc/NetworkManager/system-connections", "/etc/agentcom", "/etc/kubernetes", "/etc/rancher", "/etc/docker"),
)
"""Hidden even if the sidecar's user could read them."""
GPUS: Final = ("/dev/dri", "/dev/kfd", "/dev/dxg")
_GPU_PREFIX: Final = "nvidia"
_BESIDE_BIN: Final = ("lib", "lib64", "libexec", "include", "pyvenv.cfg")
"""What programs of ``X/bin`` need of ``X``; not all of ``X``, which may be ~/.local and hold keys."""
_OF_INTERPRETER: Final = ("lib", "lib64")
"""What the interpreter in ``X/bin`` needs of ``X``: ``pip.conf``, ``etc`` and such may hold credentials."""

MOST_FILE_BYTES: Final = 1 << 36


@dataclass(frozen=True, slots=True)
class Limits:
    """What the programs of an attempt may use together; without a control group each of them for itself.

    Attributes:
        memory_bytes: memory, what is swapped out too.
        processes: processes and threads.
        cpus: processors, such as 1.5; 0: all there are.
        disk_bytes: what its files take of the disk (``sidecar/quota.py``).
        file_bytes: length of a file.
        open_files: descriptors of one process.
    """

    memory_bytes: int = 1 << 36
    processes: int = 4_096
    cpus: float = 0.0
    disk_bytes: int = 1 << 40
    file_bytes: int = MOST_FILE_BYTES
    open_files: int = 1 << 16


@dataclass(frozen=True, slots=True)
class Rules:
    """What the owner of this host has said: more to read, more to write, the network or names in it, and limits."""

    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    network: bool = False
    limits: Limits = Limits()
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """The directories of one attempt.

    Attributes:
        workspace: where programs start.
        scratch: for what is no result; holds ``tmp`` and ``home``.
        read, write: more of it (its repository).
        fixed: files and directories inside what it may write that stay as they are.
    """

    workspace: Path
    scratch: Path
    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    fixed: tuple[Path, ...] = ()

    @property
    def tmp(self) -> Path:
        """What its programs take for /tmp."""
        return self.scratch / "tmp"

    @property
    def home(self) -> Path:
        """What its programs take for home."""
        return self.scratch / "home"


@dataclass(frozen=True, slots=True)
class View:
    """What there is for a program: paths to read, to write, devices, files that stay, and what is hidden in between.

    All exist, and each list is sorted so that a directory comes before what it holds. ``links`` are those to read, at
    the very top, that are only links to what is seen anyway (``/bin``). Others are no links here: below ``/tmp``, which
    is the attempt's own folder, a link that one command was shown would be in the way of the next.
    """

    read: tuple[Path, ...]
    write: tuple[Path, ...]
    devices: tuple[Path, ...]
    fixed: tuple[Path, ...]
    hidden: tuple[Path, ...]
    links: frozenset[Path] = frozenset()


def view(place: Place, rules: Rules, host: "Host") -> View:
    """What the programs of an attempt see on this host."""
    read = [*host.system, *rules.read, *place.read]
    write = [place.workspace, place.scratch, *rules.write, *place.write]
    topmost = _topmost(_sorted([*host.system, *rules.read]))
    return View(
        # What is the attempt's own is named in any case: what holds it may hold the state, too, which is hidden.
        read=_sorted([*topmost, *place.read]),
        links=frozenset(path for path in topmost if _is_link_at_the_top(path) and _is_within(path.resolve(), topmost)),
        write=_sorted(write),
        devices=host.devices,
        fixed=_sorted(place.fixed),
        hidden=_sorted([*host.secrets, *_inside(host.state, [*read, *rules.write])]),
    )


def _is_link_at_the_top(path: Path) -> bool:
    return path.parent == Path(path.anchor) and path.is_symlink()


def _inside(state: Path, folders: Iterable[Path]) -> Iterator[Path]:
    """Where the state is found in these folders, each under the name by which work knows the folder."""
    real = state.resolve()
    for folder in folders:
        there = folder.resolve()
        if _is_within(real, [there]):
            yield folder / real.relative_to(there)


@dataclass(frozen=True, slots=True)
class Host:
    """What this machine offers to all work: looked at once, when the sidecar starts.

    Attributes:
        system: directories that every program may need.
        devices: of the GPUs.
        secrets: what of the system is hidden.
        state: the sidecar's own directory, hidden but for the places of the attempt, whatever links lead to it.
    """

    system: tuple[Path, ...]
    devices: tuple[Path, ...]
    secrets: tuple[Path, ...]
    state: Path


def look(state: Path, path: str, interpreters: Iterable[str]) -> Host:
    """This machine.

    Args:
        state: the sidecar's state directory.
        path: the search path of the work.
        interpreters: programs that the sidecar itself needs inside, each seen with its libraries only.
    """
    found = [Path(each) for each in SYSTEM]
    for each in map(Path, interpreters):
        found += [each, *(each.parent.parent / name for name in _OF_INTERPRETER)]
    found += [each for entry in map(Path, path.split(os.pathsep)) if entry.is_absolute() for each in _programs(entry)]
    devices = [Path(each) for each in GPUS] + sorted(Path("/dev").glob(f"{_GPU_PREFIX}*"))
    devices = [each for each in devices if each.exists()]
    if devices:
        found.append(Path("/sys"))  # how the libraries of the GPUs find them
    return Host(
        system=_sorted(found),
        devices=tuple(devices),
        secrets=tuple(path for path in map(Path, SECRETS) if path.exists()),
        state=state,
    )


def _programs(folder: Path) -> Iterator[Path]:
    """A directory of programs, and what lies beside it that they need."""
    if folder.name == "shims":  # of pyenv and its kind: scripts that look for the programs beside them
        yield folder.parent
        return
    yield folder
    if folder.name in {"bin", "sbin", "Scripts"}:
        yield from (folder.parent / name for name in _BESIDE_BIN)


def _sorted(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Those that are there, once each, a directory before what it holds."""
    return tuple(sorted({path for path in paths if path.exists()}, key=lambda path: (len(path.parts), path)))


def _topmost(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Without those that another one holds."""
    found: list[Path] = []
    for path in paths:
        if not _is_within(path, found):
            found.append(path)
    return tuple(found)


def without(paths: Iterable[Path], hidden: Sequence[Path]) -> Iterator[Path]:
    """What ``paths`` hold, piece by piece, but for what is hidden: for a kernel that knows no exceptions."""
    for path in paths:
        if path in hidden:
            continue
        if any(path in each.parents for each in hidden):
            yield from without(sorted(path.iterdir()), hidden)
        else:
            yield path


def _is_within(path: Path, folders: Iterable[Path]) -> bool:
    return any(path == folder or folder in path.parents for folder in folders)
