"""Promises of :mod:`sidecar.gpus.drm`."""

from pathlib import Path
from typing import Any

import pytest

from sidecar.gpus.base import Holder, SeenGpu, Sight
from sidecar.gpus.drm import Drm, cards_of
from tests.support.kernel import MIB, card, client, write

AT = "0000:03:00.0"
AMD = {
    "mem_info_vram_total": 24 << 30,
    "mem_info_vram_used": 3 << 30,
    "mem_info_gtt_total": 16 << 30,
    "gpu_busy_percent": 42,
    "unique_id": "abcdef",
    "product_name": "Radeon RX 7900 XTX",
    "hwmon__hwmon3__temp1_input": 61_500,
    "hwmon__hwmon3__power1_average": 245_000_000,
    "hwmon__hwmon3__power1_cap": 327_000_000,
}


def amd(root: Path, number: int = 0, address: str = AT, **over: Any) -> Path:
    files = {name: value for name, value in (AMD | over).items() if value is not None}
    return card(root, number, address, "0x1002", "amdgpu", **files)


def one(root: Path, vendor: str = "amd") -> SeenGpu:
    (seen,) = Drm(vendor, root).look().gpus
    return seen


def test_an_amd_gpu_is_told_with_all_that_the_kernel_shows(root: Path) -> None:
    amd(root)
    write(root / "sys/module/amdgpu/version", "6.12.12")
    seen = one(root)

    assert (seen.vendor, seen.index, seen.name, seen.uuid) == ("amd", 0, "Radeon RX 7900 XTX", "abcdef")
    assert (seen.driver, seen.unified) == ("amdgpu 6.12.12", False)
    assert (seen.total_bytes, seen.used_bytes) == (24 << 30, 3 << 30)
    assert (seen.utilization, seen.temperature_c, seen.power_w, seen.power_limit_w) == (42, 62, 245, 327)
    assert seen.holders == ()


def test_what_the_kernel_does_not_show_is_unknown(root: Path) -> None:
    amd(root, **dict.fromkeys(AMD))
    seen = one(root)

    assert (seen.name, seen.uuid, seen.driver) == ("amd GPU 0x744c", AT, "amdgpu")
    assert (seen.total_bytes, seen.used_bytes, seen.utilization, seen.temperature_c) == (None,) * 4
    assert (seen.power_w, seen.power_limit_w) == (None, None)


def test_a_file_that_says_nonsense_is_unknown(root: Path) -> None:
    amd(root, gpu_busy_percent="N/A", mem_info_vram_used="", product_name="")

    assert (one(root).utilization, one(root).used_bytes) == (None, None)


def test_a_name_comes_from_the_list_of_libdrm(root: Path) -> None:
    amd(root, product_name=None)
    ids = "# comment\n1.0.0\n744C,\tC8,\tAMD Radeon RX 7900 XTX\n744C,\tCC,\tanother"
    write(root / "usr/share/libdrm/amdgpu.ids", ids)

    assert one(root).name == "AMD Radeon RX 7900 XTX"


def test_gpus_are_counted_by_their_addresses_and_those_of_others_are_left_out(root: Path) -> None:
    amd(root, 1, "0000:03:00.0", product_name="first")
    amd(root, 0, "0000:83:00.0", product_name="second")
    card(root, 2, "0000:00:02.0", "0x1af4", "virtio")
    card(root, 3, "0000:0a:02.0", "0x8086", "i915")

    assert [(seen.index, seen.name) for seen in Drm("amd", root).look().gpus] == [(0, "first"), (1, "second")]
    assert [each.address for each in cards_of("intel", root)] == ["0000:0a:02.0"]


def test_no_gpu_is_no_gpu_and_says_so(root: Path) -> None:
    assert Drm("amd", root).look() == Sight((), "no amd GPU is left")


def test_the_gpu_of_a_processor_shares_the_machines_memory(root: Path) -> None:
    amd(root, mem_info_vram_total=512 * MIB, mem_info_gtt_total=48 << 30)
    client(root, 70, 5, AT, 1, resident_vram="100 MiB", resident_gtt="900 MiB")
    seen = one(root)

    assert (seen.unified, seen.total_bytes, seen.used_bytes) == (True, None, None)
    assert seen.holders == (Holder(70, 900 * MIB),)


