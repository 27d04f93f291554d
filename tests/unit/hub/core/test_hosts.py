"""Promises of :mod:`hub.core.hosts`."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from hub.core.hosts import USABLE, free_bytes, gpu_silence, report_of, rooms_for_models
from protocol.machine import GpuCard, GpuGauge, GpuHolder, GpuReport, HostReading, Owner, SpaceReport
from tests.support.machines import GB, gpu, host

AT = datetime(2026, 1, 1, tzinfo=UTC)
CARD = GpuCard(vendor="nvidia", index=1, uuid="GPU-1", name="L40S", driver="580", vram_total_bytes=48, power_limit_w=9)
GAUGE = GpuGauge(utilization=7, temperature_c=40, power_w=99, used_bytes=9, ours_bytes=4, foreign_bytes=3)
HOLDERS = (GpuHolder(0, 12, 4, Owner.SERVER, "ollama"), GpuHolder(0, 13, 3, Owner.OTHER, "game"))


def reading(**over: Any) -> HostReading:
    values: dict[str, Any] = {"at": AT, "cpu_percent": 12.5, "cores": b"\x05\x14", "ram": (16, 8)}
    return HostReading(**(values | over))


# --- reports ----------------------------------------------------------------------------------------------------------


def test_a_reading_becomes_a_whole_report() -> None:
    report = report_of(
        reading(load=(1.0, 0.5, 0.25), swap=(4, 1), disk=(9, 3), workspace=(8, 2), notes={"amd": "none"}), None
    )

    assert (report.cpu.percent, report.cpu.cores, report.cpu.per_core) == (12.5, 2, (5, 20))
    assert report.cpu.load == (1.0, 0.5, 0.25)
    assert report.ram == SpaceReport(total_bytes=16, used_bytes=8)
    assert report.swap == SpaceReport(total_bytes=4, used_bytes=1)
    assert report.disk == SpaceReport(total_bytes=9, used_bytes=3)
    assert report.workspace == SpaceReport(total_bytes=8, used_bytes=2)
    assert (report.gpus, report.notes, report.at) == ((), {"amd": "none"}, AT)


def test_a_gpu_is_its_card_its_gauge_and_who_holds_it() -> None:
    (found,) = report_of(reading(gpus=(GAUGE,), cards=(CARD,), holders=HOLDERS), None).gpus

    assert (found.name, found.vendor, found.index, found.uuid, found.driver) == ("L40S", "nvidia", 1, "GPU-1", "580")
    assert (found.vram_total_bytes, found.vram_used_bytes, found.vram_ours_bytes) == (48, 9, 4)
    assert (found.vram_foreign_bytes, found.vram_reserved_bytes) == (3, None)
    assert (found.utilization, found.temperature_c, found.power_w, found.power_limit_w) == (7.0, 40.0, 99.0, 9.0)
    holds = [(each.pid, each.owner, each.vram_bytes) for each in found.processes]
    assert holds == [(12, "server", 4), (13, "other", 3)]


def test_what_a_reading_leaves_out_is_as_it_was() -> None:
    before = report_of(reading(gpus=(GAUGE,), cards=(CARD,), holders=HOLDERS, notes={"a": "b"}), None)
    after = report_of(reading(gpus=(replace(GAUGE, utilization=90),)), before)

    assert after.gpus == (replace(before.gpus[0], utilization=90.0),)
    assert after.notes == {"a": "b"}


def test_what_a_reading_tells_anew_replaces_what_was() -> None:
    before = report_of(reading(gpus=(GAUGE,), cards=(CARD,), holders=HOLDERS, notes={"a": "b"}), None)
    after = report_of(reading(gpus=(GAUGE,), holders=(), notes={}), before)

    assert (after.gpus[0].processes, after.notes) == ((), {})


def test_a_card_without_a_driver_has_that_of_the_card_before_it() -> None:
    cards = (CARD, replace(CARD, driver=""), replace(CARD, driver="6.1"))
    report = report_of(reading(gpus=(GAUGE,) * 3, cards=cards), None)

    assert [each.driver for each in report.gpus] == ["580", "580", "6.1"]
    assert report_of(reading(gpus=(GAUGE,) * 3), report).gpus == report.gpus


def test_gpus_that_are_gone_are_gone() -> None:
    before = report_of(reading(gpus=(GAUGE,), cards=(CARD,)), None)

    assert report_of(reading(cards=()), before).gpus == ()
    assert report_of(reading(), before).gpus == ()


def test_a_gauge_without_a_card_tells_nothing() -> None:
    assert report_of(reading(gpus=(GAUGE,)), None).gpus == ()
    assert len(report_of(reading(gpus=(GAUGE, GAUGE), cards=(CARD,)), None).gpus) == 1


# --- room -------------------------------------------------------------------------------------------------------------


def card(total: float, used: float = 0, **more: Any) -> GpuReport:
    known = {f"vram_{name}_bytes": more.pop(name, None) for name in ("ours", "foreign")}
    given = {name: int(value * GB) for name, value in known.items() if value is not None}
    return replace(gpu(total, used), **given, **more)


@pytest.mark.parametrize(
    "gpus, resident_gb, room_gb",
    [
        ([card(24)], 0, 24 * USABLE),
        ([card(24), card(24)], 0, 48 * USABLE),
        ([card(24, used=8)], 0, 24 * USABLE - 8),  # nobody owns up to it, so it is taken
        ([card(24, used=8)], 8, 24 * USABLE),  # the server says that its models hold it
        ([card(24, used=8)], 6, 24 * USABLE - 2),
        ([card(24, used=8)], 20, 24 * USABLE),  # a model partly in main memory makes no room
        ([card(24, used=8, ours=8, foreign=0)], 8, 24 * USABLE),
        ([card(24, used=8, ours=0, foreign=8)], 0, 24 * USABLE - 8),
        ([card(24, used=8, ours=0, foreign=8)], 8, 24 * USABLE - 8),  # foreign is foreign, whatever servers say
        ([card(24, used=9, ours=5, foreign=3)], 5, 24 * USABLE - 4),
        ([card(24, vram_reserved_bytes=2 * GB)], 0, 22 * USABLE),
        ([card(24, used=6), card(24, used=2)], 8, 48 * USABLE),  # a model spread over two GPUs
        ([], 0, 0.7 * 16),
        ([card(16, unified=True)], 0, 0.7 * 16),
        ([card(16, unified=True), card(16, unified=True)], 0, 0.7 * 16),  # one memory, whoever uses it
        ([card(24), card(16, unified=True)], 0, 24 * USABLE),
        ([card(16, used=4, unified=True)], 0, 0.7 * 16),  # what others use is not taken off the share of models
        ([card(16, used=12, unified=True)], 8, 0.7 * 16),
        ([card(16, used=9, unified=True)], 0, 16 * USABLE - 9),  # until it is what is left
        ([card(16, used=9, ours=6, foreign=2, unified=True)], 6, 0.7 * 16),
    ],
)
def test_models_have_what_driver_and_others_leave(gpus: list[GpuReport], resident_gb: float, room_gb: float) -> None:
    assert sum(rooms_for_models(host(*gpus), resident_gb * GB) or ()) == pytest.approx(room_gb * GB)


def test_a_gpu_whose_memory_nobody_knows_leaves_the_room_unknown() -> None:
    assert rooms_for_models(host(gpu(24), GpuReport(name="?")), 0) is None


@pytest.mark.parametrize("resident_gb", [0, 8])
def test_a_gpu_whose_driver_hangs_is_not_an_empty_one(resident_gb: float) -> None:
    hung = replace(gpu(24), vram_used_bytes=None, vendor="nvidia")
    notes = {"nvidia": "the driver has not answered for 30 s"}

    assert rooms_for_models(replace(host(hung), notes=notes), resident_gb * GB) == (resident_gb * GB,)
    assert rooms_for_models(replace(host(gpu(24), hung), notes=notes), resident_gb * GB) == (resident_gb * GB,)
    assert gpu_silence(replace(host(hung), notes=notes)) == notes["nvidia"]


def test_a_gpu_that_never_tells_what_is_taken_counts_as_its_size() -> None:
    quiet = replace(gpu(24), vram_used_bytes=None, vendor="intel")

    assert rooms_for_models(host(quiet), 0) == pytest.approx((24 * USABLE * GB,))
    assert gpu_silence(host(quiet)) == ""
    assert gpu_silence(None) == ""


def test_what_is_free_is_what_nobody_has_taken() -> None:
    assert free_bytes(GpuReport(name="a", vram_total_bytes=10, vram_used_bytes=4, vram_reserved_bytes=1)) == 5
    assert free_bytes(GpuReport(name="a", vram_total_bytes=10, vram_used_bytes=12)) == 0
    assert free_bytes(GpuReport(name="a", vram_total_bytes=10)) is None
    assert free_bytes(GpuReport(name="a", vram_used_bytes=10)) is None
