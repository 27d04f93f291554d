"""What we say of a real GPU is what NVIDIA's own tool says of it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from protocol.machine import HostReading, Owner
from sidecar.gpus.helper import Helper
from sidecar.gpus.owners import Owners
from sidecar.resources import HostProbe

pytestmark = pytest.mark.gpu

MIB = 1 << 20
HELD = 512 * MIB
LOOKS = 50

HOLD = f"""
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
device, context, memory = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
for code in (cuda.cuInit(0), cuda.cuDeviceGet(ctypes.byref(device), 0),
             cuda.cuCtxCreate_v2(ctypes.byref(context), 0, device),
             cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t({HELD}))):
    assert code == 0, code
print("held", flush=True)
sys.stdin.read()
"""
"""A program that holds memory of the first GPU until its input ends."""


def smi(what: str, of: str = "gpu") -> list[list[str]]:
    """What nvidia-smi says, a row a GPU (or a process)."""
    command = ["nvidia-smi", f"--query-{of}={what}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.strip()]


async def look(work: int = 0) -> HostReading:
    probe = HostProbe(Path("/"), owners=Owners(lambda pid: pid == work, lambda: ()), patience_s=60.0)
    try:
        return await probe.read()
    finally:
        probe.close()


@contextmanager
def holding() -> Iterator[int]:
    """A process that holds memory of the first GPU; its pid."""
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"held\n"
            yield process.pid
        finally:
            process.kill()


async def test_every_gpu_is_told_as_nvidias_own_tool_tells_it() -> None:
    told = smi("uuid,name,driver_version,memory.total,enforced.power.limit,index")
    cards = [card for card in (await look()).cards or () if card.vendor == "nvidia" and not card.part_of]

    assert [card.uuid for card in cards] == [row[0] for row in told]
    driver = ""
    for card, (_, name, version, total_mib, limit_w, index) in zip(cards, told, strict=True):
        driver = card.driver or driver
        assert (card.name, driver, card.index) == (name, version, int(index))
        if total_mib.isdigit():
            assert card.vram_total_bytes is not None
            assert card.vram_total_bytes // MIB == int(total_mib)
        if limit_w.replace(".", "").isdigit():
            assert card.power_limit_w == pytest.approx(float(limit_w), abs=1)


async def test_what_changes_is_what_nvidias_own_tool_sees_a_moment_later() -> None:
    gauge = (await look()).gpus[0]
    used_mib, heat, watts, load = smi("memory.used,temperature.gpu,power.draw,utilization.gpu")[0]

    assert gauge.used_bytes is None or abs(gauge.used_bytes // MIB - int(used_mib)) <= 256
    assert gauge.temperature_c == pytest.approx(int(heat), abs=10)
    assert gauge.power_w is None or gauge.power_w == pytest.approx(float(watts), abs=100)
    assert gauge.utilization is None or 0 <= gauge.utilization <= 100
    assert load.isdigit()


async def test_memory_that_a_process_takes_is_seen_and_is_that_processs() -> None:
    before = (await look()).gpus[0]
    with holding() as pid:
        read = await look(work=pid)
        named = {int(row[0]): int(row[1]) for row in smi("pid,used_memory", "compute-apps") if row[1].isdigit()}

    assert read.gpus[0].used_bytes is not None
    assert before.used_bytes is not None
    assert read.gpus[0].used_bytes - before.used_bytes >= HELD
    told = {row.pid: row for row in read.holders or () if row.gpu == 0}
    if pid not in named:
        # In a container the driver counts processes as the host does, or names none: then neither does its own tool.
        assert pid not in told
        return
    assert told[pid].owner is Owner.WORK
    assert (told[pid].vram_bytes or 0) // MIB == pytest.approx(named[pid], abs=64)
    assert (read.gpus[0].ours_bytes or 0) >= HELD


def test_a_look_costs_little() -> None:
    helper = Helper({})
    helper.look()
    assert helper.pid is not None
    reader = psutil.Process(helper.pid)
    began, spent = time.monotonic(), sum(reader.cpu_times()[:2])
    for _ in range(LOOKS):
        helper.look()
    wall_ms = 1000 * (time.monotonic() - began) / LOOKS
    cpu_ms = 1000 * (sum(reader.cpu_times()[:2]) - spent) / LOOKS
    helper.close()
    print(f"one look: {wall_ms:.1f} ms, {cpu_ms:.1f} ms of a core; every 5 s that is {cpu_ms / 50:.3f} % of a core")

    assert cpu_ms < 25  # half a percent of a core at a look every 5 s
