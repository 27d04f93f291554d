"""The promise: what the kernel counts is read in both versions of control groups, and its absence is no error."""

from pathlib import Path

import pytest

from sidecar.cgroups import Counted, Counters, groups_of


def made(folder: Path, membership: str, files: dict[str, str]) -> Counters:
    (folder / "membership").write_text(membership)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return Counters(groups_of(folder / "membership", folder).values())


def test_version_one_counts_by_controller(tmp_path: Path) -> None:
    files = {
        "memory/a/b/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        "pids/a/pids.events": "max 7\n",
    }
    counters = made(tmp_path, "9:name=systemd:/\n4:memory:/a/b\n8:pids:/a\n0::/\n", files)

    assert counters.read() == Counted(3, 7)
    (tmp_path / "pids/a/pids.events").write_text("max 9\n")
    assert counters.read() == Counted(3, 9)


def test_version_two_counts_in_one_place(tmp_path: Path) -> None:
    files = {"user.slice/memory.events": "low 0\noom 2\noom_kill 1\n", "user.slice/pids.events": "max 4\n"}

    assert made(tmp_path, "0::/user.slice\n", files).read() == Counted(1, 4)


@pytest.mark.parametrize("membership", ["", "0::/nowhere\n", "rubbish\n", "4:memory\n"])
def test_where_nothing_counts_nothing_is_counted(tmp_path: Path, membership: str) -> None:
    assert made(tmp_path, membership, {}).read() == Counted()
    assert groups_of(tmp_path / "none", tmp_path) == {}
    assert Counters([tmp_path / "none"]).read() == Counted()


def test_a_group_that_is_gone_counts_nothing(tmp_path: Path) -> None:
    counters = made(tmp_path, "0::/x\n", {"x/memory.events": "oom_kill 1\n"})
    (tmp_path / "x/memory.events").unlink()

    assert counters.read() == Counted()
