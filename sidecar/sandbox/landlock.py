"""What Landlock is asked to take charge of, and what it allows.

Pure, except for :func:`version`, which asks the kernel. Numbers: ``linux/landlock.h``. Caller:
``sidecar/sandbox/cell.py``; the calls themselves are made by ``sidecar/sandbox/launcher.py``.
"""

import ctypes
import sys
from typing import Final

_CREATE_RULESET: Final = 444
_VERSION: Final = 1
LEAST: Final = 6
"""The version that keeps signals and abstract sockets inside; below it Landlock alone is no sandbox."""

_EXECUTE, _WRITE, _READ, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_FIRST_ALL: Final = (1 << 13) - 1
_LATER_RIGHTS: Final = ((2, 1 << 13), (3, 1 << 14), (5, 1 << 15))
"""Linking between directories, truncating, ioctl on devices: the version that brought it, and its bit."""
READ: Final = _EXECUTE | _READ | _READ_DIR
DEVICES: Final = _WRITE | _READ | _READ_DIR | 1 << 15
PROC: Final = (
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg", "/proc/uptime", "/proc/version"),
    *("/proc/filesystems", "/proc/sys"),
)
"""What may be read of /proc where it is the host's: Landlock lets the environments of other processes be read."""
_SCOPES: Final = 0b11
_PORTS: Final = 0b11
_PORTS_SINCE: Final = 4


def version() -> int:
    """The kernel's version of Landlock, 0 if there is none."""
    if sys.platform != "linux":
        return 0
    found = ctypes.CDLL(None, use_errno=True).syscall(_CREATE_RULESET, None, 0, _VERSION)
    return max(0, int(found))


def accesses(known: int) -> int:
    """All accesses to files that a kernel of this version can judge; none of one without Landlock."""
    if not known:
        return 0
    return _FIRST_ALL | sum(right for since, right in _LATER_RIGHTS if known >= since)


def scopes(known: int) -> int:
    """Signals to, and abstract sockets of, programs outside."""
    return _SCOPES if known >= LEAST else 0


def ports(known: int) -> int:
    """Binding and connecting TCP ports."""
    return _PORTS if known >= _PORTS_SINCE else 0
