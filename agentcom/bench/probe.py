"""What a durable write costs on the disk at hand: without it a durable figure says nothing.

One machine's fsync may differ tenfold within the hour, so it is measured in the same minute as what depends on it.
"""

import os
import time
from pathlib import Path
from typing import Final

import psutil
from msgspec import Struct

from agentcom.bench.statistics import Quantiles, quantiles

WRITES: Final = 100
WRITE_BYTES: Final = 4096
_NO_DISK: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})


class Disk(Struct, frozen=True, kw_only=True):
    """The file system of a folder, and milliseconds of a 4 KiB append with fsync on it, before and after a run."""

    filesystem: str
    is_durable: bool
    """Whether it outlives the machine's power: a file system in memory does not, and its fsync costs nothing."""
    fsync_ms: Quantiles
    fsync_after_ms: Quantiles


def fsync_ms(folder: Path) -> Quantiles:
    """Milliseconds of one append with fsync in ``folder``, over :data:`WRITES` of them."""
    path, took_ms = folder / "probe", []
    block = b"x" * WRITE_BYTES
    with path.open("ab", buffering=0) as file:
        for _ in range(WRITES):
            began = time.perf_counter()
            file.write(block)
            os.fsync(file.fileno())
            took_ms.append((time.perf_counter() - began) * 1000)
    path.unlink()
    return quantiles(took_ms)


def filesystem(folder: Path) -> str:
    """The kind of file system that ``folder`` lies on; empty if the system does not tell."""
    real = folder.resolve()
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    return next((mounts[place] for place in (real, *real.parents) if place in mounts), "")


def disk(folder: Path, before: Quantiles) -> Disk:
    """The disk of ``folder``, probed again; ``before`` is what :func:`fsync_ms` said at the start."""
    kind = filesystem(folder)
    return Disk(filesystem=kind, is_durable=kind not in _NO_DISK, fsync_ms=before, fsync_after_ms=fsync_ms(folder))
