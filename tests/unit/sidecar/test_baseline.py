"""What a test command said before the work is compared, or it is known why it is not."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from protocol.model import AttemptId, Context, TaskSpec
from sidecar.baseline import Baselines, _unpack
from sidecar.core.coverage import Coverage
from sidecar.core.tallies import Tally
from sidecar.environment import minimal_env
from sidecar.process import Processes
from sidecar.sandbox.cell import Level, Sandbox
from sidecar.sandbox.policy import Rules
from sidecar.workspace import Workspaces
from tests.support.repositories import make_remote

ATTEMPT = AttemptId("sidecar", 1, "01j0000000000000000000000a", 1)


async def test_a_base_whose_time_was_up_is_no_base_that_says_nothing(tmp_path: Path) -> None:
    processes = Processes(base_env=minimal_env(os.environ, home=tmp_path), grace_s=0.2)
    workspaces = Workspaces(tmp_path / "state", processes)
    baselines = Baselines(workspaces, Sandbox(processes, tmp_path, Rules(), Level.UNSAFE))
    spec = TaskSpec(title="x", context=Context(repo=str(make_remote(tmp_path, {"a": "x"}).path)))
    work, room = await workspaces.open(ATTEMPT, spec, "agent"), tmp_path / "room"
    room.mkdir()
    go = tmp_path / "go"
    command = f"test -e {go} || sleep 600; echo '2 passed in 0.1s'"

    with pytest.raises(TimeoutError):
        await baselines.before(work, room, command, 0.3)
    go.touch()
    with pytest.raises(TimeoutError, match=r"takes longer than 0\.3 s"):
        await baselines.before(work, room, command, 0.3)
    assert await baselines.before(work, room, command, 60.0) == Tally("pytest", 2)
    assert await baselines.before(work, room, command, 0.3) == Tally("pytest", 2)
    assert await baselines.before(work, room, "true", 60.0) is None
    assert await baselines.covered(work, room, "echo 'TOTAL 9 1 90%'", "", 60.0) == Coverage(90.0)
    writes = "printf 'LF:4\nLH:1\n' > lcov.info; echo 'TOTAL 9 1 90%'"
    assert await baselines.covered(work, room, writes, "lcov.info", 60.0) == Coverage(25.0, 4)
    assert await baselines.covered(work, room, writes, "other.info", 60.0) is None


@pytest.mark.parametrize(
    "entries",
    [
        [("../out", b"x", "")],
        [("/out", b"x", "")],
        [("a", b"", ".."), ("a/out", b"x", "")],
        [("a", b"", "/etc")],
        [("b", b"", "a"), ("a", b"", "..")],
    ],
)
def test_an_archive_that_leads_out_of_its_folder_is_refused(
    tmp_path: Path, entries: list[tuple[str, bytes, str]]
) -> None:
    archive, folder = tmp_path / "a.tar", tmp_path / "in" / "tree"
    with tarfile.open(archive, "w") as packed:
        for name, data, link in entries:
            entry = tarfile.TarInfo(name)
            entry.size, entry.linkname = len(data), link
            entry.type = tarfile.SYMTYPE if link else tarfile.REGTYPE
            packed.addfile(entry, io.BytesIO(data))

    with pytest.raises((tarfile.TarError, OSError)):
        _unpack(archive, folder)
    assert sorted(each.name for each in (tmp_path / "in").iterdir()) == ["tree"]
    assert not (tmp_path / "out").exists()
