"""Keep the figures of the hub over time: one sample a minute for a day, one a quarter of an hour for a month.

Nothing is done for it while work goes on: a sample is a look at counts that are there anyway. With several hubs on one
database the one that leads does it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from hub.core import series
from hub.core.fleet import Fleet
from hub.core.series import FIGURES, KEPT_S, MINUTE_S, QUARTER_S, SPLIT, Mark, Sample
from hub.core.tally import Tally
from hub.core.window import Window
from hub.store.keeping_changes import KeepSample
from hub.store.store import Store
from protocol.clock import Clock
from protocol.errors import BadInput, Problem, Unavailable
from protocol.machine import HostReport
from protocol.metrics import MetricSeries, MetricsHistory
from protocol.model import AgentState, TaskState

log = structlog.get_logger(__name__)
MOST_POINTS: Final = 3_000
"""Of one series in one answer."""
RECENT_STEPS: Final = 15
"""Minutes that "lately" means where one number is shown."""
_BUSY: Final = frozenset({AgentState.ASSIGNED, AgentState.WORKING})


@dataclass(frozen=True, slots=True)
class Lately:
    """The last quarter of an hour in a few numbers; ``None``: no task has ended in it."""

    ended: int
    mean_latency_s: float | None
    success_rate: float | None


class Recording:
    """The loop that takes samples, and the question after them.

    Attributes:
        tally: the counts.
        fleet: the machines that are looked at.
        leads: whether this hub takes them.
        is_behind: whether the counts are not those of the log yet.
        machine: figures of the machine under this hub, by name.
    """

    def __init__(self, store: Store, fleet: Fleet, window: Window, clock: Clock, tally: Tally) -> None:
        self._store, self.fleet, self._window, self._clock, self.tally = store, fleet, window, clock, tally
        self.leads: Callable[[], bool] = lambda: True
        self.is_behind: Callable[[], bool] = lambda: False
        self.machine: Callable[[], dict[str, float]] = dict
        self._minutes: deque[Sample] = deque(maxlen=QUARTER_S // MINUTE_S)
        self._marks: deque[Mark] = deque(maxlen=RECENT_STEPS + 1)
        self._quarter: Mark | None = None
        self._at_s = 0

    async def run(self) -> None:
        """Take a sample at the end of each minute, until cancelled."""
        while True:
            await asyncio.sleep(MINUTE_S - self._clock.now_ms() / 1000 % MINUTE_S)
            try:
                await self.look()
            except Unavailable as exc:
                log.warning("sample_missed", why=str(exc), next="the chart has a gap")

    async def look(self) -> None:
        """Take the sample of the step that ends now; the first look only notes where it begins."""
        if self.is_behind():
            return
        at_s = round(self._clock.now_ms() / 1000 / MINUTE_S) * MINUTE_S
        if at_s == self._at_s:
            return  # the timer was early
        self._at_s, now = at_s, series.mark(self.tally)
        before = self._marks[-1] if self._marks else None
        self._marks.append(now)
        if before is None:
            self._quarter = now
            return
        stands = await self._stands()
        minute = stands | series.happened(before, now)
        self._minutes.append(minute)
        if self.leads():
            self._keep(MINUTE_S, at_s, minute)
        if at_s % QUARTER_S == 0 and self._quarter is not None:
            if self.leads():
                gauges = series.joined(list(self._minutes))
                self._keep(QUARTER_S, at_s, gauges | series.happened(self._quarter, now))
            self._quarter = now
            self._minutes.clear()

    def _keep(self, step_s: int, at_s: int, sample: Sample) -> None:
        body = msgspec.msgpack.encode(sample)
        self._store.post(KeepSample(step_s=step_s, at_s=at_s, body=body, before_s=at_s - KEPT_S[step_s]))

    async def _stands(self) -> dict[str, float]:
        """How things stand now."""
        counts = await self._store.counts()
        agents = list(self.fleet.agents.values())
        waiting = series.lines(self._window, self.tally.counts.waits)
        return {
            "tasks_queued": counts.get(TaskState.QUEUED, 0),
            "tasks_running": counts.get(TaskState.ASSIGNED, 0) + counts.get(TaskState.RUNNING, 0),
            "tasks_waiting": counts.get(TaskState.WAITING, 0),
            "oldest_wait_s": series.oldest_s(waiting.values(), self._clock.now_ms()),
            "agents_busy": self.busy,
            "agents_online": sum(agent.state is not AgentState.OFFLINE for agent in agents),
            **self.machine(),
            **series.machines(self._reports()),
        }

    def _reports(self) -> dict[str, HostReport]:
        found: dict[str, HostReport] = {}
        for agent in self.fleet.agents.values():
            if agent.report is not None and agent.state is not AgentState.OFFLINE:
                found.setdefault(agent.host or agent.name, agent.report)
        return found

    # --- people -------------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> int:
        """Agents that have work in hand, at any hub."""
        return sum(agent.state in _BUSY or bool(agent.away) for agent in self.fleet.agents.values())

    def lately(self) -> Lately:
        """The last quarter of an hour, up to now."""
        now = series.mark(self.tally)
        before = self._marks[0] if self._marks else Mark()
        ended = now.completed + now.failed - before.completed - before.failed
        rate = (now.completed - before.completed) / ended if ended else None
        return Lately(ended=ended, mean_latency_s=series.mean_s(before, now), success_rate=rate)

    async def history(
        self,
        names: frozenset[str] = frozenset(),
        since_s: int | None = None,
        until_s: int | None = None,
        step_s: int = 0,
    ) -> MetricsHistory:
        """Figures over time.

        Args:
            names: which ones; empty: all.
            since_s, until_s: from when and until when (Unix seconds); left out: the last hour, until now.
            step_s: of one point; 0: the finest that is kept for so long.

        Raises:
            BadInput: there is no such figure, or the times make no sense, or the answer would be too long.
        """
        until_s = until_s if until_s is not None else self._clock.now_ms() // 1000
        since_s = since_s if since_s is not None else until_s - 3_600
        problems = [Problem("names", f"{name}: one of {', '.join(FIGURES)}") for name in sorted(names - FIGURES.keys())]
        if since_s >= until_s:
            problems.append(Problem("since", "it is not before `until`"))
        is_fresh = since_s >= self._clock.now_ms() // 1000 - KEPT_S[MINUTE_S]
        base_s = MINUTE_S if is_fresh and step_s < QUARTER_S else QUARTER_S
        step_s = max(base_s, -(-step_s // base_s) * base_s)
        if not problems and (until_s - since_s) // step_s > MOST_POINTS:
            problems.append(Problem("step_s", f"that would be over {MOST_POINTS} points; ask for longer steps"))
        if problems:
            raise BadInput(problems, "query")
        kept = await self._store.samples(base_s, since_s, until_s)
        return MetricsHistory(step_s=step_s, series=_shown(kept, names or frozenset(FIGURES), step_s))


def _shown(kept: list[tuple[int, bytes]], names: frozenset[str], step_s: int) -> tuple[MetricSeries, ...]:
    """Samples as one series a figure, with ``null`` where there is none."""
    steps: dict[int, list[Sample]] = {}
    for at_s, body in kept:
        steps.setdefault(-(-at_s // step_s) * step_s, []).append(msgspec.msgpack.decode(body, type=dict[str, float]))
    samples: dict[int, Mapping[str, float]] = {at_s: series.joined(found) for at_s, found in steps.items()}
    if not samples:
        return ()
    times = range(min(samples), max(samples) + 1, step_s)
    known = sorted({name for sample in samples.values() for name in sample if name.partition(SPLIT)[0] in names})
    return tuple(
        MetricSeries(
            name=name.partition(SPLIT)[0],
            unit=FIGURES[name.partition(SPLIT)[0]].unit,
            labels={"host": name.partition(SPLIT)[2]} if SPLIT in name else {},
            points=tuple((at_s, samples[at_s].get(name) if at_s in samples else None) for at_s in times),
        )
        for name in known
    )
