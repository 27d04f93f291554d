"""What this machine has and how much of it is in use: processors, memory, disk, GPUs.

Changes nothing, and never waits for long: a disk or a driver that does not answer costs its own figures and a note that
says so. Each kind of GPU is looked at by itself (``sidecar/gpus``). The caller is :mod:`sidecar.seen`, which sends the
reading with its heartbeats.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final

import psutil
import structlog

from protocol.machine import (
    MAX_CORES,
    MAX_GPU_PROCESSES,
    MAX_GPUS,
    MAX_NAME_CHARS,
    MAX_NOTE_CHARS,
    GpuCard,
    GpuGauge,
    GpuHolder,
    HostReading,
    Owner,
    Space,
)
from sidecar.gpus.apple import Apple
from sidecar.gpus.base import AMD, APPLE, INTEL, NVIDIA, SeenGpu, Sight
from sidecar.gpus.drm import Drm, cards_of
from sidecar.gpus.helper import Helper, has_library
from sidecar.gpus.owners import Known, Owners
from sidecar.patience import PATIENCE_S, Patient

log = structlog.get_logger(__name__)

LOOK_FOR_S: Final = 60.0
"""How often GPUs of a kind that was not there are looked for, and a reader in trouble gets a new process."""
HANGS: Final = 15
"""After a silence of so many times the patience a reader's process is ended: the driver may answer a new one."""
_NONE: Final = "none: no NVIDIA library, and the system shows no GPU of AMD, Intel or Apple"


def _now() -> datetime:
    return datetime.now(UTC)


def drawn_w(reading: HostReading, before: Sequence[GpuCard] = ()) -> float | None:
    """What all GPUs draw, in watts, as far as they tell; ``None``: none does.

    Args:
        reading: of now.
        before: the cards as they were last told of: parts of one GPU tell what the whole draws.
    """
    cards = before if reading.cards is None else reading.cards
    names = [card.part_of or card.uuid or str(number) for number, card in enumerate(cards)]
    told = {
        names[number] if number < len(names) else str(number): gauge.power_w
        for number, gauge in enumerate(reading.gpus)
        if gauge.power_w is not None
    }
    return float(sum(told.values())) if told else None


