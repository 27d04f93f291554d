"""What a machine has and how much of it is in use: as people see it, and as sidecars send it.

:class:`HostReport` is the whole picture, the same in memory and in the HTTP API. :class:`HostReading` is what a sidecar
sends with its heartbeats: the same facts in a fraction of the bytes (rows instead of maps), and what has not changed
since the last one on this connection is left out. ``hub/core/hosts.py`` turns the one into the other. Memory is in
bytes; what a driver does not tell is ``None``.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol.bounds import Count, Few, Measure, Whole, Word, Words

MAX_GPUS: Final = 64
"""GPUs, or parts of them, of one machine."""
MAX_GPU_PROCESSES: Final = 64
"""Processes on the GPUs of one machine, those that hold most first; what the others hold is counted, not listed."""
MAX_CORES: Final = 1_024
MAX_NOTES: Final = 16
MAX_NAME_CHARS: Final = 64
MAX_NOTE_CHARS: Final = 200

Name = Annotated[str, Meta(max_length=MAX_NAME_CHARS)]
Note = Annotated[str, Meta(max_length=MAX_NOTE_CHARS)]
Bytes = Count
Space = tuple[Bytes, Bytes]
"""Total and used."""


class Owner(StrEnum):
    """Whose a process on a GPU is: of an attempt, of an LLM server that the sidecar reports, or of somebody else."""

    WORK = "work"
    SERVER = "server"
    OTHER = "other"


# --- the whole picture ------------------------------------------------------------------------------------------------


class CpuReport(Struct, frozen=True, kw_only=True):
    """Load of all processors together, 0 to 100 percent.

    ``per_core`` is the same for each; ``load`` counts runnable tasks over 1, 5 and 15 minutes.
    """

    percent: Measure
    cores: Count
    per_core: Few[Count] = ()
    load: tuple[Measure, Measure, Measure] | None = None


class SpaceReport(Struct, frozen=True, kw_only=True):
    """Memory or disk in bytes."""

    total_bytes: Count
    used_bytes: Count


class GpuProcess(Struct, frozen=True, kw_only=True):
    """A program that holds memory of a GPU; ``name`` is the program's, without arguments."""

    pid: Count
    name: Word
    owner: Owner
    vram_bytes: Count | None = None


class GpuReport(Struct, frozen=True, kw_only=True):
    """One GPU, or one part of it if it is cut up (MIG).

    ``vram_used_bytes`` does not count what the driver keeps for itself (``vram_reserved_bytes``) where that is known.
    ``vram_ours_bytes`` is held by attempts and by LLM servers that the sidecar reports, ``vram_foreign_bytes`` by other
    programs; what is used beyond both, no program that can be seen holds.
    """

    name: Word
    vram_total_bytes: Count | None = None
    vram_used_bytes: Count | None = None
    vram_ours_bytes: Count | None = None
    utilization: Measure | None = None
    temperature_c: Measure | None = None
    power_w: Measure | None = None
    vendor: Word = ""
    """``nvidia``, ``amd``, ``intel`` or ``apple``."""
    index: Whole = 0
    """Counts the GPUs of one vendor as its own tools do; parts have their place on their GPU."""
    uuid: Word = ""
    driver: Word = ""
    part_of: Word = ""
    """``uuid`` of the GPU that this is a part of."""
    unified: bool = False
    """It has no memory of its own: its memory is the machine's."""
    vram_reserved_bytes: Count | None = None
    vram_foreign_bytes: Count | None = None
    power_limit_w: Measure | None = None
    processes: Few[GpuProcess] = ()


class HostReport(Struct, frozen=True, kw_only=True):
    """What a machine has and how much of it is in use, at one moment (``at``, the sidecar's clock).

    ``disk`` holds the state directory, ``workspace`` the workspaces if they are on another one. ``notes`` says what is
    wrong or missing, by what it is about: ``{"nvidia": "the driver has not answered for 40 s"}``.
    """

    cpu: CpuReport
    ram: SpaceReport
    disk: SpaceReport | None
    gpus: Few[GpuReport] = ()
    at: Annotated[datetime, Meta(tz=True)]
    swap: SpaceReport | None = None
    workspace: SpaceReport | None = None
    notes: Words = {}


# --- on the wire ------------------------------------------------------------------------------------------------------


class GpuCard(Struct, frozen=True, array_like=True):
    """What stays the same of a GPU; the fields mean what they mean in :class:`GpuReport`."""

    vendor: Name
    index: Whole
    uuid: Name
    name: Name
    driver: Name = ""
    """Empty: that of the card before it."""
    vram_total_bytes: Bytes | None = None
    power_limit_w: Whole | None = None
    part_of: Name = ""
    unified: bool = False


class GpuGauge(Struct, frozen=True, array_like=True):
    """What changes of a GPU all the time; stands at the place of its card."""

    utilization: Whole | None = None
    temperature_c: Whole | None = None
    power_w: Whole | None = None
    used_bytes: Bytes | None = None
    ours_bytes: Bytes | None = None
    foreign_bytes: Bytes | None = None
    reserved_bytes: Bytes | None = None


class GpuHolder(Struct, frozen=True, array_like=True):
    """A process that holds memory of the GPU at place ``gpu``."""

    gpu: Count
    pid: Count
    vram_bytes: Bytes | None
    owner: Owner
    name: Name


class HostReading(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One look at a machine. ``cards``, ``holders`` and ``notes`` that are left out are as they were last told.

    ``cores`` is one byte a core: its load in percent.
    """

    at: Annotated[datetime, Meta(tz=True)]
    cpu_percent: Measure
    cores: Annotated[bytes, Meta(max_length=MAX_CORES)]
    ram: Space
    load: tuple[Measure, Measure, Measure] | None = None
    swap: Space | None = None
    disk: Space | None = None
    workspace: Space | None = None
    gpus: Annotated[tuple[GpuGauge, ...], Meta(max_length=MAX_GPUS)] = ()
    cards: Annotated[tuple[GpuCard, ...], Meta(max_length=MAX_GPUS)] | None = None
    holders: Annotated[tuple[GpuHolder, ...], Meta(max_length=MAX_GPU_PROCESSES)] | None = None
    notes: Annotated[dict[Name, Note], Meta(max_length=MAX_NOTES)] | None = None
