"""What the rules of alerts judge: looks at the parts of a hub and says how much of everything there is to worry about.

Reads what is in memory; rows and the disk only once a minute. Every reading that may matter is told every time: one
that is not there is well. The rules are ``hub/core/alerts.py``.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from hub.core import series
from hub.core.agent import Agent
from hub.core.alerts import Reading
from hub.core.fleet import Fleet
from hub.core.health import OFFLINE
from hub.core.hosts import free_bytes
from hub.core.matching import Match
from hub.core.routing import Requirements
from hub.core.series import MINUTE_S
from hub.core.tally import Tally
from hub.core.window import Window
from hub.services.budgets import Budgets
from hub.services.watch import Watch
from hub.store.store import Store
from protocol.budgets import BudgetView
from protocol.clock import Clock
from protocol.events import EventKind
from protocol.machine import HostReport
from protocol.model import AgentState, TaskState

MINUTE_MS: Final = 60_000
LATELY: Final = 15
"""Minutes over which rates are looked at."""
RECALLED: Final = 40
"""Minutes that a hub looks back when it begins to judge: for a rate, and to see since when it is wrong."""
FEW: Final = 10
"""Fewer tasks that have ended tell nothing about a rate."""
HOUR_MS: Final = 3_600_000
GONE_MS: Final = 24 * HOUR_MS
"""After so long a machine that went without a word is simply gone."""
DEATH_SHOWN_MS: Final = 600_000
MOST_CLASSES: Final = 200
MOST_TASKS: Final = 50


@dataclass(frozen=True, slots=True)
class _Past:
    at_ms: int
    queued: int
    completed: int
    failed: int
    fallbacks: float


class Readings:
    """Takes readings; what it cannot know yet is set by whoever puts a hub together.

    Attributes:
        match: who online can do a class.
        is_behind: whether the counts are not those of the log yet.
        overdue: age of the newest backup, in times of how often one is wanted; ``None``: none are made.
        counts: tasks by state, when they were last counted.
        taken: the newest readings.
    """

    def __init__(
        self, store: Store, fleet: Fleet, window: Window, clock: Clock, tally: Tally, watch: Watch | None
    ) -> None:
        self._store, self._fleet, self._window = store, fleet, window
        self._clock, self._tally, self._watch = clock, tally, watch
        self.match: Callable[[Requirements], Match] | None = None
        self.budgets: Budgets | None = None
        self.overdue: Callable[[], float | None] = lambda: None
        self._began_ms = clock.now_ms()
        self.is_behind: Callable[[], bool] = lambda: False
        self._past: deque[_Past] = deque()
        self._looked_ms = -MINUTE_MS
        self._slow: list[Reading] = []
        self.counts: Mapping[TaskState, int] = {}
        self.taken: Sequence[Reading] = ()

    async def take(self) -> list[Reading]:
        """All readings of now."""
        now_ms = self._clock.now_ms()
        if now_ms - self._looked_ms >= MINUTE_MS:
            await self._look(now_ms)
            self._looked_ms = now_ms
        work, agents = self._work(now_ms), self._agents(now_ms)
        self.taken = found = [*self._slow, *work, *agents, *self._machines(), *self._hub(now_ms)]
        return found

    async def recall(self) -> list[tuple[int, list[Reading]]] | None:
        """Rates of the last minutes, by the samples that a hub has kept; ``None``: the counts are not known yet.

        What happened behind the newest sample is as if it had happened since: of a rate at most a minute is missing.
        """
        if self.is_behind():
            return None
        now_ms = self._clock.now_ms()
        now_s = now_ms // 1000
        kept = await self._store.samples(MINUTE_S, now_s - RECALLED * MINUTE_S, now_s)
        known = _minutes(kept, self._now(now_ms, {}))
        self._past = deque(known)
        return [(each.at_ms, list(_rates(_before(known, each), each))) for each in known]

    def _now(self, now_ms: int, counts: Mapping[TaskState, int]) -> _Past:
        tally = self._tally
        return _Past(
            now_ms,
            counts.get(TaskState.QUEUED, 0),
            tally.happened(EventKind.TASK_COMPLETED),
            tally.happened(EventKind.TASK_FAILED, EventKind.TASK_DEAD),
            sum(count for (_, _, kind), count in tally.of("fallbacks").items() if kind == "lower"),
        )

    async def _look(self, now_ms: int) -> None:
        """Once a minute: what has to be asked for."""
        self.counts = await self._store.counts()
        now = self._now(now_ms, self.counts)
        while self._past and now_ms - self._past[0].at_ms > RECALLED * MINUTE_MS:
            self._past.popleft()
        self._past.append(now)
        self._slow = list(_rates(_before(self._past, now), now))
        if self.budgets is not None:
            found = (await self.budgets.list()).budgets
            self._slow += [
                Reading("budget_nearly_spent", view.id, share, words) for view in found for share, words in _spent(view)
            ]
        if (times := self.overdue()) is not None:
            self._slow.append(Reading("backup_overdue", "", times, f"{times:.1f} times the wanted age"))

    def _work(self, now_ms: int) -> Iterator[Reading]:
        silent = [
            (hours, task)
            for task, hand in self._tally.counts.hands.items()
            if (hours := (now_ms - max(hand.since_ms, hand.heard_ms)) / HOUR_MS) >= 1
        ]
        for hours, task in sorted(silent, reverse=True)[:MOST_TASKS]:
            yield Reading("task_stuck", task, hours, f"task {task}, {hours:.1f} hours")
        if self.match is None:
            return
        waiting: dict[str, int] = {}
        for queue in list(self._window.classes.values())[:MOST_CLASSES]:
            if len(queue) and not self.match(queue.requirements).ways:
                tier = series.tier_of(queue.requirements)
                waiting[tier] = waiting.get(tier, 0) + len(queue)
        for tier, tasks in sorted(waiting.items()):
            yield Reading("no_agent_for_tier", tier, tasks, f"{tasks} of tier {tier}")

    def _agents(self, now_ms: int) -> Iterator[Reading]:
        for agent in self._fleet.agents.values():
            if agent.quarantine or (agent.alarm and now_ms - agent.alarm_ms < HOUR_MS):
                yield Reading("agent_cloned", agent.name, 1, f"{agent.name}: {agent.quarantine or agent.alarm}")
            is_gone = agent.state is AgentState.OFFLINE and not agent.is_leaving and agent.last_seen_ms is not None
            if is_gone and agent.last_seen_ms is not None and now_ms - agent.last_seen_ms < GONE_MS:
                where = f"{agent.name} on {agent.host or agent.name}"
                yield self._since("agent_lost", agent.name, agent.last_seen_ms, now_ms, where)
        for (host, name), health in self._fleet.health.items():
            if health.state is OFFLINE:
                where = f"{name} on {host}" if host else name
                yield self._since("endpoint_down", where, health.since_ms, now_ms, f"{where}: {health.problem}"[:300])

    def _since(self, rule: str, subject: str, since_ms: int, now_ms: int, detail: str) -> Reading:
        """For how long something has been so, as far as this hub has been there to see it."""
        seen_s = (now_ms - max(since_ms, self._began_ms)) / 1000
        return Reading(rule, subject, seen_s, detail, is_bound=since_ms < self._began_ms)

    def _machines(self) -> Iterator[Reading]:
        told: set[str] = set()
        for agent in self._fleet.agents.values():
            name = agent.host or agent.name
            if agent.report is None or agent.state is AgentState.OFFLINE or name in told:
                continue
            told.add(name)
            yield from _machine(name, agent.report)
            yield from _skew(name, agent, agent.report)

    def _hub(self, now_ms: int) -> Iterator[Reading]:
        for boot, at_ms in self._tally.counts.lost_hubs.items():
            if now_ms - at_ms < DEATH_SHOWN_MS:
                yield Reading("hub_lost", str(boot), 1, f"the start {boot} of a hub")
        watch = self._watch
        if watch is None:
            return
        if watch.space is not None:
            yield Reading("hub_disk", "", watch.space.state != "ok", watch.space.detail)
        yield Reading("hub_memory", "", watch.memory.is_high, watch.memory.detail)
        yield Reading("loop_lag", "", watch.lag_s, f"{watch.lag_s:.2f} s at a time")
        yield Reading("store_log", "", watch.log_bytes, f"{watch.log_bytes >> 20} MiB")


def _minutes(kept: Iterable[tuple[int, bytes]], now: _Past) -> list[_Past]:
    """How it was at the end of each minute of which there is a sample, counted back from ``now``."""
    found, happened = [], now
    for at_s, body in sorted(kept, reverse=True):
        sample = msgspec.msgpack.decode(body, type=dict[str, float])
        happened = replace(happened, at_ms=at_s * 1000, queued=int(sample.get("tasks_queued", 0)))
        found.append(happened)
        happened = replace(
            happened,
            completed=happened.completed - int(sample.get("tasks_completed", 0)),
            failed=happened.failed - int(sample.get("tasks_failed", 0)),
            fallbacks=happened.fallbacks - sample.get("fallbacks_lower", 0),
        )
    return found[::-1]


def _before(past: Iterable[_Past], now: _Past) -> _Past:
    """The newest of those before that is long enough ago for a rate; else the oldest of them."""
    older = [each for each in past if now.at_ms - each.at_ms >= LATELY * MINUTE_MS]
    return older[-1] if older else next(iter(past), now)


def _rates(before: _Past, now: _Past) -> Iterator[Reading]:
    """What has changed in the last minutes; for less than all of them there is no trend."""
    if now.at_ms - before.at_ms >= LATELY * MINUTE_MS and now.queued > before.queued:
        yield Reading("queue_growing", "", now.queued, f"{now.queued} wait, {before.queued} did {LATELY} minutes ago")
    failed = now.failed - before.failed
    ended = now.completed - before.completed + failed
    if ended >= FEW:
        yield Reading("failure_rate", "", failed / ended, f"{failed} of {ended} in {LATELY} minutes")
    if (lower := now.fallbacks - before.fallbacks) > 0:
        yield Reading("tier_fallback", "", lower, f"{lower:g} in {LATELY} minutes")


def _spent(view: BudgetView) -> Iterator[tuple[float, str]]:
    """How much of a budget is spent, of the one of its limits that is nearest."""
    limits = (
        (view.limit.tokens, view.spent.tokens),
        (view.limit.usd, view.spent.usd),
        (view.limit.seconds, view.spent.seconds),
    )
    shares = [spent / limit for limit, spent in limits if limit]
    if shares:
        yield max(shares), f"{view.id}, {max(shares):.0%}"


def _machine(name: str, report: HostReport) -> Iterator[Reading]:
    yield Reading("host_ram", name, series.percent_of(report.ram.used_bytes, report.ram.total_bytes), name)
    if (disk := report.workspace or report.disk) is not None:
        share = series.percent_of(disk.used_bytes, disk.total_bytes)
        yield Reading("host_disk", name, share, f"{name}, {max(0, disk.total_bytes - disk.used_bytes) >> 30} GiB free")
    for place, gpu in enumerate(report.gpus):
        which = f"{name} gpu {place}"
        if gpu.temperature_c is not None:
            yield Reading("host_hot", which, gpu.temperature_c, f"{which}, {gpu.temperature_c:.0f} degrees")
        if (free := free_bytes(gpu)) is not None and gpu.vram_total_bytes:
            yield Reading("host_vram", which, 1 - free / gpu.vram_total_bytes, f"{which}, {free >> 20} MiB free")


def _skew(name: str, agent: Agent, report: HostReport) -> Iterator[Reading]:
    """By how much the machine's clock differs; a report lies a few seconds behind what was heard last."""
    if agent.last_seen_ms is not None:
        off_s = abs(agent.last_seen_ms / 1000 - report.at.timestamp())
        yield Reading("clock_skew", name, off_s, f"{name}, about {off_s:.0f} s")
