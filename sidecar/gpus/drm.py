"""AMD's and Intel's GPUs, from what the Linux kernel shows of them in /sys and /proc.

Needs no library and no rights. A GPU that sleeps is not woken to be looked at. Processes of other users are seen only
where the kernel lets anybody see them (AMD: what computes). Sources: the kernel's Documentation/gpu/amdgpu/driver-misc
and drm-usage-stats, ABI/testing/sysfs-class-kfd. ``root`` is ``/`` but for tests.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Final

from sidecar.gpus.base import AMD, INTEL, Holder, SeenGpu, Sight

_VENDORS: Final = {"0x1002": AMD, "0x8086": INTEL}
_CARD: Final = re.compile(r"card\d+")
_UNITS: Final = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_MEMORY_KEYS: Final = (
    "drm-resident-vram",
    "drm-resident-vram0",
    "drm-resident-local0",
    "drm-total-vram0",
    "drm-memory-vram",
)
"""What says how much of the GPU's memory a client holds; the first that is there counts."""
_SHARED_KEYS: Final = ("drm-resident-gtt", "drm-memory-gtt", "drm-resident-system0", "drm-resident-system")
"""The same of the machine's memory, for a GPU that has none of its own."""
_SEARCH_S: Final = 30.0
"""How often all processes are searched for new ones on a GPU; those that are known are read every time."""
_LEAST_OWN_BYTES: Final = 3 << 30
"""An AMD GPU with less, and more of the machine's memory than that, is part of a processor."""
_MILLI, _MICRO = 1_000, 1_000_000


class Drm:
    """The GPUs of one vendor.

    Args:
        vendor: ``amd`` or ``intel``.
        root: where ``sys``, ``proc`` and ``usr`` are.
    """

    def __init__(self, vendor: str, root: Path = Path("/")) -> None:
        self._vendor, self._root = vendor, root
        self._clients = _Clients(root / "proc")
        self._last: dict[str, SeenGpu] = {}  # by PCI address, as it was when it was awake
        self._energy: dict[str, tuple[float, int]] = {}  # when, and microjoules until then

    def look(self) -> Sight:
        """All GPUs of the vendor."""
        cards = cards_of(self._vendor, self._root)
        held = self._clients.look({card.address for card in cards if not card.sleeps})
        gpus = []
        for index, card in enumerate(cards):
            if card.sleeps and card.address in self._last:
                gpus.append(_asleep(self._last[card.address]))
                continue
            gpus.append(self._one(card, index, held.get(card.address, {})))
            self._last[card.address] = gpus[-1]
        return Sight(tuple(gpus), "" if gpus else f"no {self._vendor} GPU is left")

    def _one(self, card: "Card", index: int, held: dict[int, tuple[int, int]]) -> SeenGpu:
        own, used, unified = self._memory(card)
        heat, power, limit = self._sensors(card)
        computing = self._computing(card) if self._vendor == AMD else {}
        pids = held.keys() | computing.keys()
        holders = {pid: max(held.get(pid, (0, 0))[1 if unified else 0], computing.get(pid, 0)) for pid in pids}
        return SeenGpu(
            vendor=self._vendor,
            index=index,
            name=_text(card.folder / "product_name") or self._name(card) or f"{self._vendor} GPU {card.device}",
            uuid=_text(card.folder / "unique_id") or card.address,
            driver=card.driver,
            unified=unified,
            total_bytes=own,
            used_bytes=used,
            utilization=_number(card.folder / "gpu_busy_percent"),
            temperature_c=None if heat is None else round(heat / _MILLI),
            power_w=power,
            power_limit_w=None if limit is None else round(limit / _MICRO),
            holders=tuple(Holder(pid, held_bytes) for pid, held_bytes in sorted(holders.items())),
        )

    def _memory(self, card: "Card") -> tuple[int | None, int | None, bool]:
        """Total and used, and whether it is the machine's: then both are unknown here."""
        if self._vendor == AMD:
            total, shared = _number(card.folder / "mem_info_vram_total"), _number(card.folder / "mem_info_gtt_total")
            if total is not None and shared is not None and shared > total and total < _LEAST_OWN_BYTES:
                return None, None, True
            return total, _number(card.folder / "mem_info_vram_used"), False
        places = (
            card.folder / "drm" / card.name / "lmem_total_bytes",
            card.folder / "tile0" / "physical_vram_size_bytes",
        )
        total = next((size for place in places if (size := _number(place)) is not None), None)
        free = _number(card.folder / "drm" / card.name / "lmem_avail_bytes")
        return total, None if total is None or free is None else total - free, total is None

    def _sensors(self, card: "Card") -> tuple[int | None, int | None, int | None]:
        """Heat in thousandths of a degree, power in watts, its limit in microwatts."""
        for folder in sorted((card.folder / "hwmon").glob("hwmon*")):
            heats = (_number(folder / f"temp{place}_input") for place in (1, 2))
            heat = next((each for each in heats if each is not None), None)
            watts = (_number(folder / f"power1_{kind}") for kind in ("average", "input"))
            power = next((round(each / _MICRO) for each in watts if each is not None), None)
            limits = (_number(folder / f"power1_{kind}") for kind in ("cap", "max"))
            limit = next((each for each in limits if each is not None), None)
            return heat, self._from_energy(card, folder) if power is None else power, limit
        return None, None, None

    def _from_energy(self, card: "Card", folder: Path) -> int | None:
        """Watts since the last look."""
        energy, now = _number(folder / "energy1_input"), monotonic()
        if energy is None:
            return None
        before = self._energy.get(card.address)
        self._energy[card.address] = now, energy
        if before is None or now <= before[0] or energy < before[1]:
            return None
        return round((energy - before[1]) / _MICRO / (now - before[0]))

    def _computing(self, card: "Card") -> dict[int, int]:
        """Bytes by process of everybody's compute work on an AMD GPU (ROCm)."""
        kfd = self._root / "sys/class/kfd/kfd"
        minors = {path.name.removeprefix("renderD") for path in (card.folder / "drm").glob("renderD*")}
        for node in (kfd / "topology/nodes").glob("*"):
            facts = dict(line.split(maxsplit=1) for line in _text(node / "properties").splitlines() if " " in line)
            if facts.get("drm_render_minor") in minors:
                gpu = _text(node / "gpu_id")
                found = ((each.name, _number(each / f"vram_{gpu}")) for each in (kfd / "proc").glob("*"))
                return {int(pid): held for pid, held in found if pid.isdigit() and held}
        return {}

    def _name(self, card: "Card") -> str:
        """Its name in the list that comes with libdrm, if that is installed."""
        wanted = (card.device.removeprefix("0x").upper(), card.revision.removeprefix("0x").upper())
        for line in _text(self._root / "usr/share/libdrm/amdgpu.ids").splitlines() if self._vendor == AMD else ():
            device, _, rest = line.partition(",")
            revision, _, name = rest.partition(",")
            if (device.strip().upper(), revision.strip().upper()) == wanted:
                return name.strip()
        return ""


