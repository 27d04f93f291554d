"""Promises of :mod:`sidecar.resources`: one reading of a machine, whatever disks and drivers do."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from protocol.machine import GpuCard, GpuGauge, GpuHolder, HostReading, Owner
from sidecar.gpus.owners import Owners
from sidecar.resources import HostProbe, drawn_w
from tests.support.kernel import card, client
from tests.support.nvml import MIB, FakeDriver, gpu, machine

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ME = os.getpid()

READ = """
import asyncio, os, sys
from pathlib import Path
import msgspec
from sidecar.gpus.owners import Owners
from sidecar.resources import HostProbe

async def main():
    owners = Owners(lambda pid: pid == os.getppid(), lambda: ())
    env = {"LD_LIBRARY_PATH": os.environ["LD_LIBRARY_PATH"]}
    probe = HostProbe(Path("/"), owners=owners, env=env, patience_s=float(sys.argv[1]))
    while sys.stdin.readline():
        sys.stdout.buffer.write(msgspec.msgpack.encode(await probe.read()).hex().encode() + b"\\n")
        sys.stdout.buffer.flush()
    probe.close()

asyncio.run(main())
"""


@asynccontextmanager
async def probing(state_dir: Path, **over: Any) -> AsyncIterator[HostProbe]:
    probe = HostProbe(state_dir, now=lambda: NOW, **over)
    try:
        yield probe
    finally:
        probe.close()


async def reading(state_dir: Path, **over: Any) -> HostReading:
    async with probing(state_dir, **over) as probe:
        return await probe.read()


# --- processors, memory, disks ----------------------------------------------------------------------------------------


async def test_a_reading_says_what_the_machine_has_and_uses(tmp_path: Path) -> None:
    read = await reading(tmp_path)

    assert 0 <= read.cpu_percent <= 100
    assert len(read.cores) == psutil.cpu_count()
    assert max(read.cores) <= 100
    assert 0 < read.ram[1] < read.ram[0] == psutil.virtual_memory().total
    assert read.disk is not None
    assert 0 < read.disk[1] <= read.disk[0] == psutil.disk_usage(str(tmp_path)).total
    assert read.load is not None
    assert (read.at, read.workspace) == (NOW, None)


async def test_the_load_is_that_since_the_last_reading_of_all_cores_and_of_each(tmp_path: Path) -> None:
    async with probing(tmp_path) as probe:
        begun = sum(os.times()[:2])
        while sum(os.times()[:2]) - begun < 0.2:
            pass
        read = await probe.read()

    assert read.cpu_percent > 0
    assert max(read.cores) > 0


async def test_a_state_directory_that_is_gone_costs_only_its_figures(tmp_path: Path) -> None:
    read = await reading(tmp_path / "gone")

    assert read.disk is None
    assert "No such file" in (read.notes or {})["disk"]
    assert read.ram[0] > 0


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system, as Linux has at /dev/shm")
async def test_workspaces_on_another_disk_are_told_apart(tmp_path: Path) -> None:
    if tmp_path.stat().st_dev == Path("/dev/shm").stat().st_dev:
        pytest.skip("temporary files are on the second file system here")
    apart = await reading(tmp_path, workspaces=Path("/dev/shm"))
    beside = await reading(tmp_path, workspaces=tmp_path)

    assert apart.workspace is not None
    assert apart.workspace[0] == psutil.disk_usage("/dev/shm").total
    assert beside.workspace is None


async def test_a_machine_without_gpus_says_so_and_why(tmp_path: Path) -> None:
    read = await reading(tmp_path, root=tmp_path)

    assert (read.gpus, read.cards, read.holders) == ((), (), ())
    assert (read.notes or {})["gpu"] == "none: no NVIDIA library, and the system shows no GPU of AMD, Intel or Apple"


# --- GPUs -------------------------------------------------------------------------------------------------------------


async def test_gpus_of_all_kinds_stand_side_by_side_with_who_holds_them(tmp_path: Path) -> None:
    memory = {"mem_info_vram_total": 8 << 30, "mem_info_vram_used": 1 << 30}
    card(tmp_path, 0, "0000:03:00.0", "0x1002", "amdgpu", product_name="RX", gpu_busy_percent=5, **memory)
    card(tmp_path, 1, "0000:00:02.0", "0x8086", "i915")
    client(tmp_path, ME, 5, "0000:03:00.0", 1, resident_vram="600 MiB")
    client(tmp_path, 2**22 + 1, 5, "0000:03:00.0", 2, resident_vram="100 MiB")
    read = await reading(tmp_path, root=tmp_path, owners=Owners(lambda pid: pid == ME, lambda: ()))
    total, used = read.ram

    assert read.cards == (
        GpuCard("amd", 0, "0000:03:00.0", "RX", "amdgpu", 8 << 30),
        GpuCard("intel", 0, "0000:00:02.0", "intel GPU 0x744c", "i915", total, unified=True),
    )
    assert read.gpus == (
        GpuGauge(5, used_bytes=1 << 30, ours_bytes=600 * MIB, foreign_bytes=100 * MIB),
        GpuGauge(used_bytes=used, ours_bytes=0, foreign_bytes=0),
    )
    assert read.holders == (
        GpuHolder(0, ME, 600 * MIB, Owner.WORK, psutil.Process().name()),
        GpuHolder(0, 2**22 + 1, 100 * MIB, Owner.OTHER, ""),
    )
    assert read.notes == {}


async def test_without_anybody_to_ask_whose_the_processes_are_that_is_unknown(tmp_path: Path) -> None:
    card(tmp_path, 0, "0000:03:00.0", "0x1002", "amdgpu")
    client(tmp_path, ME, 5, "0000:03:00.0", 1, resident_vram="600 MiB")
    read = await reading(tmp_path, root=tmp_path)

    assert (read.gpus[0].ours_bytes, read.gpus[0].foreign_bytes, read.holders) == (None, None, ())


async def test_many_processes_are_told_by_what_they_hold_and_all_are_counted(tmp_path: Path) -> None:
    card(tmp_path, 0, "0000:03:00.0", "0x1002", "amdgpu")
    for number in range(100):
        client(tmp_path, 2**22 + 1 + number, 5, "0000:03:00.0", number, resident_vram=f"{number} MiB")
    read = await reading(tmp_path, root=tmp_path, owners=Owners(lambda _pid: False, lambda: ()))

    assert [row.vram_bytes for row in read.holders or ()] == [number * MIB for number in range(99, 35, -1)]
    assert read.gpus[0].foreign_bytes == sum(range(100)) * MIB


class Machine:
    """A probe in a process of its own, which loads the pretend driver as it would load the real one."""

    def __init__(self, driver: FakeDriver, patience_s: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", READ, str(patience_s)],
            env=dict(os.environ) | driver.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def read(self) -> HostReading:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        while True:
            line = self.process.stdout.readline().strip()
            assert line, "the probe has died"
            if b" " not in line:  # not a line of the log
                return msgspec.msgpack.decode(bytes.fromhex(line.decode()), type=HostReading)

    def until(self, fact: Callable[[HostReading], bool]) -> HostReading:
        while not fact(found := self.read()):
            pass
        return found


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> FakeDriver:
    return FakeDriver(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def machines(driver: FakeDriver) -> Iterator[Callable[[float], Machine]]:
    with ExitStack() as stack:

        def start(patience_s: float = 30.0) -> Machine:
            made = Machine(driver, patience_s)
            stack.enter_context(made.process)
            stack.callback(made.process.kill)
            return made

        yield start


def test_a_real_loader_finds_the_library_and_tells_ours_from_theirs(
    driver: FakeDriver, machines: Callable[[], Machine]
) -> None:
    driver.set(*machine(gpu(0, computing=f"{ME}:300 {2**22 + 1}:5000"), gpu(1)))
    read = machines().read()

    assert [each.driver for each in read.cards or ()] == ["580.95.05", ""]
    assert [each.power_limit_w for each in read.cards or ()] == [350, 350]
    assert read.gpus[0] == GpuGauge(37, 55, 120, 1024 * MIB, 300 * MIB, 5000 * MIB, 512 * MIB)
    assert [(row.pid, row.owner) for row in read.holders or ()] == [(2**22 + 1, Owner.OTHER), (ME, Owner.WORK)]
    assert read.notes == {}


def test_trouble_of_a_driver_is_told_while_it_lasts(driver: FakeDriver, machines: Callable[[], Machine]) -> None:
    driver.set(*machine(gpu(0), gpu(1)), "1 fail DeviceGetMemoryInfo 15")
    box = machines()
    lost = box.read()
    driver.set(*machine(gpu(0), gpu(1)))
    well = box.read()

    assert lost.notes == {"nvidia": "1 of 2 do not answer (GPU 1: GPU is lost)"}
    assert [each.index for each in lost.cards or ()] == [0]
    assert (well.notes, len(well.gpus)) == ({}, 2)


def test_a_driver_that_hangs_costs_its_gauges_and_nothing_else(
    driver: FakeDriver, machines: Callable[[float], Machine]
) -> None:
    driver.set(*machine(gpu(0)))
    box = machines(0.2)
    before = box.until(lambda read: bool(read.gpus))
    driver.set(*machine(gpu(0)), "hang DeviceGetUtilizationRates")
    hung = box.until(lambda read: bool(read.notes))

    assert "the driver has not answered for" in (hung.notes or {})["nvidia"]
    assert hung.cards == before.cards
    assert hung.gpus == (GpuGauge(),)
    assert hung.disk is not None
    assert box.read().ram[0] > 0


def test_a_reader_that_hangs_for_long_is_replaced(driver: FakeDriver, machines: Callable[[float], Machine]) -> None:
    driver.set(*machine(gpu(0)), "hang DeviceGetCount")
    box = machines(0.1)
    hung = box.until(lambda read: bool(read.notes))
    driver.set(*machine(gpu(0)))  # the call that hangs never comes back; another process is answered
    well = box.until(lambda read: bool(read.gpus))

    assert hung.cards == ()
    assert well.notes == {}


def test_what_gpus_draw_is_added_up_and_of_a_divided_one_counted_once() -> None:
    cards = (
        GpuCard("nvidia", 0, "a", "x"),
        GpuCard("nvidia", 1, "b1", "x", part_of="b"),
        GpuCard("nvidia", 2, "b2", "x", part_of="b"),
    )

    def reading(*drawn: int | None, **more: Any) -> HostReading:
        gpus = tuple(GpuGauge(power_w=watts) for watts in drawn)
        return HostReading(at=NOW, cpu_percent=0.0, cores=b"", ram=(0, 0), gpus=gpus, **more)

    assert drawn_w(reading(100, 70, 70, cards=cards)) == 170.0
    assert drawn_w(reading(100, 70, 70), cards) == 170.0
    assert drawn_w(reading(None, 5)) == 5.0
    assert drawn_w(reading(None)) is None
