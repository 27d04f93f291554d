"""The promises of what Prometheus sees of the log, the queue, the store and what alerts judge."""

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from hub import families
from hub.core.alerts import Reading
from hub.core.tally import Tally
from hub.core.window import Window
from protocol.events import Event, EventKind
from protocol.ids import encode
from protocol.model import TaskState


class Collector:
    def __init__(self, *metrics: Metric) -> None:
        self.metrics = metrics

    def collect(self) -> list[Metric]:
        return list(self.metrics)


def told(*metrics: Metric) -> dict[tuple[str, str], float]:
    """Values by name and the last label, as a reader of OpenMetrics finds them."""
    registry = CollectorRegistry()
    registry.register(Collector(*metrics))
    text = generate_latest(registry).decode()
    return {
        (sample.name, "/".join(value for _, value in sorted(sample.labels.items()))): float(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_counts_are_those_of_the_log() -> None:
    task = encode(1_000_000 << 80)
    steps = (
        (EventKind.TASK_QUEUED, 0, {"by": "me"}),
        (EventKind.TASK_ASSIGNED, 3_000, {}),
        (EventKind.TASK_STARTED, 3_100, {}),
        (EventKind.TASK_DEAD, 9_000, {"failure": "agent", "execution_ok": False, "model": "m", "input_tokens": 8}),
    )
    tally = Tally()
    tally.add(
        [
            Event(kind=kind, at_ms=1_000_000 + at_ms, seq=number + 1, task=task, facts=facts)
            for number, (kind, at_ms, facts) in enumerate(steps)
        ]
    )

    found = told(*families.counted(tally))
    assert found["agentcom_tasks_submitted_total", ""] == 1
    assert found["agentcom_tasks_ended_total", "dead"] == 1
    assert found["agentcom_tasks_ended_total", "completed"] == 0
    assert found["agentcom_task_failures_total", "agent/dead"] == 1
    assert found["agentcom_tokens_total", "input/m"] == 8
    assert found["agentcom_verifications_total", "none"] == 1
    assert found["agentcom_events_total", "task_started"] == 1
    assert (found["agentcom_task_seconds_count", "queue"], found["agentcom_task_seconds_sum", "queue"]) == (1, 3.0)
    assert found["agentcom_task_seconds_bucket", "+Inf/total"] == 1


def test_the_queue_and_commits_are_told() -> None:
    window = Window()
    window.add('{"executor":"noop","strategies":["trivial"]}', (0, encode(1_000 << 80)))

    found = told(*families.queued(window, {}, 3_500), families.commits({0: 2, 4: 1}, 0.02))
    assert found["agentcom_queue_tasks", "urgent/trivial"] == 1
    assert found["agentcom_queue_oldest_seconds", "urgent/trivial"] == 2.5
    assert found["agentcom_store_commit_seconds_bucket", "0.001"] == 2
    assert found["agentcom_store_commit_seconds_count", ""] == 3


def test_what_alerts_judge_is_told_with_bounded_labels_in_the_unit_of_its_metric() -> None:
    found = told(
        *families.judged(
            [
                Reading("task_stuck", "01HZ", 2.5),
                Reading("task_stuck", "02HZ", 7),
                Reading("clock_skew", "box", 31),
                Reading("host_hot", "box gpu 0", 91),  # has a metric of its own
                *(Reading("agent_lost", f"a{number:03}", number) for number in range(families.MOST_JUDGED + 1)),
            ]
        ),
        families.tasks({TaskState.QUEUED: 4}),
    )

    assert found["agentcom_attempt_silent_seconds", ""] == 7 * 3_600
    assert found["agentcom_host_clock_skew_seconds", "box"] == 31
    assert (found["agentcom_tasks", "queued"], found["agentcom_tasks", "running"]) == (4, 0)
    lost = [subject for name, subject in found if name == "agentcom_agent_lost_seconds"]
    assert (len(lost), "a000" in lost, "a100" in lost) == (families.MOST_JUDGED, False, True)
