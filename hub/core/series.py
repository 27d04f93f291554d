"""The figures that are kept over time: their names and units, and one sample of them.

Pure. A sample is what happened between two looks at the counts (:mod:`hub.core.tally`) and how things stood at the
second one. ``hub/services/recording.py`` takes them and has them stored; ``GET /api/v1/metrics`` shows them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from hub.core.hosts import free_bytes
from hub.core.routing import Requirements
from hub.core.tally import QUEUE, TOTAL, Span, Tally
from hub.core.window import Window
from protocol.events import EventKind
from protocol.ids import made_ms
from protocol.machine import HostReport
from protocol.model import PRIORITY_ORDER, Strategy

Sample = Mapping[str, float]
"""Values by name; those of a machine by ``name|machine``. What nobody knows is not there."""
MINUTE_S: Final = 60
QUARTER_S: Final = 900
STEPS_S: Final = (MINUTE_S, QUARTER_S)
KEPT_S: Final = {MINUTE_S: 86_400, QUARTER_S: 30 * 86_400}
"""Seconds for which samples of each step are kept."""
MOST_HOSTS: Final = 32
"""Machines with figures of their own; of more only the first by name."""
SPLIT: Final = "|"


@dataclass(frozen=True, slots=True)
class Figure:
    """What a name stands for. ``joined``: how several samples become one."""

    unit: str
    joined: Literal["sum", "mean", "most"] = "mean"


FIGURES: Final[Mapping[str, Figure]] = {
    "tasks_queued": Figure("tasks"),
    "tasks_running": Figure("tasks"),
    "tasks_waiting": Figure("tasks"),
    "oldest_wait_s": Figure("s", "most"),
    "tasks_submitted": Figure("tasks", "sum"),
    "tasks_completed": Figure("tasks", "sum"),
    "tasks_failed": Figure("tasks", "sum"),
    "success_rate": Figure("ratio"),
    "retries": Figure("attempts", "sum"),
    "fallbacks": Figure("tasks", "sum"),
    "fallbacks_lower": Figure("tasks", "sum"),
    "wait_s_p50": Figure("s"),
    "wait_s_p95": Figure("s"),
    "total_s_p50": Figure("s"),
    "total_s_p95": Figure("s"),
    "agents_busy": Figure("agents"),
    "agents_online": Figure("agents"),
    "tokens": Figure("tokens", "sum"),
    "cost_usd": Figure("usd", "sum"),
    "loop_lag_s": Figure("s", "most"),
    "store_log_bytes": Figure("bytes", "most"),
    "host_cpu": Figure("ratio"),
    "host_ram": Figure("ratio"),
    "host_vram": Figure("ratio"),
    "host_gpu": Figure("ratio"),
}
"""Every figure that is kept; those of machines have the label ``host``."""


def percent_of(used: float, whole: float) -> float:
    """A share, from 0 to 1."""
    return min(1.0, max(0.0, used / whole)) if whole > 0 else 0.0


@dataclass(slots=True)
class Mark:
    """The counts at one moment, as far as samples need them."""

    submitted: int = 0
    completed: int = 0
    failed: int = 0
    retries: int = 0
    fallbacks: int = 0
    fallbacks_lower: int = 0
    tokens: float = 0
    cost_micro: float = 0
    waits: Span = field(default_factory=Span)
    totals: Span = field(default_factory=Span)


def mark(tally: Tally) -> Mark:
    """The counts as they are now."""
    return Mark(
        submitted=tally.submitted,
        completed=tally.happened(EventKind.TASK_COMPLETED),
        failed=tally.happened(EventKind.TASK_FAILED, EventKind.TASK_DEAD),
        retries=int(tally.total("retries")),
        fallbacks=tally.happened(EventKind.TASK_FELL_BACK),
        fallbacks_lower=int(sum(count for (_, _, kind), count in tally.of("fallbacks").items() if kind == "lower")),
        tokens=tally.total("tokens"),
        cost_micro=tally.total("cost_micro"),
        waits=tally.span(QUEUE).copy(),
        totals=tally.span(TOTAL).copy(),
    )


def happened(before: Mark, now: Mark) -> dict[str, float]:
    """What happened between two moments."""
    completed, failed = now.completed - before.completed, now.failed - before.failed
    found: dict[str, float] = {
        "tasks_submitted": now.submitted - before.submitted,
        "tasks_completed": completed,
        "tasks_failed": failed,
        "retries": now.retries - before.retries,
        "fallbacks": now.fallbacks - before.fallbacks,
        "fallbacks_lower": now.fallbacks_lower - before.fallbacks_lower,
        "tokens": now.tokens - before.tokens,
        "cost_usd": (now.cost_micro - before.cost_micro) / 1e6,
    }
    if completed + failed > 0:
        found["success_rate"] = completed / (completed + failed)
    for name, span in (("wait_s", now.waits.since(before.waits)), ("total_s", now.totals.since(before.totals))):
        for digits, share in (("p50", 0.5), ("p95", 0.95)):
            if (value := span.quantile_s(share)) is not None:
                found[f"{name}_{digits}"] = value
    return found


def mean_s(before: Mark, now: Mark) -> float | None:
    """How long tasks took that ended in between, on average; ``None``: none has ended."""
    span = now.totals.since(before.totals)
    return span.sum_ms / span.count / 1000 if span.count else None


def machines(reports: Mapping[str, HostReport]) -> dict[str, float]:
    """How machines stand, those that are first by name."""
    found: dict[str, float] = {}
    for name in sorted(reports)[:MOST_HOSTS]:
        report = reports[name]
        found[f"host_cpu{SPLIT}{name}"] = percent_of(report.cpu.percent, 100)
        found[f"host_ram{SPLIT}{name}"] = percent_of(report.ram.used_bytes, report.ram.total_bytes)
        known = [(gpu.vram_total_bytes or 0, free) for gpu in report.gpus if (free := free_bytes(gpu)) is not None]
        if known:
            whole = sum(total for total, _ in known)
            found[f"host_vram{SPLIT}{name}"] = percent_of(whole - sum(free for _, free in known), whole)
        busy = [gpu.utilization for gpu in report.gpus if gpu.utilization is not None]
        if busy:
            found[f"host_gpu{SPLIT}{name}"] = percent_of(max(busy), 100)
    return found


def joined(samples: Sequence[Sample]) -> dict[str, float]:
    """Several samples as one."""
    values: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in sample.items():
            values.setdefault(name, []).append(value)
    found: dict[str, float] = {}
    for name, all_of_it in values.items():
        figure = FIGURES.get(name.partition(SPLIT)[0])
        if figure is None:
            continue  # of another version
        if figure.joined == "sum":
            found[name] = sum(all_of_it)
        else:
            found[name] = max(all_of_it) if figure.joined == "most" else sum(all_of_it) / len(all_of_it)
    return found


# --- the queue --------------------------------------------------------------------------------------------------------

_TIERS: Final = {Strategy.TRIVIAL: "trivial", Strategy.LOCAL_LLM: "standard", Strategy.CLOUD_LLM: "complex"}
PRIORITIES: Final = tuple(PRIORITY_ORDER)


def tier_of(requirements: Requirements) -> str:
    """Which tier tasks of a class are in; by what they want first, where nothing else tells."""
    if requirements.rung is not None:
        return str(requirements.rung.tier)
    if requirements.topic.count("/"):
        return requirements.topic.split("/")[1]
    return _TIERS.get(requirements.strategies[0], "trivial")


@dataclass(slots=True)
class Line:
    """Queued tasks of one priority and tier: how many, and since when the first of each class waits (Unix ms)."""

    tasks: int = 0
    oldest_ms: int | None = None


def lines(window: Window, waits: Mapping[str, int]) -> dict[tuple[str, str], Line]:
    """What waits and could run, by priority and tier, as far as it is in memory (:attr:`Window.limit` a class).

    ``waits``: since when tasks wait whose id does not tell.
    """
    found: dict[tuple[str, str], Line] = {}
    for queue in window.classes.values():
        tier = tier_of(queue.requirements)
        begin = 0
        for number, priority in enumerate(PRIORITIES):
            end = queue.before((number + 1, ""))[0]
            first = queue.at(begin) if end > begin else None
            if first is not None:
                line = found.setdefault((priority, tier), Line())
                line.tasks += end - begin
                since_ms = waits.get(first[1]) or made_ms(first[1])
                line.oldest_ms = since_ms if line.oldest_ms is None else min(line.oldest_ms, since_ms)
            begin = end
    return found


def oldest_s(found: Iterable[Line], now_ms: int) -> float:
    """How long the first task waits."""
    since = [line.oldest_ms for line in found if line.oldest_ms is not None]
    return max(0.0, (now_ms - min(since)) / 1000) if since else 0.0
