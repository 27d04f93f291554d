"""The goals of this project's speed, and whether a run of ``./run bench`` shows them. Pure: figures in, rows out.

A goal that was not measured is shown as such, never left out. Ratios are taken between medians of the same rounds.

Rates, times and processor time were set on a machine on which the floor does 36,000 to 56,000 tasks/s, and takes 0.75
to 1.1 ms for a round trip with an fsync of 0.17. Where the same script is slower than the slowest of that in the same
rounds, such a figure is shown a second time, as it would be if everything took as much less as the floor does there.
The verdict on the figure itself stays what it is.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tests.bench.confined import GOAL_MS, Cost
from tests.bench.contestants import Contestant
from tests.support.levels import LEVELS

OURS: Final = "agentcom"
FLOOR: Final = "floor"
FLOOR_THERE: Final = 36_000
"""What the floor did at least on the machine of the goals, tasks/s."""
FLOOR_OVER_THERE_MS: Final = 0.77
"""What a round trip of the floor took at most there beyond two fsyncs."""
Figures = Sequence[Mapping[str, Any]]


class Row(NamedTuple):
    """One goal; ``holds`` is ``None`` if there is nothing to judge it by.

    Attributes:
        there: ``seen`` on the machine of the goals, if it depends on the machine and this one is slower.
        holds_there: what that is worth.
    """

    what: str
    goal: str
    seen: str
    holds: bool | None
    there: str = ""
    holds_there: bool | None = None


class Once(NamedTuple):
    """What is measured once, after the rounds; ``None``: it was not.

    Attributes:
        crowd: figures of ``agentcom bench connections``.
        queue: figures of ``agentcom bench growth`` at the longest queue.
        back: ``after_s``, ``peak`` and ``mean_per_s`` of a fleet that came back.
        starts_ms: wall time of commands, by command.
        confined: what confining a command takes, by layer.
        explained: how long people wait to hear why a task for a model waits.
    """

    crowd: Mapping[str, Any] | None = None
    queue: Mapping[str, Any] | None = None
    back: Mapping[str, float] | None = None
    starts_ms: Mapping[str, float] | None = None
    confined: Mapping[str, Cost] | None = None
    explained: Mapping[str, float] | None = None


def rows(contestants: Iterable[Contestant], found: Mapping[str, Figures], once: Once) -> list[Row]:
    """Every goal with what was seen of it."""
    contestants = list(contestants)
    pace = (_median(found, FLOOR) or FLOOR_THERE) / FLOOR_THERE
    return [
        *_of_rounds(contestants, found, pace),
        *_of_ours(found.get(OURS, ()), found.get(FLOOR, ()), pace),
        *_of_once(once),
    ]


def _of_rounds(contestants: Sequence[Contestant], found: Mapping[str, Figures], pace: float) -> list[Row]:
    ours, slow = _median(found, OURS), _median(found, "agentcom slow disk")
    peers = [c for c in contestants if not c.is_ours and not c.name.startswith(FLOOR)]
    durable, durable_name = _best((c for c in peers if c.durability == "D"), found)
    fastest, fastest_name = _best(peers, found)
    database, database_name = _best((c for c in peers if c.needs_postgres), found)
    made = [
        _least("tasks/s end to end, SQLite, batches of 100", 10_000, ours, "{:,.0f}", pace),
        _ratio("  beside the best durable peer", 5, ours, durable, durable_name),
        _ratio("  beside the fastest peer, durable or not", 3, ours, fastest, fastest_name),
        _ratio("  beside the floor", 0.25, ours, _median(found, FLOOR), FLOOR),
        _ratio("  every fsync 3.8 ms slower, beside our own", 0.6, slow, ours, "fast disk"),
    ]
    for words, name in (("one hub", "agentcom+postgresql"), ("two hubs", "agentcom+postgresql, two hubs")):
        seen = _median(found, name)
        made.append(_ratio(f"  PostgreSQL, {words}, beside its fastest peer", 8, seen, database, database_name))
    return made


def _of_ours(runs: Figures, floor: Figures, pace: float) -> list[Row]:
    floor_over_ms = _over_ms(floor, "idle_p50_ms")
    trip = FLOOR_OVER_THERE_MS / floor_over_ms if floor_over_ms and floor_over_ms > 0 else 1.0
    hub = _middle(run["cpu_us_per_task"].get("hub") for run in runs)
    over_ms = _over_ms(runs, "idle_p50_ms")
    singles, slowest_ms = (_middle(run.get(name) for run in runs) for name in ("singles_per_s", "singles_p99_ms"))
    rare = most("  of tasks that come rarely, 20 a second", 1.5, _over_ms(runs, "rare_p50_ms"), "{:.2f}", trip)
    tail = most("  its p99 by its p50", 3, _tail(runs), "{:.1f}")
    return [
        most("processor time of the hub a task, us", 80, hub, "{:.0f}", pace),
        most("idle round trip, p50 less two fsyncs, ms", 1.5, over_ms, "{:.2f}", trip),
        _beside(rare, _over_ms(floor, "rare_p50_ms"), "{:.2f}"),
        _beside(tail, _tail(floor), "{:.1f}"),
        _least("single submissions/s, 64 callers", 4_000, singles, "{:,.0f}", pace),
        most("  their p99, ms", 60, slowest_ms, "{:.0f}", pace),
    ]


def _beside(row: Row, floor: float | None, form: str) -> Row:
    """With the floor's own: rare tasks find cold caches, and a machine that others share delays everybody."""
    return row if floor is None else row._replace(seen=f"{row.seen} (floor {form.format(floor)})")


