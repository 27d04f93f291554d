"""What Prometheus sees of the hub: read from what is in memory when it asks, counted where things end."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from hub import exposition, families
from hub.core.decision import is_lower
from hub.core.fleet import Fleet
from hub.core.tally import Tally
from hub.core.window import Window
from hub.gateway.connection import Links
from hub.gauges import Gauges
from hub.readings import Readings
from hub.services.alerting import Alerting
from hub.services.watch import Watch
from hub.store.backend import Backend
from hub.store.waiting import MAX_BATCH
from protocol.clock import Clock
from protocol.model import AgentState, Strategy, TaskState, Tier, TierDecision
from protocol.rate_limits import Action

_NO_FALLBACKS: Final[dict[tuple[str, ...], float]] = {
    (wanted, used, "lower" if is_lower(used, wanted) else "higher"): 0.0
    for wanted in Strategy
    for used in Strategy
    if used is not wanted
}


class Metrics:
    """A collector of its own, so that two hubs in one process do not mix."""

    def __init__(self, store: Backend, fleet: Fleet, links: Links, window: Window, tally: Tally, clock: Clock) -> None:
        self._store, self._fleet, self._links = store, fleet, links
        self._window, self._tally, self._clock = window, tally, clock
        self.watch: Watch | None = None
        self.readings: Readings | None = None
        self.alerting: Alerting | None = None
        self._ended: Counter[TaskState] = Counter()
        self._claims, self._planning_s = 0, 0.0
        self._routed: Counter[Strategy] = Counter()
        self._tiers: Counter[tuple[Tier, Tier]] = Counter()
        self.throttled: Counter[Action] = Counter()
        self.violations: Counter[str] = Counter()
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self.gauges = Gauges(fleet)

    def written(self, *, is_open: bool) -> list[bytes]:
        """All of it as text, piece by piece; ``is_open``: in OpenMetrics, without its end."""
        return [exposition.written(self.registry.collect(), is_open=is_open), self.gauges.written()]

    def ended(self, state: TaskState, attempts: int = 1) -> None:
        """So many attempts have ended, and their tasks are in this state now."""
        self._ended[state] += attempts

    def tiered(self, tier: TierDecision) -> None:
        """A submitter has said how hard a task is."""
        if tier.explicit is not None:
            self._tiers[tier.explicit, tier.inferred] += 1

    def planned(self, claims: int, took_s: float) -> None:
        """So many tasks were given to agents, and deciding it took so long altogether."""
        self._claims += claims
        self._planning_s += took_s

    def routed(self, used: Strategy, times: int) -> None:
        """So many attempts were given away, to be done by this strategy."""
        self._routed[used] += times

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        attempts = CounterMetricFamily(
            "agentcom_attempts_ended", "Attempts ended, by what became of the task", labels=["task"]
        )
        for state, count in sorted(self._ended.items()):
            attempts.add_metric([state.value], count)
        yield attempts
        yield from self._named_tiers()
        agents = GaugeMetricFamily("agentcom_agents", "Agents by state", labels=["state"])
        states = Counter(agent.state for agent in self._fleet.agents.values())
        for known in AgentState:
            agents.add_metric([known.value], states[known])
        yield agents
        yield GaugeMetricFamily("agentcom_attempts_held", "Attempts that agents hold now", len(self._fleet.held))
        yield GaugeMetricFamily("agentcom_sidecars_connected", "Sidecars with an open link", self._links.connected)
        yield CounterMetricFamily("agentcom_store_commits", "Durable transactions", self._store.batches)
        yield CounterMetricFamily("agentcom_store_changes", "Changes in durable transactions", self._store.changes)
        yield self._batch_sizes()
        yield CounterMetricFamily("agentcom_claims", "Tasks given to agents", self._claims)
        yield CounterMetricFamily(
            "agentcom_planning_seconds", "Time spent on deciding who gets tasks", self._planning_s
        )
        fallbacks = CounterMetricFamily(
            "agentcom_fallbacks",
            "Tasks done by another strategy than the first choice",
            labels=["wanted", "used", "direction"],
        )
        # Zeros, too: what appears with a value has not grown for Prometheus.
        for labels, times in sorted((_NO_FALLBACKS | self._tally.of("fallbacks")).items()):
            fallbacks.add_metric(labels, times)
        yield fallbacks
        routed = CounterMetricFamily("agentcom_attempts_routed", "Attempts given to agents", labels=["strategy"])
        for strategy in Strategy:
            routed.add_metric([strategy.value], self._routed[strategy])
        yield routed
        yield from families.counted(self._tally)
        yield from families.queued(self._window, self._tally.counts.waits, self._clock.now_ms())
        yield families.endpoints(self._fleet)
        yield families.commits(self._store.commit_times, self._store.commit_s)
        yield GaugeMetricFamily(
            "agentcom_newest_event", "Sequence number of the newest event", self._store.newest_event
        )
        yield _throttled(self.throttled)
        violations = CounterMetricFamily(
            "agentcom_violations", "Connections ended because a sidecar broke the protocol", labels=["code"]
        )
        for code, count in sorted(self.violations.items()):
            violations.add_metric([code], count)
        yield violations
        waiting = self._store.waiting
        yield GaugeMetricFamily("agentcom_store_waiting", "Changes that wait for their commit", waiting.unanswered)
        yield GaugeMetricFamily("agentcom_store_waiting_tasks", "New tasks that wait for a commit", waiting.tasks)
        yield GaugeMetricFamily("agentcom_store_waiting_bytes", "Bytes that wait for a commit", waiting.size_bytes)
        if self.watch is not None:
            yield from _machine(self.watch)
        if self.readings is not None and self.alerting is not None and self.alerting.leads():
            yield families.tasks(self.readings.counts)
            yield from families.judged(self.readings.taken)
            yield families.alerts(self.alerting.open)

    def _named_tiers(self) -> Iterator[Metric]:
        labels = ["explicit", "inferred"]
        named = CounterMetricFamily("agentcom_tiers_named", "Tasks whose submitter has named a tier", labels=labels)
        differ = CounterMetricFamily(
            "agentcom_tier_disagreements",
            "Tasks whose submitter has named another tier than they look like",
            labels=labels,
        )
        for (explicit, inferred), count in sorted(self._tiers.items()):
            for family in (named, differ) if explicit is not inferred else (named,):
                family.add_metric([explicit.value, inferred.value], count)
        yield named
        yield differ

    def _batch_sizes(self) -> Metric:
        sizes = self._store.batch_sizes
        buckets: list[tuple[str, float]] = []
        count = 0
        for digits in range(1, MAX_BATCH.bit_length() + 1):
            count += sizes.get(digits, 0)
            buckets.append((str(2**digits - 1), count))
        return HistogramMetricFamily(
            "agentcom_store_batch_changes",
            "Changes in one durable transaction",
            buckets=[*buckets, ("+Inf", count)],
            sum_value=self._store.changes,
        )


def _throttled(refused: Counter[Action]) -> Metric:
    family = CounterMetricFamily("agentcom_throttled", "Requests refused because of a rate limit", labels=["action"])
    for action in Action:
        family.add_metric([action.value], refused[action])
    return family


def _machine(watch: Watch) -> Iterator[Metric]:
    yield GaugeMetricFamily("agentcom_store_bytes", "Size of the store", watch.store_bytes)
    yield GaugeMetricFamily("agentcom_memory_bytes", "Memory of the hub in use", watch.memory.used_bytes)
    yield GaugeMetricFamily(
        "agentcom_memory_limit_bytes", "Above it the hub takes no new tasks", watch.memory.limit_bytes
    )
    yield GaugeMetricFamily("agentcom_memory_high", "1: too little memory for new tasks", watch.memory.is_high)
    yield GaugeMetricFamily("agentcom_loop_lag_seconds", "Longest standstill in the last second", watch.lag_s)
    yield GaugeMetricFamily("agentcom_store_log_bytes", "Length of the write-ahead log", watch.log_bytes)
    if watch.space is not None:
        yield GaugeMetricFamily("agentcom_disk_free_bytes", "Free space for the store", watch.space.free_bytes)
        yield GaugeMetricFamily(
            "agentcom_disk_floor_bytes", "Below it the hub takes no new tasks", watch.space.floor_bytes
        )
        yield GaugeMetricFamily("agentcom_disk_low", "1: the disk has no room for new tasks", watch.space.state != "ok")
        yield GaugeMetricFamily("agentcom_disk_reserve_held", "1: the reserve file is in place", watch.space.is_armed)