class Card:
    """A GPU in /sys.

    Attributes:
        name: ``card0``; address: on the PCI bus; folder: of the device; sleeps: reading it would wake it.
    """

    def __init__(self, name: str, folder: Path, driver: str) -> None:
        self.name, self.folder, self.address, self.driver = name, folder, folder.name, driver
        self.device, self.revision = _text(folder / "device"), _text(folder / "revision")
        self.sleeps = _text(folder / "power/runtime_status") == "suspended"


def cards_of(vendor: str, root: Path = Path("/")) -> list[Card]:
    """The GPUs of a vendor that this machine has, in the order of their addresses."""
    found: dict[str, Card] = {}
    for entry in (root / "sys/class/drm").glob("card*"):
        if _CARD.fullmatch(entry.name) and _VENDORS.get(_text(entry / "device/vendor")) == vendor:
            folder = (entry / "device").resolve()
            driver = (folder / "driver").resolve().name if (folder / "driver").exists() else ""
            version = _text(root / "sys/module" / driver / "version") if driver else ""
            found[folder.name] = Card(entry.name, folder, f"{driver} {version}".strip())
    return [found[address] for address in sorted(found)]


class _Clients:
    """Processes that have a GPU open, and the memory that they hold."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._pids: set[str] = set()
        self._searched_at = float("-inf")

    def look(self, addresses: set[str]) -> dict[str, dict[int, tuple[int, int]]]:
        """By address and pid: bytes of the GPU's memory, and of the machine's."""
        if not addresses:
            return {}
        if monotonic() - self._searched_at >= _SEARCH_S:
            self._searched_at = monotonic()
            self._pids = {entry.name for entry in self._proc.iterdir() if entry.name.isdigit() and _drawn(entry)}
        found: dict[str, dict[int, tuple[int, int]]] = {}
        for pid in self._pids:
            for address, held in self._held(self._proc / pid).items():
                if address in addresses:
                    found.setdefault(address, {})[int(pid)] = held
        return found

    @staticmethod
    def _held(process: Path) -> dict[str, tuple[int, int]]:
        clients: dict[tuple[str, str], tuple[int, int]] = {}
        for descriptor in _drawn(process):
            facts = dict(_facts(_text(process / "fdinfo" / descriptor)))
            address, client = facts.get("drm-pdev", ""), facts.get("drm-client-id", "")
            if address and client:  # one client may be open many times
                clients[address, client] = _bytes(facts, _MEMORY_KEYS), _bytes(facts, _SHARED_KEYS)
        sums: dict[str, tuple[int, int]] = {}
        for (address, _), (own, shared) in clients.items():
            before = sums.get(address, (0, 0))
            sums[address] = before[0] + own, before[1] + shared
        return sums


def _drawn(process: Path) -> list[str]:
    """Descriptors of a process that are a GPU's; none of a process that we may not look into."""
    try:
        found = [(each.name, str(each.readlink())) for each in (process / "fd").iterdir()]
    except OSError:
        return []
    return [name for name, target in found if target.startswith("/dev/dri/")]


def _facts(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            yield key, value.strip()


def _bytes(facts: dict[str, str], keys: tuple[str, ...]) -> int:
    for key in keys:
        number, _, unit = facts.get(key, "").partition(" ")
        if number.isdigit() and unit in _UNITS:
            return int(number) * _UNITS[unit]
    return 0


def _asleep(gpu: SeenGpu) -> SeenGpu:
    """A GPU that sleeps does nothing and holds nothing."""
    return SeenGpu(
        vendor=gpu.vendor,
        index=gpu.index,
        name=gpu.name,
        uuid=gpu.uuid,
        driver=gpu.driver,
        unified=gpu.unified,
        total_bytes=gpu.total_bytes,
        used_bytes=0,
        utilization=0,
        power_limit_w=gpu.power_limit_w,
        holders=(),
    )


def _text(path: Path) -> str:
    """The content of a small file of the kernel; empty if it is not there, or not for us."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None
