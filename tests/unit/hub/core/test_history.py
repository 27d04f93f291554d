"""Promises of :mod:`hub.core.history`."""

import sys
from typing import Any

import pytest
from msgspec.structs import replace

from hub.core.history import MAX_GPUS, MAX_MINUTES, MAX_SAMPLES, History, Shown
from protocol.machine import GpuReport, HostReport, SpaceReport
from tests.support.machines import host

GIB = 1 << 30


def report(cpu: float, *gpus: GpuReport, **over: Any) -> HostReport:
    base = host(*gpus)
    return replace(base, cpu=replace(base.cpu, percent=cpu), **over)


def figure(shown: tuple[Shown, ...], metric: str = "cpu_percent", gpu: str = "") -> Shown:
    (found,) = (each for each in shown if (each.metric, each.gpu) == (metric, gpu))
    return found


def test_the_minute_has_every_reading() -> None:
    history = History()
    for second in range(0, 100, 5):
        history.add(report(second), 1000.0 + second)
    times, shown = history.minute(1099.0)

    assert times == tuple(1000.0 + second for second in range(40, 100, 5))
    assert figure(shown).mean == tuple(float(second) for second in range(40, 100, 5))
    assert {each.metric for each in shown} == {"cpu_percent", "ram_used_bytes", "disk_used_bytes"}


def test_a_machine_that_reports_no_more_has_no_minute_any_more() -> None:
    history = History()
    history.add(report(5), 1000.0)

    assert history.minute(1059.0)[0] == (1000.0,)
    assert history.minute(1061.0) == ((), ())


def test_the_hour_has_least_mean_and_most_of_every_minute() -> None:
    history = History()
    for at, cpu in ((600, 10), (630, 20), (659, 60), (660, 7), (720, 5), (725, 15)):
        history.add(report(cpu), float(at))
    times, shown = history.hour(730.0)

    assert times == (600.0, 660.0, 720.0)
    assert figure(shown).low == (10, 7, 5)
    assert figure(shown).mean == (30, 7, 10)
    assert figure(shown).high == (60, 7, 15)


def test_an_hour_is_an_hour_whatever_came_before() -> None:
    history = History()
    for minute in range(200):
        history.add(report(minute % 100), 60.0 * minute)
    times, shown = history.hour(60.0 * 199)

    assert times == tuple(60.0 * minute for minute in range(140, 200))
    assert figure(shown).mean == tuple(float(minute % 100) for minute in range(140, 200))
    assert history.hour(60.0 * 230)[0] == tuple(60.0 * minute for minute in range(171, 200))
    assert history.hour(60.0 * 500) == ((), ())


def test_gpus_have_figures_of_their_own_and_unknown_ones_are_gaps() -> None:
    history = History()
    one = GpuReport(name="a", uuid="GPU-1", utilization=50.0, vram_used_bytes=4 * GIB, temperature_c=61.0)
    two = GpuReport(name="b", vendor="amd", index=1, power_w=99.0)
    history.add(report(1), 600.0)
    history.add(report(2, one, two), 605.0)
    history.add(report(3, replace(one, utilization=None)), 610.0)
    _, shown = history.minute(610.0)

    assert figure(shown, "utilization", "GPU-1").mean == (None, 50.0, None)
    assert figure(shown, "vram_used_bytes", "GPU-1").mean == (None, 4.0 * GIB, 4.0 * GIB)
    assert figure(shown, "power_w", "amd:1").mean == (None, 99.0, None)
    assert not [each for each in shown if each.metric == "vram_foreign_bytes"]
    _, shown = history.hour(610.0)
    assert figure(shown, "utilization", "GPU-1") == Shown(
        metric="utilization", gpu="GPU-1", low=(50.0,), mean=(50.0,), high=(50.0,)
    )


def test_swap_and_disk_are_kept_where_they_are_known() -> None:
    history = History()
    history.add(report(1, swap=SpaceReport(total_bytes=8, used_bytes=4), disk=None), 600.0)
    _, shown = history.minute(600.0)

    assert figure(shown, "swap_used_bytes").mean == (4.0,)
    assert not [each for each in shown if each.metric == "disk_used_bytes"]


def test_a_clock_that_is_put_back_leaves_times_in_order() -> None:
    history = History()
    for at in (600.0, 605.0, 300.0, 305.0):
        history.add(report(at / 10), at)

    assert history.minute(305.0)[0] == (300.0, 305.0)
    assert figure(history.minute(305.0)[1]).mean == (30.0, 30.5)


# --- bounds -----------------------------------------------------------------------------------------------------------


def size(history: History) -> int:
    """Bytes, roughly: the arrays, and what holds them."""
    rows = history._series
    held = sum(sys.getsizeof(each.minute) + sys.getsizeof(each.hour) + sys.getsizeof(each) for each in rows.values())
    return held + sys.getsizeof(rows) + sum(map(sys.getsizeof, rows)) + sys.getsizeof(history._times)


@pytest.mark.parametrize("gpus, least, most", [(0, 2_000, 5_000), (8, 30_000, 60_000), (200, 60_000, 110_000)])
def test_memory_is_bounded_however_often_a_machine_reports(gpus: int, least: int, most: int) -> None:
    cards = [GpuReport(name="x", uuid=f"GPU-{number}", utilization=1.0, power_w=1.0) for number in range(gpus)]
    history = History()
    for second in range(2 * 3600):
        if second < 120 or second % 30 == 0:
            history.add(report(1, *cards), float(second))

    assert least < size(history) < most
    for each in history._series.values():
        assert len(each.minute) <= MAX_SAMPLES
        assert len(each.hour) <= 3 * MAX_MINUTES
    assert len(history._series) == 3 + 5 * min(gpus, MAX_GPUS)


def test_readings_that_come_all_the_time_are_bounded_too() -> None:
    history = History()
    for number in range(1000):
        history.add(report(1), 600.0 + number / 100)

    assert len(history.minute(610.0)[0]) == MAX_SAMPLES


def test_a_gpu_that_is_gone_is_forgotten_after_an_hour() -> None:
    history = History()
    history.add(report(1, GpuReport(name="x", uuid="GPU-1", utilization=1.0)), 0.0)
    for minute in range(1, 63):
        history.add(report(1), 60.0 * minute)

    assert {gpu for _, gpu in history._series} == {""}


# --- over a restart ---------------------------------------------------------------------------------------------------


def test_the_hour_survives_being_stored() -> None:
    history = History()
    for minute in range(70):
        history.add(report(minute, GpuReport(name="x", uuid="GPU 1", power_w=float(minute))), 60.0 * minute)
    again = History.of(history.kept())

    assert again.hour(60.0 * 69) == history.hour(60.0 * 69)
    again.add(report(5), 60.0 * 70 + 1)
    assert again.hour(60.0 * 70)[0][-2:] == (60.0 * 69, 60.0 * 70)
    assert len(history.kept()) < 8_000


def test_a_restart_within_a_minute_leaves_that_minute_once() -> None:
    history = History()
    history.add(report(1), 600.0)
    history.add(report(2), 660.0)
    again = History.of(history.kept())
    again.add(report(3), 690.0)

    times, shown = again.hour(700.0)
    assert (times, figure(shown).mean) == ((600.0, 660.0), (1.0, 3.0))


@pytest.mark.parametrize("bytes_", [b"", b"\xc1", b"\x92\xc4\x00\x81\xa1x\xc4\x04abcd", b"\x92\xc4\x03abc\x80"])
def test_bytes_that_are_no_history_are_refused(bytes_: bytes) -> None:
    with pytest.raises(ValueError, match=r"history|multiple"):
        History.of(bytes_)
