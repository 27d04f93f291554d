"""What this machine has and how much of it is in use: processors, memory, disk, GPUs.

Reads psutil and NVIDIA's management library (through ``pynvml``, imported when first asked for); changes nothing. A
machine without a GPU, without the driver, or whose GPU has fallen off the bus reports no GPU; a metric that a driver
does not know is ``None`` and costs nothing else. The caller is :mod:`sidecar.app`, which sends the report with its
heartbeats.
"""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

import psutil
import structlog

from protocol.machine import GpuCard, GpuGauge, HostReading

log = structlog.get_logger(__name__)

_T = TypeVar("_T")
_MILLIWATTS: Final = 1000.0


def _now() -> datetime:
    return datetime.now(UTC)


class HostProbe:
    """Reads the machine, one :class:`HostReading` a call.

    Args:
        state_dir: the disk that holds it is the one that is reported.
        our_pids: processes whose video memory counts as ours; without it that is not known.
        now: the time to put on a report.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        our_pids: Callable[[], Collection[int]] | None = None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._state_dir = state_dir
        self._gpus = _Gpus(our_pids)
        self._now = now
        psutil.cpu_percent(interval=None, percpu=True)  # the first reading has nothing to compare with and is always 0

    def read(self) -> HostReading:
        """The state of the machine; the processor's load is that since the last call.

        Takes about a millisecond, with a GPU some more; a driver in trouble may take seconds, so call it in a thread.

        Raises:
            OSError: the state directory is gone.
        """
        memory = psutil.virtual_memory()
        disk = psutil.disk_usage(str(self._state_dir))
        cores = psutil.cpu_percent(interval=None, percpu=True)
        found = self._gpus.read()
        return HostReading(
            cpu_percent=sum(cores) / max(1, len(cores)),
            cores=bytes(min(100, round(each)) for each in cores),
            ram=(memory.total, memory.total - memory.available),
            disk=(disk.total, disk.used),
            cards=tuple(card for card, _ in found),
            gpus=tuple(gauge for _, gauge in found),
            notes={},
            at=self._now(),
        )

    def close(self) -> None:
        """Let go of the driver."""
        self._gpus.close()


class _Gpus:
    """The GPUs that NVIDIA's library tells of; what it says about itself is logged once per change."""

    def __init__(self, our_pids: Callable[[], Collection[int]] | None) -> None:
        self._our_pids = our_pids
        self._nvml: ModuleType | None = None
        self._is_open = False
        self._said = ""

    def read(self) -> tuple[tuple[GpuCard, GpuGauge], ...]:
        if not self._open():
            return ()
        nvml = self._nvml
        assert nvml is not None, "opened above"
        try:
            gpus = [self._one(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError as exc:
            # The driver was unloaded or replaced under us: start over at the next reading.
            self.close()
            self._say(f"driver: {exc}")
            return ()
        found = tuple(gpu for gpu in gpus if gpu)
        lost = len(gpus) - len(found)
        self._say(f"{lost} of {len(gpus)} GPUs do not answer" if lost else f"{len(found)} GPUs")
        if lost:
            self.close()  # a GPU that comes back is only seen by a library that is opened anew
        return found

    def close(self) -> None:
        if self._is_open and self._nvml is not None:
            self._is_open = False
            _value(self._nvml, self._nvml.nvmlShutdown)

    def _open(self) -> bool:
        if self._is_open:
            return True
        try:
            import pynvml
        except ImportError as exc:
            self._say(f"no GPU library: {exc}")
            return False
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as exc:
            self._say(f"no GPU driver: {exc}")
            return False
        self._is_open = True
        return True

    def _one(self, nvml: ModuleType, index: int) -> tuple[GpuCard, GpuGauge] | None:
        """The GPU at ``index``; ``None`` if it is lost."""
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        except (nvml.NVMLError_GpuIsLost, nvml.NVMLError_NotFound, nvml.NVMLError_ResetRequired):
            return None
        except nvml.NVMLError as exc:
            if exc.value in {nvml.NVML_ERROR_UNINITIALIZED, nvml.NVML_ERROR_DRIVER_NOT_LOADED}:
                raise
            memory = None
        handle = _value(nvml, nvml.nvmlDeviceGetHandleByIndex, index)
        if handle is None:
            return None
        load = _value(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
        power_mw = _value(nvml, nvml.nvmlDeviceGetPowerUsage, handle)
        heat_c = _value(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
        card = GpuCard(
            vendor="nvidia",
            index=index,
            uuid="",
            name=_value(nvml, nvml.nvmlDeviceGetName, handle) or "NVIDIA GPU",
            vram_total_bytes=memory and int(memory.total),
        )
        gauge = GpuGauge(
            used_bytes=memory and int(memory.used),
            ours_bytes=self._ours_bytes(nvml, handle),
            utilization=None if load is None else int(load.gpu),
            temperature_c=None if heat_c is None else int(heat_c),
            power_w=None if power_mw is None else round(power_mw / _MILLIWATTS),
        )
        return card, gauge

    def _ours_bytes(self, nvml: ModuleType, handle: object) -> int | None:
        """Video memory of our processes; ``None`` if nobody said which are ours, or the driver does not tell."""
        if self._our_pids is None:
            return None
        ours = frozenset(self._our_pids())
        lists = [
            _value(nvml, ask, handle)
            for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses)
        ]
        if all(entries is None for entries in lists):
            return None
        # A process that computes and draws is in both lists with the same number.
        used: dict[int, int] = {}
        for entry in (entry for entries in lists for entry in entries or ()):
            if entry.pid in ours and entry.usedGpuMemory is not None:
                used[entry.pid] = max(used.get(entry.pid, 0), int(entry.usedGpuMemory))
        return sum(used.values())

    def _say(self, what: str) -> None:
        if what != self._said:
            self._said = what
            log.info("gpus_changed", what=what)


def _value(nvml: ModuleType, ask: Callable[..., _T], *arguments: Any) -> _T | None:
    """What the library answers; ``None`` where this driver or this GPU knows no answer."""
    try:
        return ask(*arguments)
    except (nvml.NVMLError, nvml.NVMLLibraryMismatchError):  # the latter, no child of the former: an old driver
        return None
