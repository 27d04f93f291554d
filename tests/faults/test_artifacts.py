"""T39: files of gigabytes, results of megabytes: they pass through, and memory does not grow with them."""

import hashlib
import time
import urllib.request
from pathlib import Path
from typing import Final

import pytest

from tests.support.mesh import Mesh, mesh, until

MIB: Final = 1 << 20
ROOM_MIB: Final = 64
"""By which a hub and a sidecar may grow, whatever passes through them."""


def peak_mib(pid: int) -> float:
    """The most memory that a process has held at one time."""
    (line,) = [each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def peaks(running: Mesh) -> dict[str, float]:
    """Those of the hub and of the sidecar."""
    assert running.hub is not None
    return {"hub": peak_mib(running.hub.pid), "sidecar": peak_mib(running.sidecars["One"].pid)}


def fetch(running: Mesh, artifact: str) -> str:
    """The digest of a file as it is downloaded."""
    headers = {"Authorization": f"Bearer {running.token()}"}
    asked = urllib.request.Request(f"{running.url}/api/v1/artifacts/{artifact}/download", headers=headers)  # noqa: S310 - loopback
    with urllib.request.urlopen(asked, timeout=120) as answer:  # noqa: S310 - loopback
        return hashlib.file_digest(answer, "sha256").hexdigest()


def pass_through(folder: Path, size_mib: int) -> None:
    with mesh(folder, "One") as running:
        running.wait(running.submit(command="echo x > x", artifacts=["x"]))  # what is imported once counts for nothing
        before = peaks(running)
        print_much = "head -c 50000000 /dev/zero | tr '\\0' '['"
        began = time.monotonic()
        task = running.submit(command=f"truncate -s {size_mib}M big; {print_much}", artifacts=["big"])
        (done,) = running.wait(task, timeout_s=600)
        took_s = time.monotonic() - began
        (kept,) = running.call("GET", f"/api/v1/tasks/{task}/artifacts")["artifacts"]
        fetched = fetch(running, kept["id"])
        after = peaks(running)

    grown = {name: round(after[name] - before[name], 1) for name in before}
    print(f"\n{size_mib} MiB up in {took_s:.1f} s, and down; grown by MiB: {grown}; at most MiB: {after}")
    assert done["state"] == "completed", done["reason"]
    assert kept["size_bytes"] == size_mib * MIB
    assert kept["sha256"] == fetched == hashlib.file_digest(_Zeros(size_mib * MIB), "sha256").hexdigest()  # type: ignore[arg-type]  # it reads like a file
    assert len(done["result"]["output"]) <= 64 << 10
    assert max(grown.values()) < ROOM_MIB


class _Zeros:
    """So many zeros, read like a file."""

    def __init__(self, size_bytes: int) -> None:
        self._left = size_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        count = min(len(buffer), self._left)
        buffer[:count] = bytes(count)
        self._left -= count
        return count


def test_t39_a_large_file_and_a_long_result_pass_without_memory_for_them(tmp_path: Path) -> None:
    pass_through(tmp_path, 160)


@pytest.mark.soak
def test_t39_soak_two_gigabytes_pass_without_memory_for_them(tmp_path: Path) -> None:
    pass_through(tmp_path, 2048)


def test_t39_an_upload_outlives_the_hub_that_took_it(tmp_path: Path) -> None:
    with mesh(tmp_path, "One", lease_s=30.0) as running:
        task = running.submit(command="head -c 100M /dev/urandom > big", artifacts=["big"])
        incoming = running.data_dir / "artifacts" / "incoming"
        until(lambda: incoming.is_dir() and any(incoming.iterdir()), "the file is on its way")
        running.kill(running.hub)
        running.start_hub()
        (done,) = running.wait(task)
        (kept,) = running.call("GET", f"/api/v1/tasks/{task}/artifacts")["artifacts"]

        assert (done["state"], len(done["attempts"])) == ("completed", 1)
        assert kept["size_bytes"] == 100 * MIB
        assert list(incoming.iterdir()) == []
