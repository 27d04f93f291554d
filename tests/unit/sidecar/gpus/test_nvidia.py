"""Promises of :mod:`sidecar.gpus.nvidia` and of the process that it lives in (``reader.py``, ``helper.py``)."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from sidecar.gpus.base import Holder, Sight
from sidecar.gpus.helper import Helper
from tests.support.nvml import MIB, FakeDriver, gpu, machine


@pytest.fixture
def helper(driver: FakeDriver) -> Iterator[Helper]:
    made = Helper(driver.env)
    yield made
    made.close()


def until(fact: Callable[[], Any]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 30
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_gpu_is_told_with_all_that_the_driver_knows(driver: FakeDriver, helper: Helper) -> None:
    driver.set(*machine(gpu(0), gpu(1, used_mib=2048, load=99, heat_c=71, power_mw=310_250)))
    first, second = helper.look().gpus

    assert (first.vendor, first.index, first.name, first.uuid) == ("nvidia", 0, "Pretend GPU 0", "GPU-0")
    assert (first.driver, first.unified, first.part_of) == ("580.95.05", False, "")
    assert (second.total_bytes, second.used_bytes, second.reserved_bytes) == (24576 * MIB, 2048 * MIB, 512 * MIB)
    assert (second.utilization, second.temperature_c, second.power_w, second.power_limit_w) == (99, 71, 310, 350)
    assert second.holders == ()


@pytest.mark.parametrize(
    "line, field",
    [
        ("uuid", "uuid"),
        ("total_mib", "total_bytes"),
        ("load", "utilization"),
        ("heat_c", "temperature_c"),
        ("power_mw", "power_w"),
        ("limit_mw", "power_limit_w"),
    ],
)
def test_what_a_gpu_does_not_support_costs_nothing_else(
    driver: FakeDriver, helper: Helper, line: str, field: str
) -> None:
    driver.set(*machine(gpu(0, **{line: None})))
    sight = helper.look()

    (seen,) = sight.gpus
    assert not getattr(seen, field)
    assert (seen.name, sight.trouble) == ("Pretend GPU 0", "")


@pytest.mark.parametrize("call", ["Name", "UtilizationRates", "Temperature", "PowerUsage", "Processes", "MigMode"])
@pytest.mark.parametrize("code", [4, 999])
def test_a_call_that_fails_costs_nothing_else(driver: FakeDriver, helper: Helper, call: str, code: int) -> None:
    driver.set(*machine(gpu(0)), f"fail DeviceGet{call} {code}")
    sight = helper.look()

    (seen,) = sight.gpus
    assert (seen.total_bytes, seen.uuid, sight.trouble) == (24576 * MIB, "GPU-0", "")


@pytest.mark.parametrize(
    "lines, trouble",
    [
        (["fail Init 9"], "Driver Not Loaded"),
        (["fail Init 18"], "driver and library are of different versions; reload the driver or restart the machine"),
        (["fail Init 999"], "Unknown Error"),
        (["fail DeviceGetCount 1"], "Uninitialized"),
        ([], "the driver sees no GPU"),
    ],
)
def test_a_driver_that_is_not_there_is_no_gpu_and_says_why(
    driver: FakeDriver, helper: Helper, lines: list[str], trouble: str
) -> None:
    driver.set(*lines)

    assert helper.look() == Sight((), trouble)


def test_a_driver_that_comes_is_seen(driver: FakeDriver, helper: Helper) -> None:
    driver.set("fail Init 9")
    helper.look()
    driver.set(*machine(gpu(0)))

    assert len(helper.look().gpus) == 1


@pytest.mark.parametrize("call", ["MemoryInfo", "HandleByIndex"])
def test_a_lost_gpu_leaves_the_others(driver: FakeDriver, helper: Helper, call: str) -> None:
    driver.set(*machine(gpu(0), gpu(1), gpu(2)), f"1 fail DeviceGet{call} 15")
    sight = helper.look()

    assert [seen.index for seen in sight.gpus] == [0, 2]
    assert sight.trouble == "1 of 3 do not answer (GPU 1: GPU is lost)"


def test_processes_are_told_once_with_the_most_that_any_list_says(driver: FakeDriver, helper: Helper) -> None:
    driver.set(*machine(gpu(0, computing="7:100 8:200", drawing="8:150 9:?", sharing="10:5")))
    (seen,) = helper.look().gpus

    held = {7: 100 * MIB, 8: 200 * MIB, 9: None, 10: 5 * MIB}
    assert seen.holders == tuple(Holder(pid, held_bytes) for pid, held_bytes in held.items())


def test_a_driver_that_names_no_process_says_so(driver: FakeDriver, helper: Helper) -> None:
    driver.set(*machine(gpu(0, computing=None, drawing=None, sharing=None)))
    (seen,) = helper.look().gpus

    assert seen.holders is None


def test_an_old_library_tells_what_it_can(old_driver: FakeDriver) -> None:
    old_driver.set(*machine(gpu(0, computing="7:100")))
    helper = Helper(old_driver.env)
    (seen,) = helper.look().gpus
    helper.close()

    assert (seen.used_bytes, seen.reserved_bytes) == (1536 * MIB, None)  # it counts what the driver keeps as used
    assert (seen.temperature_c, seen.holders) == (55, (Holder(7, 100 * MIB),))


def test_a_gpu_that_is_cut_up_is_told_as_its_parts(driver: FakeDriver, helper: Helper) -> None:
    part = ["uuid MIG-a", "name H100 MIG 1g.10gb", "total_mib 9728", "used_mib 100", "computing 7:90"]
    other = ["uuid MIG-b", "total_mib 19968", "used_mib 0", "computing "]
    lines = [*(f"0.0 {line}" for line in part), *(f"0.3 {line}" for line in other)]
    driver.set(*machine(gpu(0, mig=7), gpu(1)), *lines)
    first, second, whole = helper.look().gpus

    assert (first.name, first.uuid, first.part_of, first.index) == ("H100 MIG 1g.10gb", "MIG-a", "GPU-0", 0)
    assert (first.total_bytes, first.holders) == (9728 * MIB, (Holder(7, 90 * MIB),))
    assert (first.utilization, first.temperature_c, first.power_w) == (None, 55, 120)
    assert (second.name, second.index, second.total_bytes) == ("Pretend GPU 0 MIG", 3, 19968 * MIB)
    assert (whole.uuid, whole.part_of) == ("GPU-1", "")


@pytest.mark.parametrize("total_mib", [None, 0])
def test_a_gpu_without_memory_of_its_own_shares_the_machines(
    driver: FakeDriver, helper: Helper, total_mib: int | None
) -> None:
    driver.set(*machine(gpu(0, name="NVIDIA GB10", total_mib=total_mib, computing="7:100")))
    (seen,) = helper.look().gpus

    assert (seen.unified, seen.total_bytes, seen.used_bytes) == (True, None, None)
    assert seen.holders == (Holder(7, 100 * MIB),)


# --- the process ------------------------------------------------------------------------------------------------------


def test_a_reader_that_dies_is_told_and_the_next_look_has_a_new_one(driver: FakeDriver, helper: Helper) -> None:
    driver.set(*machine(gpu(0)))
    helper.look()
    assert helper.pid is not None
    os.kill(helper.pid, signal.SIGKILL)

    assert "the reader died" in helper.look().trouble
    assert len(helper.look().gpus) == 1


def test_a_call_that_never_comes_back_can_be_ended(driver: FakeDriver, helper: Helper) -> None:
    driver.set(*machine(gpu(0)), "hang DeviceGetPowerUsage")
    sights: list[Sight] = []
    asking = threading.Thread(target=lambda: sights.append(helper.look()))
    asking.start()
    until(lambda: helper.pid)
    helper.end()
    asking.join(30)
    driver.set(*machine(gpu(0)))

    assert "the reader died" in sights[0].trouble
    assert len(helper.look().gpus) == 1


def test_a_reader_ends_with_its_sidecar_even_if_the_driver_hangs(driver: FakeDriver) -> None:
    driver.set(*machine(gpu(0)), "hang DeviceGetCount")
    helper = Helper(driver.env)
    threading.Thread(target=helper.look, daemon=True).start()
    until(lambda: helper.pid)
    assert helper.pid is not None
    reader = psutil.Process(helper.pid)
    assert helper._process is not None
    assert helper._process.stdin is not None
    helper._process.stdin.close()  # as the kernel does when the sidecar dies

    reader.wait(30)
    helper.close()
    assert not reader.is_running()


def test_a_closed_helper_starts_nothing(driver: FakeDriver) -> None:
    helper = Helper(driver.env)
    helper.close()

    with pytest.raises(OSError, match="the sidecar ends"):
        helper.look()