def test_a_gpu_that_sleeps_is_not_woken(root: Path) -> None:
    device = amd(root)
    drm = Drm("amd", root)
    drm.look()
    write(device / "power/runtime_status", "suspended")
    for name in ("gpu_busy_percent", "mem_info_vram_used", "mem_info_vram_total"):
        (device / name).unlink()  # to read one would wake it
    (seen,) = drm.look().gpus

    assert (seen.total_bytes, seen.used_bytes, seen.utilization, seen.holders) == (24 << 30, 0, 0, ())


def test_every_process_is_told_with_what_its_clients_hold(root: Path) -> None:
    amd(root)
    client(root, 70, 5, AT, 1, resident_vram="100 MiB")
    client(root, 70, 6, AT, 1, resident_vram="100 MiB")  # the same client once more
    client(root, 70, 7, AT, 2, memory_vram="51200 KiB")  # an older kernel
    client(root, 71, 5, "0000:99:00.0", 3, resident_vram="7 MiB")  # another GPU
    client(root, 72, 5, AT, 4, resident_vram="x MiB")
    (root / "proc/73").mkdir()  # no process that we may look into

    assert one(root).holders == (Holder(70, 150 * MIB), Holder(72, 0))


def test_what_computes_is_seen_of_all_users(root: Path) -> None:
    device = amd(root)
    (device / "drm/renderD129").mkdir(parents=True)
    client(root, 70, 5, AT, 1, resident_vram="100 MiB")
    kfd = root / "sys/class/kfd/kfd"
    write(kfd / "topology/nodes/0/properties", "cpu_cores_count 16\ndrm_render_minor 0")
    write(kfd / "topology/nodes/1/properties", "simd_count 96\ndrm_render_minor 129")
    write(kfd / "topology/nodes/1/gpu_id", 4242)
    for pid, held in ((70, 900 * MIB), (80, 300 * MIB), (81, 0)):
        write(kfd / f"proc/{pid}/vram_4242", held)

    assert one(root).holders == (Holder(70, 900 * MIB), Holder(80, 300 * MIB))


def test_an_intel_gpu_with_memory_of_its_own(root: Path) -> None:
    size = {"drm__card0__lmem_total_bytes": 16 << 30, "drm__card0__lmem_avail_bytes": 15 << 30}
    device = card(root, 0, AT, "0x8086", "i915", hwmon__hwmon1__energy1_input=1_000_000, **size)
    client(root, 70, 5, AT, 1, resident_local0="100 MiB")
    drm = Drm("intel", root)
    (first,) = drm.look().gpus
    write(device / "hwmon/hwmon1/energy1_input", 10**12)
    (second,) = drm.look().gpus

    assert (first.total_bytes, first.used_bytes, first.unified) == (16 << 30, 1 << 30, False)
    assert first.holders == (Holder(70, 100 * MIB),)
    assert first.power_w is None
    assert second.power_w is not None
    assert second.power_w > 0


@pytest.mark.parametrize("driver", ["i915", "xe"])
def test_the_gpu_of_an_intel_processor_shares_the_machines_memory(root: Path, driver: str) -> None:
    card(root, 0, AT, "0x8086", driver)
    client(root, 70, 5, AT, 1, resident_gtt="3 MiB")
    seen = one(root, "intel")

    assert (seen.unified, seen.total_bytes, seen.holders) == (True, None, (Holder(70, 3 * MIB),))


def test_a_newer_intel_driver_tells_the_size_elsewhere(root: Path) -> None:
    card(root, 0, AT, "0x8086", "xe", tile0__physical_vram_size_bytes=12 << 30, hwmon__hwmon1__temp2_input=48_000)
    client(root, 70, 5, AT, 1, resident_vram0="23992 KiB")
    seen = one(root, "intel")

    assert (seen.total_bytes, seen.used_bytes, seen.temperature_c) == (12 << 30, None, 48)
    assert seen.holders == (Holder(70, 23992 << 10),)
