"""What measured values come to: medians, quantiles, costs a task. Pure: numbers in, numbers out."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from math import ceil

from msgspec import Struct


class Spread(Struct, frozen=True, kw_only=True):
    """Some runs of one measurement; quote the median, and the others to show how steady the machine was."""

    min: float
    median: float
    max: float
    runs: int


class Quantiles(Struct, frozen=True, kw_only=True):
    """Many values of one measurement. A quantile is a value that was measured, never one in between."""

    p50: float
    p95: float
    p99: float
    max: float
    count: int


def spread(values: Sequence[float], digits: int = 1) -> Spread:
    """The spread of ``values``.

    Raises:
        ValueError: there are none.
    """
    if not values:
        message = "no values, no spread"
        raise ValueError(message)
    return Spread(
        min=round(min(values), digits),
        median=round(statistics.median(values), digits),
        max=round(max(values), digits),
        runs=len(values),
    )


def quantiles(values: Iterable[float], digits: int = 3) -> Quantiles:
    """The quantiles of ``values``: the smallest one that so many of all do not exceed (nearest rank).

    Raises:
        ValueError: there are none.
    """
    ordered = sorted(values)
    if not ordered:
        message = "no values, no quantiles"
        raise ValueError(message)
    count = len(ordered)
    p50, p95, p99 = (round(ordered[max(0, ceil(percent * count / 100) - 1)], digits) for percent in (50, 95, 99))
    return Quantiles(p50=p50, p95=p95, p99=p99, max=round(ordered[-1], digits), count=count)


def due_times(began: float, per_s: float, count: int) -> list[float]:
    """When each of ``count`` requests is due that come ``per_s`` a second from ``began`` on, in seconds.

    Latency counts from here, whenever the request was really sent: a system that stalls must not be asked less often
    while it does, or the stall would show in one value instead of in all that it delayed.

    Raises:
        ValueError: ``per_s`` is not above 0.
    """
    if per_s <= 0:
        message = f"{per_s} a second: must be above 0"
        raise ValueError(message)
    return [began + number / per_s for number in range(count)]


def waits_ms(due: Mapping[str, float], seen: Mapping[str, float]) -> list[float]:
    """Milliseconds from when each was due to when it was seen.

    Raises:
        KeyError: one was never seen; leaving it out would hide the worst value.
    """
    return [(seen[name] - at) * 1000 for name, at in due.items()]


def us_each(before: Mapping[str, float], after: Mapping[str, float], count: int) -> dict[str, float]:
    """Microseconds a piece of seconds that were spent between two readings, by who spent them.

    Raises:
        ValueError: ``count`` is below 1.
    """
    if count < 1:
        message = f"cost of {count} pieces"
        raise ValueError(message)
    return {who: round((after[who] - before.get(who, 0.0)) * 1e6 / count, 1) for who in after}


def spreads(runs: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """The spread of every name over runs that all have the same names.

    Raises:
        KeyError: a run lacks one.
    """
    return {name: spread([run[name] for run in runs]) for name in runs[0]} if runs else {}
