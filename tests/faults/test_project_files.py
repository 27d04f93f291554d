"""Files of projects on a disk that fails: what was answered stays, and a full disk is nobody's bad input."""

import subprocess
import sys
from pathlib import Path

import pytest

from protocol.errors import StorageFull
from tests.support.bad_disk import BadDisk

_WRITE = """
import sys
from pathlib import Path
from protocol.errors import AgentComError
from protocol.tree import Tree
try:
    Tree(Path(sys.argv[1])).write_bytes("a/b", b"new", lasting=True)
except (AgentComError, OSError) as exc:
    print(type(exc).__name__, exc)
"""


def _write(folder: Path, disk: BadDisk) -> str:
    command = [sys.executable, "-c", _WRITE, str(folder)]
    done = subprocess.run(command, env=disk.env, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


@pytest.mark.parametrize("call", ["write", "sync"])
def test_a_full_disk_is_said_to_be_full_and_the_old_file_stays(tmp_path: Path, call: str) -> None:
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    (tree / "a" / "b").write_text("old")
    disk = BadDisk(tmp_path / "disk", "/tree/a")
    disk.arm("ENOSPC", calls=[call])
    said = _write(tree, disk)

    assert said == f"{StorageFull.__name__} 'a/b' was not written: No space left on device"
    assert {path.name: path.read_text() for path in (tree / "a").iterdir()} == {"b": "old"}


def test_a_file_and_its_name_are_on_the_disk_before_that_is_answered(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    disk = BadDisk(tmp_path / "disk", str(tree))  # not tree.pyc as well
    disk.mend()
    said = _write(tree, disk)
    calls = [call.kind for call in disk.seen()]

    assert said == ""
    assert (tree / "a" / "b").read_text() == "new"
    assert calls == ["sync", "write", "sync", "sync"]
