"""Files that tasks leave, end to end: real processes, named by the task, fetched by the command line."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mesh import Mesh, mesh

WORK = (
    "mkdir -p dist deep/er && echo one > dist/a.txt && echo two > dist/b.bin && echo x > deep/er/c.log"
    " && ln -s /etc/passwd dist/link.txt"
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with mesh(tmp_path_factory.mktemp("mesh"), "One") as found:
        yield found


def cli(running: Mesh, *words: str) -> subprocess.CompletedProcess[str]:
    where = ["--hub", running.url, "--token-file", str(running.data_dir / "admin.token")]
    command = [sys.executable, "-m", "agentcom", *words, *where]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ})


def test_files_that_a_task_names_can_be_listed_and_fetched(running: Mesh, tmp_path: Path) -> None:
    task = running.submit(command=WORK, artifacts=["dist/*", "**/*.log", "missing.txt", "deep"])
    (done,) = running.wait(task)

    listed = json.loads(cli(running, "artifacts", "ls", task, "--json").stdout)["artifacts"]
    fetched = cli(running, "artifacts", "get", task, "--to", str(tmp_path))

    assert json.loads(cli(running, "tasks", "artifacts", task, "--json").stdout)["artifacts"] == listed
    assert done["state"] == "completed", done
    assert [(a["path"], a["size_bytes"], a["accepted"]) for a in listed] == [
        ("deep/er/c.log", 2, True),
        ("dist/a.txt", 4, True),
        ("dist/b.bin", 4, True),
    ]
    assert {a["id"] for a in done["result"]["artifacts"]} == {a["id"] for a in listed}
    assert listed[1]["sha256"] == hashlib.sha256(b"one\n").hexdigest()
    assert fetched.returncode == 0, fetched.stderr
    assert (tmp_path / "dist" / "a.txt").read_text() == "one\n"
    assert (tmp_path / "deep" / "er" / "c.log").read_text() == "x\n"
    assert not (tmp_path / "dist" / "link.txt").exists()  # a link is nobody's file
    output = "".join(piece["text"] for piece in running.call("GET", f"/api/v1/tasks/{task}/logs")["logs"])
    assert "artifact 'missing.txt' is not there" in output


def test_files_of_work_that_failed_are_kept_too(running: Mesh) -> None:
    task = running.submit(command="echo why > report.txt; exit 3", artifacts=["report.txt"], max_retries=0)
    (done,) = running.wait(task)

    (kept,) = running.call("GET", f"/api/v1/tasks/{task}/artifacts")["artifacts"]

    assert done["state"] in {"failed", "dead"}
    assert (kept["path"], kept["accepted"]) == ("report.txt", True)


def test_what_is_fetched_is_not_overwritten_and_not_mixed_up(running: Mesh, tmp_path: Path) -> None:
    task = running.submit(command="echo new > a.txt", artifacts=["a.txt"])
    running.wait(task)
    (tmp_path / "a.txt").write_text("mine")

    refused = cli(running, "artifacts", "get", task, "--to", str(tmp_path))
    missing = cli(running, "artifacts", "get", task, "b.txt", "--to", str(tmp_path))
    forced = cli(running, "artifacts", "get", task, "--to", str(tmp_path), "--force")

    assert refused.returncode == 2, refused.stderr
    assert missing.returncode == 2, missing.stderr
    assert "b.txt" in missing.stderr
    assert forced.returncode == 0, forced.stderr
    assert (tmp_path / "a.txt").read_text() == "new\n"
