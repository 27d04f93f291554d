"""What one look at the GPUs of a vendor sees, in the same form for all vendors."""

from typing import Protocol

from msgspec import Struct

NVIDIA, AMD, INTEL, APPLE = "nvidia", "amd", "intel", "apple"


class Holder(Struct, frozen=True, array_like=True):
    """A process that holds memory of a GPU; the driver may not tell how much."""

    pid: int
    held_bytes: int | None = None


class SeenGpu(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One GPU, or one part of it, as its driver tells; what it does not tell is ``None``.

    ``holders`` that are ``None``: the driver names no processes. A ``unified`` one has no memory of its own.
    """

    vendor: str
    index: int
    name: str
    uuid: str = ""
    driver: str = ""
    part_of: str = ""
    unified: bool = False
    total_bytes: int | None = None
    used_bytes: int | None = None
    reserved_bytes: int | None = None
    utilization: int | None = None
    temperature_c: int | None = None
    power_w: int | None = None
    power_limit_w: int | None = None
    holders: tuple[Holder, ...] | None = None


class Sight(Struct, frozen=True, omit_defaults=True):
    """One look: the GPUs that answered, and what is wrong with the others or the driver."""

    gpus: tuple[SeenGpu, ...] = ()
    trouble: str = ""


class Source(Protocol):
    """The GPUs of one vendor."""

    def look(self) -> Sight:
        """How they are now. May hang if the driver does: call it where that costs nothing else."""
        ...