class HostProbe:
    """Reads the machine, one :class:`HostReading` a call.

    Args:
        state_dir: the disk that holds it is reported.
        workspaces: so is the one that holds these, if it is another.
        owners: says whose the processes on the GPUs are; without it that is not known.
        env: what the reader of a driver may know of our environment.
        root: where ``sys`` and ``proc`` are looked for.
        now: the time to put on a reading.
        patience_s: how long a disk or a driver is waited for.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        workspaces: Path | None = None,
        owners: Owners | None = None,
        env: Mapping[str, str] | None = None,
        root: Path = Path("/"),
        now: Callable[[], datetime] = _now,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._state_dir, self._workspaces, self._now = state_dir, workspaces, now
        self._env, self._root, self._patience_s = env or {}, root, patience_s
        self._times = psutil.cpu_times(percpu=True)
        self._disks = Patient("disks", self._read_disks, patience_s)
        self._eyes: dict[str, _Eye] = {}
        self._searched_at = float("-inf")
        self._owners = owners
        self._pids: frozenset[int] = frozenset()
        self._owned = Patient("owners", self._read_owners, patience_s)
        self._said: dict[str, str] = {}

    async def read(self) -> HostReading:
        """The state of the machine; the processors' load is that since the last call."""
        await self._search()
        cpu, cores = self._cpu()
        ram, notes = psutil.virtual_memory(), dict[str, str]()
        looks = asyncio.gather(*(eye.look(notes) for eye in self._eyes.values()))
        disk, workspace = await self._spaces(notes)
        gpus = [gpu for found in await looks for gpu in found][:MAX_GPUS]
        if not self._eyes:
            notes["gpu"] = _NONE
        known = await self._known(gpus)
        space = ram.total, ram.total - ram.available
        self._say(notes)
        return HostReading(
            at=self._now(),
            cpu_percent=cpu,
            cores=cores,
            load=psutil.getloadavg(),
            ram=space,
            swap=_swap(),
            disk=disk,
            workspace=workspace,
            cards=tuple(_cards(gpus, space)),
            gpus=tuple(_gauge(gpu, known, space) for gpu in gpus),
            holders=_holders(gpus, known),
            notes={name: note[:MAX_NOTE_CHARS] for name, note in notes.items()},
        )

    def close(self) -> None:
        """End the readers of drivers."""
        for eye in self._eyes.values():
            eye.close()

    async def _search(self) -> None:
        """Look for kinds of GPUs that were not there."""
        if monotonic() - self._searched_at < LOOK_FOR_S:
            return
        self._searched_at = monotonic()
        for vendor in await asyncio.to_thread(self._present):
            if vendor not in self._eyes:
                self._eyes[vendor] = _Eye(vendor, self._env, self._root, self._patience_s)

    def _present(self) -> list[str]:
        found = [vendor for vendor in (AMD, INTEL) if cards_of(vendor, self._root)]
        return [*([NVIDIA] if has_library() else []), *found, *([APPLE] if psutil.MACOS else [])]

    def _cpu(self) -> tuple[float, bytes]:
        before, self._times = self._times, psutil.cpu_times(percpu=True)
        spent = [_spent(then, now) for then, now in zip(before, self._times, strict=False)]
        whole = sum(total for total, _ in spent)
        percent = 100 * sum(busy for _, busy in spent) / whole if whole > 0 else 0.0
        return round(percent, 1), bytes(_percent(total, busy) for total, busy in spent[:MAX_CORES])

    async def _spaces(self, notes: dict[str, str]) -> tuple[Space | None, Space | None]:
        try:
            found = await self._disks.answer()
        except OSError as exc:
            notes["disk"] = str(exc)
            return None, None
        if found is None:
            notes["disk"] = f"no answer for {self._disks.silent_s:.0f} s"
            return None, None
        return found

    def _read_disks(self) -> tuple[Space, Space | None]:
        own, other = _disk(self._state_dir), None
        folder = self._workspaces
        if folder is not None and folder.exists() and folder.stat().st_dev != self._state_dir.stat().st_dev:
            other = _disk(folder)
        return own, other

    async def _known(self, gpus: list[SeenGpu]) -> dict[int, Known] | None:
        """Who holds memory of the GPUs; ``None`` if nobody can say."""
        self._pids = frozenset(holder.pid for gpu in gpus for holder in gpu.holders or ())
        if self._owners is None:
            return None
        return await self._owned.answer() if self._pids else {}

    def _read_owners(self) -> dict[int, Known]:
        assert self._owners is not None, "asked only if there are some"
        return self._owners.of(self._pids)

    def _say(self, notes: Mapping[str, str]) -> None:
        """Log what is wrong when it begins, and when it is over."""
        for name in notes.keys() | self._said.keys():
            if (name in notes) != (name in self._said):
                log.info("host_noted", about=name, what=notes.get(name, "is well again"))
        self._said = dict(notes)


class _Eye:
    """Looks at the GPUs of one vendor."""

    def __init__(self, vendor: str, env: Mapping[str, str], root: Path, patience_s: float) -> None:
        self._vendor = vendor
        self._helper = Helper(env) if vendor == NVIDIA else None
        source = self._helper or (Apple() if vendor == APPLE else Drm(vendor, root))
        self._hangs_s = HANGS * patience_s
        self._patient = Patient(f"gpus-{vendor}", source.look, patience_s)
        self._last: tuple[SeenGpu, ...] = ()
        self._renewed_at = monotonic()

    async def look(self, notes: dict[str, str]) -> tuple[SeenGpu, ...]:
        """The GPUs as they are now; as blanks while the driver does not answer."""
        try:
            sight = await self._patient.answer()
        except OSError as exc:
            sight = Sight(trouble=str(exc))
        if sight is None:
            silent_s = self._patient.silent_s
            notes[self._vendor] = f"the driver has not answered for {silent_s:.0f} s"
            if silent_s >= self._hangs_s:
                await self._renew(self._hangs_s)
            return tuple(map(_blank, self._last))
        self._last = sight.gpus
        if sight.trouble:
            notes[self._vendor] = sight.trouble
            await self._renew(LOOK_FOR_S)
        return sight.gpus

    def close(self) -> None:
        if self._helper is not None:
            self._helper.close()

    async def _renew(self, after_s: float) -> None:
        """Begin anew, but not all the time: a GPU that came back, a driver that was replaced, needs a new library."""
        if self._helper is not None and monotonic() - self._renewed_at >= after_s:
            self._renewed_at = monotonic()
            await asyncio.to_thread(self._helper.end)


