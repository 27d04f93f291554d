"""Families of metrics that are read from what is in memory: the counts of the log, the queue, the endpoints."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from hub.core import series
from hub.core.alerts import Reading
from hub.core.fleet import Fleet
from hub.core.health import ONLINE
from hub.core.tally import BOUNDS_MS, PHASES, STEPS_AN_OCTAVE, Tally
from hub.core.window import Window
from hub.gauges import MOST
from protocol.alerts import AlertView
from protocol.events import EventKind
from protocol.model import FINAL_STATES, TaskState

_ENDS: Final = {state: EventKind(f"task_{state.value}") for state in sorted(FINAL_STATES)}


def counted(tally: Tally) -> Iterator[Metric]:
    """What the event log says."""
    kinds = CounterMetricFamily("agentcom_events", "Events in the log, by what happened", labels=["kind"])
    for kind in EventKind:
        kinds.add_metric([kind.value], tally.happened(kind))
    yield kinds
    yield CounterMetricFamily("agentcom_tasks_submitted", "Tasks submitted", tally.submitted)
    ended = CounterMetricFamily("agentcom_tasks_ended", "Tasks that have ended, by how", labels=["state"])
    for state, kind in _ENDS.items():
        ended.add_metric([state.value], tally.happened(kind))
    yield ended
    yield CounterMetricFamily("agentcom_leases_lost", "Attempts lost", tally.happened(EventKind.ATTEMPT_LOST))
    yield _keyed(tally, "retries", "agentcom_retries", "Attempts made again, by what failed", ("failure",))
    labels = ("state", "failure")
    yield _keyed(tally, "failures", "agentcom_task_failures", "Tasks failed or dead, by what failed", labels)
    yield _keyed(tally, "verdicts", "agentcom_verifications", "Attempts by what checks found", ("verdict",))
    yield _keyed(tally, "tokens", "agentcom_tokens", "Tokens used, by model", ("model", "direction"))
    yield _keyed(tally, "attempts_of_models", "agentcom_model_attempts", "Attempts of each model", ("model",))
    yield _keyed(tally, "cost_micro", "agentcom_cost_usd", "Money spent, by model", ("model",), 1e-6)
    yield _phases(tally)


def _keyed(tally: Tally, name: str, shown: str, text: str, labels: tuple[str, ...], unit: float = 1.0) -> Metric:
    family = CounterMetricFamily(shown, text, labels=labels)
    for values, count in sorted(tally.of(name).items()):
        family.add_metric(values, count * unit)
    return family


def _phases(tally: Tally) -> Metric:
    text = "How long tasks took, by phase (load: within execute; total: from submission to end)"
    family = HistogramMetricFamily("agentcom_task_seconds", text, labels=["phase"])
    for phase in PHASES:
        span, count = tally.span(phase), 0
        buckets: list[tuple[str, float]] = []
        for place in range(len(BOUNDS_MS)):
            count += span.buckets.get(place, 0)
            if place % (2 * STEPS_AN_OCTAVE) == 0:
                buckets.append((f"{BOUNDS_MS[place] / 1000:g}", count))
        family.add_metric([phase], [*buckets, ("+Inf", span.count)], sum_value=span.sum_ms / 1000)
    return family


def tasks(counts: Mapping[TaskState, int]) -> Metric:
    """How the tasks stand, as last counted (once a minute, by the hub that leads)."""
    family = GaugeMetricFamily("agentcom_tasks", "Tasks by state, counted once a minute", labels=["state"])
    for state in TaskState if counts else ():
        family.add_metric([state.value], counts.get(state, 0))
    return family


class Judged(NamedTuple):
    """A metric made of readings; ``label``: for their subject, if bounded; ``unit``: of theirs, in the metric's."""

    metric: str
    text: str
    label: str = ""
    unit: float = 1


MOST_JUDGED: Final = 100
"""Subjects of a rule that are told, the worst ones."""
JUDGED: Final[Mapping[str, Judged]] = {
    "task_stuck": Judged(
        "agentcom_attempt_silent_seconds", "Longest silence of an attempt in hand, from an hour on", unit=3_600
    ),
    "no_agent_for_tier": Judged("agentcom_queue_stranded_tasks", "Tasks that no agent online can do", "tier"),
    "agent_cloned": Judged("agentcom_agent_cloned", "1: there are two of the agent", "agent"),
    "agent_lost": Judged("agentcom_agent_lost_seconds", "How long ago an agent went without a word", "agent"),
    "budget_nearly_spent": Judged("agentcom_budget_spent_ratio", "Share of a budget of today that is spent", "budget"),
    "backup_overdue": Judged("agentcom_backup_age_ratio", "Age of the newest backup by how often one is wanted"),
    "clock_skew": Judged("agentcom_host_clock_skew_seconds", "How far a clock is from the hub's", "host"),
}
"""By rule, what it judges that no other metric tells."""


def judged(readings: Iterable[Reading]) -> Iterator[Metric]:
    """What rules of alerts judge that no other metric tells; of many subjects the worst ones."""
    found: dict[str, dict[str, float]] = {rule: {} for rule in JUDGED}
    for each in readings:
        if (values := found.get(each.rule)) is not None:
            subject = each.subject if JUDGED[each.rule].label else ""
            values[subject] = max(each.value, values.get(subject, 0.0))
    for rule, how in JUDGED.items():
        family = GaugeMetricFamily(how.metric, how.text, labels=[how.label] if how.label else [])
        for subject, value in sorted(found[rule].items(), key=lambda one: (-one[1], one[0]))[:MOST_JUDGED]:
            family.add_metric([subject] if how.label else [], value * how.unit)
        yield family


def alerts(found: Iterable[AlertView]) -> Metric:
    """What the hub itself finds wrong."""
    open_now = Counter((one.rule, one.severity.value, one.state.value) for one in found)
    family = GaugeMetricFamily("agentcom_alerts", "Alerts that are open", labels=["rule", "severity", "state"])
    for labels, count in sorted(open_now.items()):
        family.add_metric(labels, count)
    return family


def queued(window: Window, waits: Mapping[str, int], now_ms: int) -> Iterator[Metric]:
    """What waits, by priority and tier; of a class at most as many as the hub keeps in memory."""
    tasks = GaugeMetricFamily("agentcom_queue_tasks", "Tasks that could run", labels=["priority", "tier"])
    oldest = GaugeMetricFamily(
        "agentcom_queue_oldest_seconds", "How long the first of the queue waits", labels=["priority", "tier"]
    )
    for (priority, tier), line in sorted(series.lines(window, waits).items()):
        tasks.add_metric([priority, tier], line.tasks)
        oldest.add_metric([priority, tier], series.oldest_s([line], now_ms))
    yield tasks
    yield oldest


def endpoints(fleet: Fleet) -> Metric:
    """Which LLM endpoints answer."""
    up = GaugeMetricFamily("agentcom_endpoint_up", "1: the endpoint answers", labels=["host", "endpoint"])
    for host, name in sorted(fleet.health)[:MOST]:
        up.add_metric([host, name], fleet.health[host, name].state is ONLINE)
    return up


def commits(times: Mapping[int, int], seconds: float) -> Metric:
    """How long durable transactions took; ``times``: by the binary digits of their milliseconds."""
    buckets: list[tuple[str, float]] = []
    count = 0
    for digits in range(16):
        count += times.get(digits, 0)
        buckets.append((f"{2**digits / 1000:g}", count))
    buckets.append(("+Inf", sum(times.values())))
    text = "How long a durable transaction took"
    return HistogramMetricFamily("agentcom_store_commit_seconds", text, buckets=buckets, sum_value=seconds)
