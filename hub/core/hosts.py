"""What the hub makes of the readings that sidecars send: a whole report of each machine, and room for models.

Pure. Callers: ``hub/services/hosts.py`` (reports), ``hub/core/board.py`` (room).
"""

from collections.abc import Iterable
from typing import Final

from protocol.machine import (
    CpuReport,
    GpuCard,
    GpuGauge,
    GpuHolder,
    GpuProcess,
    GpuReport,
    HostReading,
    HostReport,
    Owner,
    Space,
    SpaceReport,
)

RAM_FOR_MODELS: Final = 0.7
"""Share of main memory that models can have, where they run on the processor or share its memory."""
USABLE: Final = 0.95
"""Share of a GPU's memory that models can have."""


def report_of(reading: HostReading, before: HostReport | None) -> HostReport:
    """The whole picture after a reading, which may leave out what has not changed since ``before``."""
    gpus: tuple[GpuReport, ...] = ()
    if reading.gpus:
        old = before.gpus if before else ()
        cards = reading.cards if reading.cards is not None else tuple(map(_card, old))
        holders = reading.holders if reading.holders is not None else tuple(_holders(old))
        held: dict[int, list[GpuProcess]] = {}
        for each in holders:
            process = GpuProcess(pid=each.pid, name=each.name, owner=Owner(each.owner), vram_bytes=each.vram_bytes)
            held.setdefault(each.gpu, []).append(process)
        driver = ""
        found = []
        for place, (card, gauge) in enumerate(zip(cards, reading.gpus, strict=False)):
            driver = card.driver or driver
            found.append(_gpu(card, gauge, driver, tuple(held.get(place, ()))))
        gpus = tuple(found)
    notes = reading.notes if reading.notes is not None else before.notes if before else {}
    return HostReport(
        cpu=CpuReport(
            percent=reading.cpu_percent, cores=len(reading.cores), per_core=tuple(reading.cores), load=reading.load
        ),
        ram=SpaceReport(total_bytes=reading.ram[0], used_bytes=reading.ram[1]),
        swap=_space(reading.swap),
        disk=_space(reading.disk),
        workspace=_space(reading.workspace),
        gpus=gpus,
        notes=notes,
        at=reading.at,
    )


def rooms_for_models(host: HostReport, resident_bytes: float) -> tuple[float, ...] | None:
    """Bytes that models can have, GPU by GPU, those that are loaded included; ``None`` if nobody knows.

    All memory of the GPUs but what the driver keeps and others hold. Used memory that no program owns up to counts as
    theirs too, except for what the servers say that their models take (``resident_bytes``): a driver may name no
    processes, and a server in a container is not seen. Without a GPU it is a share of main memory. A driver that does
    not answer has told nothing of what is taken, so there is room only for what the servers have loaded already.
    """
    if not host.gpus:
        return (RAM_FOR_MODELS * host.ram.total_bytes,)
    own = [gpu for gpu in host.gpus if not gpu.unified]
    counted = own or list(host.gpus[:1])  # GPUs without memory of their own all have the same
    if any(gpu.vram_total_bytes is None for gpu in counted):
        return None
    if any(_is_silent(gpu, host) for gpu in counted):
        return (resident_bytes,)
    named = sum(gpu.vram_ours_bytes or 0 for gpu in counted)
    return tuple(_rooms(counted, max(0.0, resident_bytes - named)))


def _rooms(gpus: Iterable[GpuReport], unnamed: float) -> Iterable[float]:
    """``unnamed``: what our models take beyond what the driver says is ours, on the first GPUs that have so much."""
    for gpu in gpus:
        ours = min(unnamed, _unowned(gpu))
        unnamed -= ours
        whole = (gpu.vram_total_bytes or 0) - (gpu.vram_reserved_bytes or 0)
        left = USABLE * whole - (gpu.vram_foreign_bytes or 0) - (_unowned(gpu) - ours)
        # Memory that is shared is in use by all that runs; models get their share of it as long as that is left.
        yield max(0.0, min(left, RAM_FOR_MODELS * whole) if gpu.unified else left)


