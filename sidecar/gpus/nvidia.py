"""NVIDIA's GPUs, through their management library (NVML, https://docs.nvidia.com/deploy/nvml-api/).

Reads only. A value that this driver or this GPU does not know is ``None`` and costs no other; a GPU that does not
answer costs no other GPU. A GPU that is cut into instances (MIG) is told as its parts: each has memory of its own, heat
and power are those of the whole. A call may never come back when the driver hangs, and a library that was replaced
under us stays the old one for as long as this process lives: so this runs in a process of its own
(:mod:`sidecar.gpus.reader`).
"""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final, TypeVar

from sidecar.gpus.base import NVIDIA, Holder, SeenGpu, Sight

_T = TypeVar("_T")
_MILLI: Final = 1000
_REPLACED: Final = "driver and library are of different versions; reload the driver or restart the machine"
_UNIFIED: Final = ("GB10", "Thor", "Orin", "Xavier", "Tegra")
"""Chips whose GPU has no memory of its own; the library says "not supported", or 0, when asked for it."""


class Nvidia:
    """The GPUs that the library tells of.

    Raises:
        ImportError: nvidia-ml-py is not installed.
    """

    def __init__(self) -> None:
        import pynvml

        self._nvml: ModuleType = pynvml
        self._is_open = False
        self._driver = ""

    def look(self) -> Sight:
        """All GPUs, or why there is none."""
        nvml = self._nvml
        try:
            if not self._is_open:
                nvml.nvmlInit()
                self._is_open = True
                self._driver = self._value(nvml.nvmlSystemGetDriverVersion) or ""
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as exc:
            self._is_open = False
            is_replaced = exc.value == nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
            return Sight(trouble=_REPLACED if is_replaced else str(exc))
        gpus: list[SeenGpu] = []
        lost: list[str] = []
        for index in range(count):
            try:
                gpus.extend(self._gpu(index))
            except nvml.NVMLError as exc:
                lost.append(f"GPU {index}: {exc}")
        trouble = f"{len(lost)} of {count} do not answer ({'; '.join(lost)})" if lost else ""
        return Sight(tuple(gpus), trouble or ("" if count else "the driver sees no GPU"))

    def _gpu(self, index: int) -> Iterator[SeenGpu]:
        """The GPU at ``index``, or its parts.

        Raises:
            pynvml.NVMLError: it does not answer at all.
        """
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        whole = self._one(handle, index)
        parts = tuple(self._parts(handle, whole))
        return iter(parts or (whole,))

    def _one(self, handle: object, index: int) -> SeenGpu:
        nvml, value = self._nvml, self._value
        name = value(nvml.nvmlDeviceGetName, handle) or "NVIDIA GPU"
        total, used, reserved = self._memory(handle)
        is_unified = not total and any(chip in name for chip in _UNIFIED)
        load = value(nvml.nvmlDeviceGetUtilizationRates, handle)
        return SeenGpu(
            vendor=NVIDIA,
            index=index,
            name=name,
            uuid=value(nvml.nvmlDeviceGetUUID, handle) or "",
            driver=self._driver,
            unified=is_unified,
            total_bytes=total or None,
            used_bytes=used if total else None,
            reserved_bytes=reserved if total else None,
            utilization=None if load is None else int(load.gpu),
            temperature_c=self._heat(handle),
            power_w=_whole(value(nvml.nvmlDeviceGetPowerUsage, handle)),
            power_limit_w=_whole(value(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)),
            holders=self._holders(handle),
        )

    def _parts(self, handle: object, whole: SeenGpu) -> Iterator[SeenGpu]:
        """The instances that a GPU is cut into; none if it is not."""
        nvml, value = self._nvml, self._value
        mode = value(nvml.nvmlDeviceGetMigMode, handle)
        if not mode or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return
        for place in range(value(nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
            part = value(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, place)
            if part is None:
                continue  # no instance at this place
            total, used, reserved = self._memory(part)
            yield SeenGpu(
                vendor=NVIDIA,
                index=place,
                name=value(nvml.nvmlDeviceGetName, part) or f"{whole.name} MIG",
                uuid=value(nvml.nvmlDeviceGetUUID, part) or "",
                driver=self._driver,
                part_of=whole.uuid,
                total_bytes=total,
                used_bytes=used,
                reserved_bytes=reserved,
                temperature_c=whole.temperature_c,
                power_w=whole.power_w,
                power_limit_w=whole.power_limit_w,
                holders=self._holders(part),
            )

    def _memory(self, handle: object) -> tuple[int | None, int | None, int | None]:
        """Total, used, and what the driver keeps for itself; older libraries count the last as used.

        Raises:
            pynvml.NVMLError: the GPU is lost.
        """
        nvml = self._nvml
        newer = self._value(nvml.nvmlDeviceGetMemoryInfo, handle, nvml.nvmlMemory_v2)
        if newer is not None:
            return int(newer.total), int(newer.used), int(newer.reserved)
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        except (nvml.NVMLError_GpuIsLost, nvml.NVMLError_ResetRequired, nvml.NVMLError_Uninitialized):
            raise
        except nvml.NVMLError:
            return None, None, None
        return int(memory.total), int(memory.used), None

    def _heat(self, handle: object) -> int | None:
        nvml = self._nvml
        newer = self._value(nvml.nvmlDeviceGetTemperatureV, handle, nvml.NVML_TEMPERATURE_GPU)
        heat = newer if newer is not None else self._value(nvml.nvmlDeviceGetTemperature, handle, 0)
        return None if heat is None else int(heat)

    def _holders(self, handle: object) -> tuple[Holder, ...] | None:
        """Processes by the memory that they hold; ``None`` if the driver does not tell."""
        nvml = self._nvml
        lists = [
            self._first(handle, getattr(nvml, f"{name}_v3"), getattr(nvml, f"{name}_v2"))
            for name in (
                "nvmlDeviceGetComputeRunningProcesses",
                "nvmlDeviceGetGraphicsRunningProcesses",
                "nvmlDeviceGetMPSComputeRunningProcesses",
            )
        ]
        if all(entries is None for entries in lists):
            return None
        # A process that computes and draws is in both lists with the same number.
        held: dict[int, int | None] = {}
        for entry in (entry for entries in lists for entry in entries or ()):
            known, told = held.get(entry.pid), entry.usedGpuMemory
            held[entry.pid] = known if told is None else max(known or 0, int(told))
        return tuple(Holder(pid, held_bytes) for pid, held_bytes in held.items())

    def _first(self, handle: object, *asks: Callable[..., Any]) -> Any:  # noqa: ANN401 - structures of the library
        """What the newest call answers that this library has."""
        for ask in asks:
            try:
                return ask(handle)
            except self._nvml.NVMLError_FunctionNotFound:
                continue
            except self._nvml.NVMLError:
                return None
        return None

    def _value(self, ask: Callable[..., _T], *arguments: Any) -> _T | None:
        """What the library answers; ``None`` where this driver or this GPU knows no answer."""
        try:
            return ask(*arguments)
        except (self._nvml.NVMLError, self._nvml.NVMLLibraryMismatchError, UnicodeDecodeError):
            return None  # the second, no child of the first: a call that this library does not have


def _whole(milli: int | None) -> int | None:
    return None if milli is None else round(milli / _MILLI)
