from pathlib import Path

from agentcom.bench.probe import WRITES, disk, filesystem, fsync_ms


def test_the_cost_of_an_fsync_is_measured_and_leaves_nothing_behind(tmp_path: Path) -> None:
    found = fsync_ms(tmp_path)

    assert found.count == WRITES
    assert 0 < found.p50 <= found.max
    assert list(tmp_path.iterdir()) == []


def test_the_file_system_of_a_folder_is_that_of_its_nearest_mount() -> None:
    assert filesystem(Path("/proc/self")) == "proc"


def test_a_disk_in_memory_is_not_called_durable(tmp_path: Path) -> None:
    memory = Path("/dev/shm")

    assert disk(tmp_path, fsync_ms(tmp_path)).fsync_after_ms.count == WRITES
    if filesystem(memory) == "tmpfs":
        assert not disk(memory, fsync_ms(memory)).is_durable
