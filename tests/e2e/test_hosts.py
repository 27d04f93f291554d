"""Machines, end to end: a real sidecar with NVIDIA's library before it, though there is no GPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.mesh import Mesh, until, work_of
from tests.support.nvml import MIB, FakeDriver, gpu, machine

STRANGER = 2**22 + 1
"""No process of this machine: the kernel counts no further by default."""


def until_host(running: Mesh, fact: Callable[[dict[str, Any]], Any], what: str) -> dict[str, Any]:
    """Wait until a fact about the one machine is so; the machine."""
    found: dict[str, Any] = {}

    def look() -> object:
        found.clear()
        found.update(running.call("GET", "/api/v1/hosts")["hosts"][0])
        return fact(found)

    until(look, what)
    return found


def test_gpus_are_seen_from_the_driver_to_the_api_and_outlast_the_hub(tmp_path: Path) -> None:
    driver = FakeDriver(tmp_path / "nvml")
    driver.set(*machine(gpu(0, used_mib=6000), gpu(1)))
    running = Mesh(tmp_path)
    try:
        running.start_hub()
        running.start_sidecar("One", env=driver.env)
        running.wait_agents("One")
        first = until_host(running, lambda host: host["gpus"], "the GPUs are reported")
        until(
            lambda: "gpu" in running.call("GET", "/api/v1/agents")["agents"][0]["capabilities"],
            "the agent says that it has a GPU",
        )

        # A process of an attempt is told from a stranger's.
        task = running.submit(command="exec sleep 60")
        working: list[int] = []
        until(
            lambda: working.extend(each.pid for each in work_of(task) if each.name() == "sleep") or working, "it works"
        )
        pid = working[0]
        driver.set(*machine(gpu(0, used_mib=6000, computing=f"{pid}:300 {STRANGER}:5000"), gpu(1)))
        held = until_host(running, lambda host: host["gpus"][0]["processes"], "who holds the memory is reported")
        running.call("POST", f"/api/v1/tasks/{task}/cancel")

        # A GPU that is lost, and a driver that hangs, cost their own figures.
        driver.set(*machine(gpu(0), gpu(1)), "1 fail DeviceGetMemoryInfo 15", "hang DeviceGetUtilizationRates")
        hung = until_host(running, lambda host: "has not answered" in host["notes"].get("nvidia", ""), "that is told")
        again = until_host(
            running,
            lambda host: host["at"] > hung["at"] and {card["vram_used_bytes"] for card in host["gpus"]} == {None},
            "the machine goes on reporting",
        )

        running.sidecars["One"].terminate()
        running.sidecars["One"].wait(30)
        running.wait_agents("One", state="offline")
        assert running.hub is not None
        running.hub.terminate()
        running.hub.wait(30)
        running.start_hub()
        kept = running.call("GET", "/api/v1/hosts")["hosts"][0]
        hour = running.call("GET", f"/api/v1/hosts/{kept['name']}/history?span=hour")
    finally:
        running.stop()

    assert [card["name"] for card in first["gpus"]] == ["Pretend GPU 0", "Pretend GPU 1"]
    assert (first["gpus"][0]["driver"], first["gpus"][0]["vram_used_bytes"]) == ("580.95.05", 6000 * MIB)
    assert len(first["cpu"]["per_core"]) == first["cpu"]["cores"]
    assert first["notes"] == {}
    owners = {each["pid"]: (each["owner"], each["vram_bytes"], each["name"]) for each in held["gpus"][0]["processes"]}
    assert owners == {pid: ("work", 300 * MIB, "sleep"), STRANGER: ("other", 5000 * MIB, "")}
    assert (held["gpus"][0]["vram_ours_bytes"], held["gpus"][0]["vram_foreign_bytes"]) == (300 * MIB, 5000 * MIB)
    assert "the driver has not answered" in hung["notes"]["nvidia"]
    assert [card["vram_used_bytes"] for card in again["gpus"]] == [None, None]
    assert again["cpu"]["percent"] is not None
    assert not kept["online"]
    assert kept["at"] >= again["at"]  # the last that it said, not the first that was seen
    assert [card["uuid"] for card in kept["gpus"]] == ["GPU-0", "GPU-1"]
    assert {"cpu_percent", "utilization"} <= {series["metric"] for series in hour["series"]}
