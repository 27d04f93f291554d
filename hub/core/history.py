"""What a machine did in the last minute and the last hour: bounded, in memory, one :class:`History` a machine.

The minute holds every reading. The hour holds the least, the mean and the most of every minute that is over, and of
the one that is not. Pure: times are arguments, in seconds of the hub's clock. Figures are 4-byte floats. A machine
without a GPU takes about 4 kB when its hour is full, one with 8 GPUs about 50 kB, and none more than 110 kB. Caller:
``hub/services/hosts.py``.
"""

from array import array
from collections.abc import Iterator
from math import inf, isnan, nan
from typing import Final

import msgspec
from msgspec import Struct

from protocol.machine import GpuReport, HostReport

MINUTE_S: Final = 60.0
MAX_SAMPLES: Final = 60
"""Readings of a minute that are kept: a second apart, should a sidecar report that often."""
MAX_MINUTES: Final = 60
MAX_GPUS: Final = 16
"""GPUs, or parts of them, of one machine whose history is kept."""

Key = tuple[str, str]
"""Name of a figure, and which GPU it is about (empty: the machine)."""


class Shown(Struct, frozen=True, kw_only=True):
    """One figure over time; ``None`` where it was not known. Of the minute there is only ``mean``."""

    metric: str
    gpu: str
    mean: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()


class _Kept(Struct, frozen=True, array_like=True):
    """The hour as it is stored: when its minutes began, and by figure the triples of 4-byte floats."""

    minutes: bytes
    series: dict[str, bytes]


class _Series:
    """One figure. ``hour`` is least, mean and most of each minute; the other four are those of the minute at hand."""

    __slots__ = ("count", "high", "hour", "low", "minute", "total")

    def __init__(self, samples: int, minutes: int) -> None:
        self.minute = array("f", [nan]) * samples
        self.hour = array("f", [nan]) * (3 * minutes)
        self.low, self.high, self.total, self.count = inf, -inf, 0.0, 0

    def add(self, value: float) -> None:
        self.minute.append(value)
        if not isnan(value):
            self.low, self.high = min(self.low, value), max(self.high, value)
            self.total, self.count = self.total + value, self.count + 1

    @property
    def now(self) -> tuple[float, float, float]:
        """The minute at hand."""
        return (self.low, self.total / self.count, self.high) if self.count else (nan, nan, nan)

    def close(self) -> None:
        """The minute at hand is over."""
        self.hour.extend(self.now)
        self.low, self.high, self.total, self.count = inf, -inf, 0.0, 0

    @property
    def is_empty(self) -> bool:
        return not self.count and all(map(isnan, self.minute)) and all(map(isnan, self.hour))