def cramped(report: HostReport | None, needed_bytes: int, *, was: bool) -> str:
    """Why a machine cannot hold one more workspace; empty: it can, or nobody knows.

    Args:
        report: of the machine.
        needed_bytes: of disk that a workspace is reckoned with; 0: any disk will do.
        was: it could not lately: then it must have a tenth more, so that work does not come and go.
    """
    space = (report.workspace or report.disk) if report is not None else None
    if space is None or space.total_bytes <= 0:
        return ""
    free_bytes = max(0, space.total_bytes - space.used_bytes)
    if free_bytes >= needed_bytes * (1.1 if was else 1.0):
        return ""
    return f"has {free_bytes / 1e9:.2f} GB of disk free, a workspace needs {needed_bytes / 1e9:.2f} GB"


def gpu_silence(host: HostReport | None) -> str:
    """Why nobody knows what is free on the GPUs of a machine now; empty: it is known, or never was."""
    silent = (host.notes[gpu.vendor] for gpu in host.gpus if _is_silent(gpu, host)) if host else ()
    return next(iter(silent), "")


def _is_silent(gpu: GpuReport, host: HostReport) -> bool:
    """Whether the driver has told of the GPU once and does not say now what is taken of it."""
    return gpu.vram_used_bytes is None and gpu.vendor in host.notes


def free_bytes(gpu: GpuReport) -> int | None:
    """Memory of a GPU that is not taken by anybody; ``None`` if nobody knows."""
    if gpu.vram_total_bytes is None or gpu.vram_used_bytes is None:
        return None
    return max(0, gpu.vram_total_bytes - (gpu.vram_reserved_bytes or 0) - gpu.vram_used_bytes)


def _unowned(gpu: GpuReport) -> int:
    """Used memory that no program owns up to."""
    return max(0, (gpu.vram_used_bytes or 0) - (gpu.vram_ours_bytes or 0) - (gpu.vram_foreign_bytes or 0))


def _gpu(card: GpuCard, gauge: GpuGauge, driver: str, processes: tuple[GpuProcess, ...]) -> GpuReport:
    return GpuReport(
        name=card.name,
        vendor=card.vendor,
        index=card.index,
        uuid=card.uuid,
        driver=driver,
        part_of=card.part_of,
        unified=card.unified,
        power_limit_w=_float(card.power_limit_w),
        vram_total_bytes=card.vram_total_bytes,
        vram_used_bytes=gauge.used_bytes,
        vram_ours_bytes=gauge.ours_bytes,
        vram_foreign_bytes=gauge.foreign_bytes,
        vram_reserved_bytes=gauge.reserved_bytes,
        utilization=_float(gauge.utilization),
        temperature_c=_float(gauge.temperature_c),
        power_w=_float(gauge.power_w),
        processes=processes,
    )


def _card(gpu: GpuReport) -> GpuCard:
    return GpuCard(
        vendor=gpu.vendor,
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        driver=gpu.driver,
        vram_total_bytes=gpu.vram_total_bytes,
        power_limit_w=None if gpu.power_limit_w is None else int(gpu.power_limit_w),
        part_of=gpu.part_of,
        unified=gpu.unified,
    )


def _holders(gpus: Iterable[GpuReport]) -> Iterable[GpuHolder]:
    for place, gpu in enumerate(gpus):
        for each in gpu.processes:
            yield GpuHolder(gpu=place, pid=each.pid, vram_bytes=each.vram_bytes, owner=each.owner, name=each.name)


def _space(space: Space | None) -> SpaceReport | None:
    return None if space is None else SpaceReport(total_bytes=space[0], used_bytes=space[1])


def _float(value: int | None) -> float | None:
    return None if value is None else float(value)
