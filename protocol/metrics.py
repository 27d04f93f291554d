"""Shapes of the hub's figures under ``/api/v1/metrics``."""

from msgspec import Struct


class MetricSeries(Struct, kw_only=True):
    """One figure over time: ``points`` are the end of a step (Unix seconds) and its value, ``null`` if nobody knows."""

    name: str
    unit: str
    labels: dict[str, str] = {}
    points: tuple[tuple[int, float | None], ...] = ()


class MetricsHistory(Struct, kw_only=True):
    """Figures over time, each point ``step_s`` seconds."""

    step_s: int
    series: tuple[MetricSeries, ...]


class MetricsSnapshot(Struct, kw_only=True):
    """The hub in a few numbers; ``event`` is the newest event it takes into account.

    ``tasks``: all that were submitted. ``active_workers``: agents that have work in hand. ``mean_latency_s`` (from
    submission to end) and ``success_rate`` are of the last quarter of an hour; ``null``: nothing has ended in it.
    """

    event: int
    queue: dict[str, int]
    agents: dict[str, int]
    running: int
    tasks: int = 0
    completed: int = 0
    failed: int = 0
    active_workers: int = 0
    mean_latency_s: float | None = None
    success_rate: float | None = None
