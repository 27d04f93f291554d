"""What processes hold over a long run: memory, descriptors, threads and time of the processor, with their slopes.

A process that was killed and started again is a new life: its memory starts from the bottom, so slopes are taken inside
lives and then put together.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at one process; ``at`` in seconds of the run."""

    at: float
    rss_mib: float
    descriptors: float
    threads: float


@dataclass
class Life:
    """One process under one name, from its start to its end."""

    began: float
    process: psutil.Process
    samples: list[Sample] = field(default_factory=list)
    cpu_s: float = 0.0


class Gauges:
    """Looks at named processes, and at the size of files."""

    def __init__(self, warm_up_s: float) -> None:
        self._warm_up_s = warm_up_s
        self._began = time.monotonic()
        self._lives: dict[str, list[Life]] = {}
        self._files: dict[str, list[tuple[float, float]]] = {}

    def look(self, name: str, pid: int) -> None:
        """One sample of the process that bears this name now; one that has just died is passed over."""
        now = time.monotonic() - self._began
        lives = self._lives.setdefault(name, [])
        try:
            if not lives or lives[-1].process.pid != pid:
                lives.append(Life(now, psutil.Process(pid)))
            process = lives[-1].process
            with process.oneshot():
                found = Sample(now, process.memory_info().rss / MIB, process.num_fds(), process.num_threads())
                cpu = process.cpu_times()
        except psutil.Error:
            return
        if not found.rss_mib:
            return  # dead, and not yet waited for
        lives[-1].samples.append(found)
        lives[-1].cpu_s = cpu.user + cpu.system

    def look_at_file(self, name: str, path: Path) -> None:
        """The size of a file now, in MiB."""
        size = path.stat().st_size / MIB if path.exists() else 0.0
        self._files.setdefault(name, []).append((time.monotonic() - self._began, size))

    def slope_per_hour(self, name: str, what: str) -> float:
        """By how much ``what`` (a field of :class:`Sample`) grows in an hour, warm-up of every life left out."""
        return 3600 * slope([[(s.at, getattr(s, what)) for s in self._warm(life)] for life in self._lives[name]])

    def spread(self, name: str, what: str) -> tuple[float, float]:
        """Smallest and largest value after warm-up."""
        values = [getattr(s, what) for life in self._lives[name] for s in self._warm(life)]
        return (min(values), max(values)) if values else (0.0, 0.0)

    def _warm(self, life: Life) -> list[Sample]:
        return [sample for sample in life.samples if sample.at - life.began >= self._warm_up_s]

    def table(self) -> str:
        """All of it, a line a process and a line a file."""
        took_s = time.monotonic() - self._began
        lines = []
        for name, lives in self._lives.items():
            told = [f"{name}: {len(lives)} lives"]
            for what in ("rss_mib", "descriptors", "threads"):
                low, high = self.spread(name, what)
                told.append(f"{what} {low:.1f} to {high:.1f}, slope {self.slope_per_hour(name, what):+.2f}/h")
            told.append(f"processor {100 * sum(life.cpu_s for life in lives) / took_s:.1f} %")
            lines.append("; ".join(told))
        for name, sizes in self._files.items():
            lines.append(f"{name}: {sizes[-1][1]:.2f} MiB at the end, {max(size for _, size in sizes):.2f} MiB at most")
        return "\n".join(lines)


def slope(lives: list[list[tuple[float, float]]]) -> float:
    """Least squares over all lives, each about its own middle, in units a second; 0 where there is nothing to fit."""
    above = below = 0.0
    for points in lives:
        if not points:
            continue
        middle = sum(at for at, _ in points) / len(points)
        level = sum(value for _, value in points) / len(points)
        above += sum((at - middle) * (value - level) for at, value in points)
        below += sum((at - middle) ** 2 for at, _ in points)
    return above / below if below else 0.0