class History:
    """The last minute and hour of one machine."""

    def __init__(self) -> None:
        self._times = array("d")  # of the samples of the minute
        self._minutes = array("d")  # when each minute of the hour began
        self._begun = nan  # when the minute at hand began
        self._series: dict[Key, _Series] = {}

    def add(self, report: HostReport, now: float) -> None:
        """Take in a report that came ``now``."""
        begun = now - now % MINUTE_S
        if self._times and now < self._times[-1]:  # the clock was put back: these have not happened yet
            del self._times[:]
            for series in self._series.values():
                del series.minute[:]
        if begun != self._begun and not isnan(self._begun):
            self._close()
        elif isnan(self._begun) and self._minutes and self._minutes[-1] >= begun:
            self._reopen()
        self._begun = begun
        told = dict(figures_of(report))
        for key in told.keys() - self._series.keys():
            self._series[key] = _Series(len(self._times), len(self._minutes))
        for key, series in self._series.items():
            value = told.get(key)
            series.add(nan if value is None else value)
        self._times.append(now)
        old = sum(at <= now - MINUTE_S for at in self._times)
        old = max(old, len(self._times) - MAX_SAMPLES)
        if old:
            del self._times[:old]
            for series in self._series.values():
                del series.minute[:old]

    def _close(self) -> None:
        """The minute at hand is over."""
        self._minutes.append(self._begun)
        excess = len(self._minutes) - MAX_MINUTES
        for key, series in list(self._series.items()):
            series.close()
            if excess > 0:
                del series.hour[: 3 * excess]
            if series.is_empty:  # a GPU that is gone
                del self._series[key]
        if excess > 0:
            del self._minutes[:excess]

    def _reopen(self) -> None:
        """The last minute that was stored is not over yet: what comes counts, not what was cut off by the restart."""
        del self._minutes[-1]
        for series in self._series.values():
            del series.hour[-3:]

    def minute(self, now: float) -> tuple[tuple[float, ...], tuple[Shown, ...]]:
        """When each reading of the last minute came, and what it said."""
        first = sum(at <= now - MINUTE_S for at in self._times)
        times = tuple(self._times[first:])
        return times, tuple(
            Shown(metric=metric, gpu=gpu, mean=_known(series.minute[first:]))
            for (metric, gpu), series in self._series.items()
            if times and not all(map(isnan, series.minute[first:]))
        )

    def hour(self, now: float) -> tuple[tuple[float, ...], tuple[Shown, ...]]:
        """When each minute of the last hour began, and what it was like."""
        begun = array("d", self._minutes)
        if not isnan(self._begun):
            begun.append(self._begun)
        first = sum(at <= now - MAX_MINUTES * MINUTE_S for at in begun)
        shown = []
        for (metric, gpu), series in self._series.items():
            hour = array("f", series.hour)
            if not isnan(self._begun):
                hour.extend(series.now)
            hour = hour[3 * first :]
            if all(map(isnan, hour)):
                continue
            low, mean, high = (_known(hour[place::3]) for place in range(3))
            shown.append(Shown(metric=metric, gpu=gpu, low=low, mean=mean, high=high))
        return tuple(begun[first:]), tuple(shown)

    # --- over a restart -----------------------------------------------------------------------------------------------

    def kept(self) -> bytes:
        """The hour, to be stored; the minute at hand is as if it were over."""
        minutes, extra = array("d", self._minutes), not isnan(self._begun)
        if extra:
            minutes.append(self._begun)
        series = {}
        for (metric, gpu), each in self._series.items():
            hour = array("f", each.hour)
            if extra:
                hour.extend(each.now)
            series[f"{metric} {gpu}"] = hour.tobytes()
        return msgspec.msgpack.encode(_Kept(minutes.tobytes(), series))

    @classmethod
    def of(cls, kept: bytes) -> "History":
        """What was stored.

        Raises:
            ValueError: these are not such bytes.
        """
        made = cls()
        try:
            read = msgspec.msgpack.decode(kept, type=_Kept)
        except msgspec.DecodeError as exc:
            raise ValueError(f"no history: {exc}") from exc
        made._minutes.frombytes(read.minutes)
        for name, figures in read.series.items():
            metric, _, gpu = name.partition(" ")
            series = made._series[metric, gpu] = _Series(0, 0)
            series.hour.frombytes(figures)
            if len(series.hour) != 3 * len(made._minutes):
                raise ValueError(f"no history: {name} has {len(series.hour)} figures of {len(made._minutes)} minutes")
        return made


def figures_of(report: HostReport) -> Iterator[tuple[Key, float | None]]:
    """What is kept of a report."""
    yield ("cpu_percent", ""), report.cpu.percent
    yield ("ram_used_bytes", ""), report.ram.used_bytes
    if report.swap is not None:
        yield ("swap_used_bytes", ""), report.swap.used_bytes
    if report.disk is not None:
        yield ("disk_used_bytes", ""), report.disk.used_bytes
    for gpu in report.gpus[:MAX_GPUS]:
        name = name_of(gpu)
        yield ("utilization", name), gpu.utilization
        yield ("vram_used_bytes", name), gpu.vram_used_bytes
        yield ("vram_foreign_bytes", name), gpu.vram_foreign_bytes
        yield ("temperature_c", name), gpu.temperature_c
        yield ("power_w", name), gpu.power_w


def name_of(gpu: GpuReport) -> str:
    """What a GPU is called in histories: its ``uuid``, else something like ``amd:0``; the same over restarts."""
    return gpu.uuid or f"{gpu.vendor}:{gpu.index}"


def _known(figures: "array[float]") -> tuple[float | None, ...]:
    return tuple(None if isnan(each) else round(each, 1) for each in figures)
