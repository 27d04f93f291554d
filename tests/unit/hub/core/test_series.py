"""The promises of the figures over time."""

from datetime import UTC, datetime

from hub.core.routing import requirements_of, route
from hub.core.series import FIGURES, Mark, happened, joined, lines, machines, mean_s, oldest_s, tier_of
from hub.core.tally import Span
from hub.core.window import Window
from protocol.ids import encode
from protocol.machine import CpuReport, GpuReport, HostReport, SpaceReport
from protocol.model import TaskSpec, Tier


def spans(*seconds: float) -> Span:
    span = Span()
    for each in seconds:
        span.add(round(each * 1000))
    return span


def test_a_sample_tells_what_happened_between_two_looks() -> None:
    before = Mark(submitted=5, completed=2, failed=1, tokens=100, totals=spans(1))
    now = Mark(
        submitted=9, completed=5, failed=2, tokens=150, cost_micro=2_500_000, totals=spans(1, 3, 5), waits=spans(2)
    )

    found = happened(before, now)
    assert (found["tasks_submitted"], found["tasks_completed"], found["tasks_failed"]) == (4, 3, 1)
    assert (found["success_rate"], found["tokens"], found["cost_usd"]) == (0.75, 50, 2.5)
    assert abs(found["wait_s_p50"] - 2) < 0.2
    assert mean_s(before, now) == 4.0
    assert found.keys() <= FIGURES.keys()


def test_what_nobody_knows_is_not_told() -> None:
    found = happened(Mark(), Mark())

    assert "success_rate" not in found
    assert "total_s_p95" not in found
    assert mean_s(Mark(), Mark()) is None


def test_samples_are_added_averaged_or_the_most_of_them_counts() -> None:
    one = {"tasks_completed": 2.0, "tasks_queued": 10.0, "oldest_wait_s": 5.0, "of_another_version": 1.0}
    two = {"tasks_completed": 3.0, "tasks_queued": 20.0, "oldest_wait_s": 3.0, "host_cpu|a": 0.5}

    assert joined([one, two]) == {
        "tasks_completed": 5.0,
        "tasks_queued": 15.0,
        "oldest_wait_s": 5.0,
        "host_cpu|a": 0.5,
    }


def test_the_queue_is_told_by_priority_and_tier() -> None:
    window = Window()
    plain = route(TaskSpec(command="true"))[1].text
    hard = route(TaskSpec(prompt="x", complexity=Tier.COMPLEX))[1].text
    for made_s, priority, text in ((10, 0, plain), (4, 2, plain), (6, 2, plain), (8, 2, hard)):
        window.add(text, (priority, encode(made_s * 1000 << 80)))

    found = lines(window, {encode(6_000 << 80): 2_000})
    assert {key: (line.tasks, line.oldest_ms) for key, line in found.items()} == {
        ("urgent", "trivial"): (1, 10_000),
        ("normal", "trivial"): (2, 4_000),
        ("normal", "complex"): (1, 8_000),
    }
    assert oldest_s(found.values(), 14_000) == 10.0
    assert oldest_s([], 14_000) == 0.0


def test_a_tier_is_known_of_every_class() -> None:
    for tier in Tier:
        for learning in (True, False):
            spec = TaskSpec(prompt="x", complexity=tier, learning=learning)
            assert tier_of(requirements_of(route(spec)[1].text)) in set(Tier)


def test_machines_tell_shares_of_what_they_have() -> None:
    gpus = (
        GpuReport(name="a", vram_total_bytes=100, vram_used_bytes=75, utilization=30.0),
        GpuReport(name="b", utilization=80.0),
    )
    report = HostReport(
        cpu=CpuReport(percent=25.0, cores=4),
        ram=SpaceReport(total_bytes=200, used_bytes=100),
        disk=None,
        gpus=gpus,
        at=datetime.fromtimestamp(0, UTC),
    )
    assert machines({"h": report}) == {
        "host_cpu|h": 0.25,
        "host_ram|h": 0.5,
        "host_vram|h": 0.75,
        "host_gpu|h": 0.8,
    }
    assert len(machines({f"h{number}": report for number in range(40)})) == 32 * 4
