"""Shapes of machines and what they did under ``/api/v1``; what sidecars send of them is in :mod:`protocol.machine`."""

from datetime import datetime

from msgspec import Struct

from protocol.machine import CpuReport, GpuReport, SpaceReport


class HostView(Struct, kw_only=True):
    """A machine: what it has and how much of it is in use, as it was ``at``.

    ``disk`` holds the sidecar's state directory, ``workspace`` the workspaces if they are on another one.
    """

    name: str
    agents: tuple[str, ...]
    cpu: CpuReport | None
    ram: SpaceReport | None
    disk: SpaceReport | None
    gpus: tuple[GpuReport, ...]
    models: tuple[str, ...]
    at: datetime | None
    swap: SpaceReport | None = None
    workspace: SpaceReport | None = None
    notes: dict[str, str] = {}
    """What is wrong or missing, by what it is about: why there is no GPU, or which driver does not answer."""
    online: bool = False
    """A sidecar on it is connected."""


class HostList(Struct, kw_only=True):
    """All machines, by name."""

    hosts: tuple[HostView, ...]
    next_cursor: str | None = None


class Series(Struct, kw_only=True):
    """One figure of a machine over time, a value a moment; ``null`` where it was not known.

    ``gpu`` is the ``uuid`` of the GPU it is about (``vendor:index`` if it has none), empty: the machine. Of the minute
    there is only ``mean``, the figure itself; of the hour also the least and the most of each minute.
    """

    metric: str
    gpu: str
    mean: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()


class HostHistory(Struct, kw_only=True):
    """What a machine did: ``at`` are the moments (``minute``: of each reading; ``hour``: when each minute began)."""

    host: str
    span: str
    at: tuple[datetime, ...]
    series: tuple[Series, ...]
