"""The promise: each attempt gets a control group with its limits, in both versions, and no group is left behind.

The directories here only stand for the kernel's: what the kernel does with them is tried in
``tests/integration/test_limits.py``, with the version that the machine has.
"""

import os
from pathlib import Path

from sidecar.sandbox.groups import Groups
from sidecar.sandbox.policy import Limits

LIMITS = Limits(memory_bytes=1 << 30, processes=100, cpus=1.5)


def test_version_one_has_a_directory_for_each_controller(tmp_path: Path) -> None:
    for controller in ("memory", "pids"):
        (tmp_path / controller / "box").mkdir(parents=True)
    (tmp_path / "membership").write_text("4:memory:/box\n8:pids:/box\n9:name=systemd:/\n0::/\n")
    groups = Groups(LIMITS, tmp_path / "membership", tmp_path)
    groups._parents = {name: tmp_path / name / "box" for name in ("memory", "pids")}

    assert list(groups._settings("memory")) == [
        ("memory.limit_in_bytes", "1073741824", True),
        ("memory.memsw.limit_in_bytes", "1073741824", False),
    ]
    assert list(groups._settings("pids")) == [("pids.max", "100", True)]


def test_version_two_has_one_directory(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    groups = Groups(LIMITS, tmp_path / "none", tmp_path)
    groups._parents = dict.fromkeys(("memory", "pids", "cpu"), tmp_path)

    written = {file: value for name in groups._parents for file, value, _ in groups._settings(name)}
    assert written == {
        "memory.max": "1073741824",
        "memory.swap.max": "0",
        "pids.max": "100",
        "cpu.max": "150000 100000",
    }


def test_a_group_of_version_two_that_cannot_be_divided_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "cgroup.controllers").write_text("memory pids\n")
    (tmp_path / "membership").write_text("0::/box\n")
    groups = Groups(LIMITS, tmp_path / "membership", tmp_path)

    assert not groups.find()
    assert [path.name for path in (tmp_path / "box").iterdir()] == ["cgroup.controllers"]


def test_without_groups_there_is_nothing_to_divide(tmp_path: Path) -> None:
    assert not Groups(LIMITS, tmp_path / "none", tmp_path).find()


def test_groups_of_sidecars_that_are_no_more_are_removed(tmp_path: Path) -> None:
    (tmp_path / "pids" / "box").mkdir(parents=True)
    (tmp_path / "membership").write_text("8:pids:/box\n")
    dead, alive = (tmp_path / "pids" / "box" / f"agentcom-{pid}-7" for pid in (2**22 + 7, os.getppid()))
    dead.mkdir()
    alive.mkdir()
    Groups(LIMITS, tmp_path / "membership", tmp_path).find()

    assert not dead.exists()
    assert alive.exists()
