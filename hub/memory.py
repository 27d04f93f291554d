"""The hub's own memory: how much it uses, how much it may, and whether it should take in more.

Every queue of the hub has its own limit; this is the net below all of them. Its caller is ``hub/services/watch.py``.
"""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil
import structlog

from protocol.errors import Overloaded

log = structlog.get_logger(__name__)
RETRY_AFTER_S: Final = 5.0
SHARE: Final = 0.5
"""Part of the machine (or of what its control group allows) that a hub may use if nobody says otherwise."""
_MIB: Final = 1 << 20
_EASE: Final = 0.9
"""It counts as well again below this part of the limit, so that it does not change its mind every second."""
_CGROUP_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def resident_bytes() -> int:
    """What this process holds in memory now."""
    return int(psutil.Process().memory_info().rss)


def allowed_bytes() -> int:
    """What this process could use at most: the machine's memory, or less if its control group has a limit."""
    found = int(psutil.virtual_memory().total)
    for path in _CGROUP_LIMITS:
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdecimal():
            found = min(found, int(text))
    return found


class Memory:
    """The memory of this process against its limit.

    Attributes:
        used_bytes, limit_bytes: now, and what it may be.
        is_high: more is used than may be.
    """

    def __init__(self, limit_mb: int, *, ask: Callable[[], int] = resident_bytes) -> None:
        """Look for the first time.

        Args:
            limit_mb: in MiB; 0 is half of what the machine or the control group has.
            ask: bytes in use.
        """
        self._ask = ask
        self.limit_bytes = limit_mb * _MIB or int(SHARE * allowed_bytes())
        self.used_bytes = ask()
        self.is_high = self.used_bytes > self.limit_bytes

    @property
    def detail(self) -> str:
        """Both numbers in words."""
        return f"{self.used_bytes // _MIB} of {self.limit_bytes // _MIB} MiB"

    def check(self) -> None:
        """Pass if there is room for new tasks.

        Raises:
            Overloaded: there is not.
        """
        if self.is_high:
            raise Overloaded(f"the hub uses {self.detail} of memory", RETRY_AFTER_S)

    def look(self) -> bool:
        """Ask again, and give back what lies unused if it is too much; whether :attr:`is_high` has changed."""
        before = self.is_high
        self.used_bytes = self._ask()
        if self.used_bytes > self.limit_bytes and not before:
            _give_back()
            self.used_bytes = self._ask()
        self.is_high = self.used_bytes > (_EASE if before else 1.0) * self.limit_bytes
        return self.is_high != before


def _give_back() -> None:
    """Have the C library return freed pages to the system: after a flood it keeps them otherwise."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