def _spent(then: Any, now: Any) -> tuple[float, float]:  # noqa: ANN401 - its fields differ between systems
    """Seconds of a core between two looks, and those in which it was busy."""
    total = sum(now) - sum(then)
    for counted_twice in ("guest", "guest_nice"):
        total -= getattr(now, counted_twice, 0.0) - getattr(then, counted_twice, 0.0)
    idle = sum(getattr(now, name, 0.0) - getattr(then, name, 0.0) for name in ("idle", "iowait"))
    return max(0.0, total), max(0.0, total - idle)


def _percent(total: float, busy: float) -> int:
    return min(100, round(100 * busy / total)) if total > 0 else 0


def _swap() -> Space | None:
    swap = psutil.swap_memory()
    return (swap.total, swap.used) if swap.total else None


def _disk(folder: Path) -> Space:
    disk = psutil.disk_usage(str(folder))
    return disk.total, disk.used


def _blank(gpu: SeenGpu) -> SeenGpu:
    """A GPU of which nothing is known but that it is there."""
    return SeenGpu(
        vendor=gpu.vendor,
        index=gpu.index,
        name=gpu.name,
        uuid=gpu.uuid,
        driver=gpu.driver,
        part_of=gpu.part_of,
        unified=gpu.unified,
        total_bytes=gpu.total_bytes,
        power_limit_w=gpu.power_limit_w,
    )


def _cards(gpus: list[SeenGpu], ram: Space) -> Iterator[GpuCard]:
    before = ""
    for gpu in gpus:
        driver = gpu.driver[:MAX_NAME_CHARS]
        yield GpuCard(
            vendor=gpu.vendor,
            index=gpu.index,
            uuid=gpu.uuid[:MAX_NAME_CHARS],
            name=gpu.name[:MAX_NAME_CHARS],
            driver="" if driver == before else driver,
            vram_total_bytes=ram[0] if gpu.unified else gpu.total_bytes,
            power_limit_w=gpu.power_limit_w,
            part_of=gpu.part_of[:MAX_NAME_CHARS],
            unified=gpu.unified,
        )
        before = driver


def _gauge(gpu: SeenGpu, known: Mapping[int, Known] | None, ram: Space) -> GpuGauge:
    ours = foreign = None
    if known is not None and gpu.holders is not None:
        ours = foreign = 0
        for holder in gpu.holders:
            if known[holder.pid].owner is Owner.OTHER:
                foreign += holder.held_bytes or 0
            else:
                ours += holder.held_bytes or 0
    return GpuGauge(
        utilization=gpu.utilization,
        temperature_c=gpu.temperature_c,
        power_w=gpu.power_w,
        used_bytes=ram[1] if gpu.unified else gpu.used_bytes,
        ours_bytes=ours,
        foreign_bytes=foreign,
        reserved_bytes=gpu.reserved_bytes,
    )


def _holders(gpus: list[SeenGpu], known: Mapping[int, Known] | None) -> tuple[GpuHolder, ...]:
    if known is None:
        return ()
    rows = [
        GpuHolder(place, holder.pid, holder.held_bytes, known[holder.pid].owner, known[holder.pid].name)
        for place, gpu in enumerate(gpus)
        for holder in gpu.holders or ()
    ]
    return tuple(sorted(rows, key=lambda row: -(row.vram_bytes or 0))[:MAX_GPU_PROCESSES])
