import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from sidecar.resources import HostProbe

ROOT = Path(__file__).parents[3]
MIB = 1 << 20
NOW = datetime(2026, 1, 1, tzinfo=UTC)

READ = """
import sys, msgspec
from pathlib import Path
from sidecar.resources import HostProbe
probe = HostProbe(Path("/"), our_pids=(lambda: [7, 8, 9]) if "ours" in sys.argv else None)
probe.read()
report = probe.read()
probe.close()
as_dict = msgspec.structs.asdict
print(msgspec.json.encode([as_dict(card) | as_dict(gauge) for card, gauge in zip(report.cards, report.gpus)]).decode())
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pretend driver in it."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("the pretend GPU driver needs Linux and a C compiler")
    folder = tmp_path_factory.mktemp("nvml")
    source, library = ROOT / "tests" / "support" / "nvml_stub.c", folder / "libnvidia-ml.so.1"
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o", str(library), str(source)]
    subprocess.run(command, check=True)
    return folder


def read(folder: Path, *arguments: str, **told: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The GPUs that a probe reports under the pretend driver, and what it logged."""
    env = dict(os.environ) | {"LD_LIBRARY_PATH": str(folder)} | {f"NVML_STUB_{key}": told[key] for key in told}
    command = [sys.executable, "-W", "error", "-c", READ, *arguments]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    *logged, gpus = done.stdout.splitlines()
    return json.loads(gpus), logged


def test_a_report_says_what_the_machine_has_and_uses(tmp_path: Path) -> None:
    report = HostProbe(tmp_path, now=lambda: NOW).read()

    assert 0 <= report.cpu_percent <= 100
    assert len(report.cores) == psutil.cpu_count()
    assert 0 < report.ram[1] < report.ram[0] == psutil.virtual_memory().total
    assert report.disk is not None
    assert 0 < report.disk[1] <= report.disk[0] == psutil.disk_usage(str(tmp_path)).total
    assert report.at == NOW


def test_the_load_is_that_since_the_last_reading(tmp_path: Path) -> None:
    probe = HostProbe(tmp_path)
    begun = sum(os.times()[:2])
    while sum(os.times()[:2]) - begun < 0.2:
        pass

    assert probe.read().cpu_percent > 0


def test_a_state_directory_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        HostProbe(tmp_path / "gone").read()


def test_a_machine_without_a_driver_reports_no_gpu(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")
    gpus, logged = read(tmp_path)

    assert gpus == []
    assert len(logged) == 1  # once, not at every reading


def test_every_gpu_is_reported_with_its_metrics(driver: Path) -> None:
    gpus, logged = read(driver, GPUS="2", USED_MIB="2048", LOAD="99", HEAT_C="71", POWER_MW="310250")

    assert [gpu["name"] for gpu in gpus] == ["Pretend GPU 0", "Pretend GPU 1"]
    told = {"vram_total_bytes", "used_bytes", "ours_bytes", "utilization", "temperature_c", "power_w"}
    assert {name: gpus[0][name] for name in told} == {
        "vram_total_bytes": 24576 * MIB,
        "used_bytes": 2048 * MIB,
        "ours_bytes": None,
        "utilization": 99,
        "temperature_c": 71,
        "power_w": 310,
    }
    assert len(logged) == 1
    assert "2 GPUs" in logged[0]


@pytest.mark.parametrize(
    "function, metric",
    [
        ("load", "utilization"),
        ("heat", "temperature_c"),
        ("power", "power_w"),
        ("memory", "vram_total_bytes"),
    ],
)
@pytest.mark.parametrize("code", [3, 4, 999])
def test_a_metric_that_fails_costs_no_other(driver: Path, function: str, metric: str, code: int) -> None:
    (gpu,), _ = read(driver, FAIL=f"{function}={code}")

    assert gpu[metric] is None


def test_a_gpu_without_a_name_is_still_one(driver: Path) -> None:
    assert read(driver, FAIL="name=3")[0][0]["name"] == "NVIDIA GPU"


@pytest.mark.parametrize("fail", ["init=9", "init=999", "count=1", "handle=15", "memory=15", "memory=1", "handle=3"])
def test_a_driver_that_is_not_there_or_a_gpu_that_is_lost_is_no_gpu(driver: Path, fail: str) -> None:
    assert read(driver, FAIL=fail)[0] == []


def test_a_lost_gpu_leaves_the_others(driver: Path) -> None:
    gpus, logged = read(driver, GPUS="3", FAIL="memory_of_second=15")

    assert [gpu["name"] for gpu in gpus] == ["Pretend GPU 0", "Pretend GPU 2"]
    assert len(logged) == 1
    assert "1 of 3 GPUs do not answer" in logged[0]


def test_memory_of_our_processes_is_ours(driver: Path) -> None:
    (gpu,), _ = read(driver, "ours", PROCESSES="7:100;1:5000;8:200")

    assert gpu["ours_bytes"] == 300 * MIB


def test_processes_that_the_driver_does_not_tell_are_unknown(driver: Path) -> None:
    (gpu,), _ = read(driver, "ours", FAIL="processes=3")

    assert gpu["ours_bytes"] is None