def _tail(runs: Figures) -> float | None:
    """The p99 of lone round trips by their p50."""
    return _middle(
        run["idle_p99_ms"] / run["idle_p50_ms"] for run in runs if run["idle_p50_ms"] and "idle_p99_ms" in run
    )


def _over_ms(runs: Figures, name: str) -> float | None:
    """What a round trip takes beyond two fsyncs of the same round."""
    return _middle(run[name] - 2 * run["fsync_ms"] for run in runs if run.get(name) is not None)


def _of_once(once: Once) -> list[Row]:
    queue, crowd, back, starts = once.queue or {}, once.crowd or {}, once.back or {}, once.starts_ms or {}
    length, agents = queue.get("size", 1_000_000), queue.get("agents", 1_000)
    many = crowd.get("connections", 5_000)
    each = crowd.get("bytes_per_connection")
    fleet = int(back.get("sidecars", 2_000))
    over_mean = back["peak"] / back["mean_per_s"] if back else None
    memory = queue.get("busy_pss_bytes")
    return [
        most(f"a decision, {length:,} queued, {agents:,} agents, us", 50, queue.get("decision_us"), "{:.1f}"),
        most(f"hub memory with {length:,} queued, MB", 250, memory and memory / 1e6, "{:.0f}"),
        most("  restart to serving, s", 3, queue.get("ready_s"), "{:.2f}"),
        most("  why the last one waits, p90, ms", 100, queue.get("explain_p90_ms"), "{:.1f}"),
        most("  with 10,000 tasks for models, p90, ms", 100, (once.explained or {}).get("p90_ms"), "{:.1f}"),
        most(f"{many:,} idle sidecars, % of a core", 15, crowd.get("hub_cpu_percent"), "{:.1f}"),
        most("  memory of each, kB", 30, each and each / 1e3, "{:.1f}"),
        most(f"{fleet:,} sidecars back after a restart, s", 30, back.get("back_s"), "{:.1f}"),
        most("  busiest second by the mean one", 3, over_mean, "{:.1f}"),
        most("agentcom --help, ms", 150, starts.get("--help"), "{:.0f}"),
        most("agentcom tasks ls, ms", 150, starts.get("tasks ls"), "{:.0f}"),
        *_of_confined(once.confined or {}),
    ]


def _of_confined(found: Mapping[str, Cost]) -> list[Row]:
    """Judged by the time that passes; what the processor works stands beside it, which others do not change."""
    made = []
    for level in LEVELS:
        cost = found.get(level.value)
        row = most(f"a command confined by {level}, ms more", GOAL_MS, cost and cost.wall_ms, "{:.1f}")
        made.append(row if cost is None else row._replace(seen=f"{row.seen} ({cost.cpu_ms:.1f} of processor time)"))
    return made


def _least(what: str, goal: float, seen: float | None, form: str, pace: float = 1.0) -> Row:
    row = Row(what, f"{goal:,g}", _shown(seen, form), None if seen is None else seen >= goal)
    if seen is None or pace >= 1:
        return row
    return row._replace(there=form.format(seen / pace), holds_there=seen / pace >= goal)


def most(what: str, goal: float, seen: float | None, form: str, pace: float = 1.0) -> Row:
    """A figure that may be so much; ``pace``: how fast this machine is, the one of the goals being 1."""
    row = Row(what, f"at most {goal:,g}", _shown(seen, form), None if seen is None else seen <= goal)
    if seen is None or pace >= 1:
        return row
    return row._replace(there=form.format(seen * pace), holds_there=seen * pace <= goal)


def _ratio(what: str, goal: float, ours: float | None, theirs: float | None, name: str) -> Row:
    seen = ours / theirs if ours and theirs else None
    told = _shown(seen, "{:.2f} x") + (f" ({name})" if seen else "")
    return Row(what, f"{goal:g} x", told, None if seen is None else seen >= goal)


def _shown(seen: float | None, form: str) -> str:
    return "not measured" if seen is None else form.format(seen)


def _best(contestants: Iterable[Contestant], found: Mapping[str, Figures]) -> tuple[float | None, str]:
    rates = [(rate, c.name) for c in contestants if (rate := _median(found, c.name)) is not None]
    return max(rates, default=(None, ""))


def _median(found: Mapping[str, Figures], name: str) -> float | None:
    return _middle(run["ended_per_s"] for run in found.get(name, ()))


def _middle(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(statistics.median(there)) if there else None
