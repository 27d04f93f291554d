"""Pull requests, end to end: real processes, a forge that keeps state, hubs that are killed, and a person's copy."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forge_server import ForgeServer, forge_server
from tests.support.git_server import PASSWORD
from tests.support.mesh import Mesh, mesh, until
from tests.support.repositories import CALC, TEST_OF_CALC, git

pytestmark = pytest.mark.timeout(300)  # many commands, each a process: what a busy machine needs
TESTS = {"type": "test_passes", "command": "python3 -m unittest"}
RIGHT = CALC.replace("a - b", "a + b")


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[ForgeServer]:
    (tmp_path / "forge").mkdir()
    with forge_server(tmp_path / "forge") as running:
        running.git.remote.commit({"calc.py": CALC, "test_calc.py": TEST_OF_CALC}, "A mistake")
        yield running
        assert running.bad == []


@pytest.fixture
def running(tmp_path: Path, forge: ForgeServer) -> Iterator[Mesh]:
    env = {"AGENTCOM_GIT_CA_FILE": str(forge.git.ca_file)}
    with mesh(tmp_path / "mesh", "One", lease_s=30.0, heartbeat_s=2.0, hub_env=env) as found:
        rules = {"forge": "forgejo", "merge": "safe"}
        project = {"name": "calc", "repository": forge.address, "pulls": rules, "defaults": {"verification": [TESTS]}}
        found.call("POST", "/api/v1/projects", project)
        yield found


def cli(running: Mesh, folder: Path, *words: str, wanted: int = 0) -> str:
    """What a command says in a folder."""
    where = ["--hub", running.url, "--token-file", str(running.data_dir / "admin.token")]
    command = [sys.executable, "-m", "agentcom", *words, *where]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False, env={**os.environ}
    )
    assert done.returncode == wanted, done.stdout + done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_hub_that_is_killed_in_every_step_opens_and_merges_one_request(running: Mesh, forge: ForgeServer) -> None:
    for where in ("POST", "PATCH", "/merge"):
        forge.cut(where, is_after=True, then=lambda: running.kill(running.hub))
    task = running.submit(project="calc", command="sed -i 's/a - b/a + b/' calc.py", title="Mend add")
    for _ in range(3):
        hub = running.hub
        assert hub is not None
        until(lambda hub=hub: hub.poll() is not None, "the hub is dead")
        running.start_hub()
    until(lambda: (running.task(task)["pull"] or {}).get("state") == "merged", "it is merged")
    told = [event["kind"] for event in running.events() if event["kind"].startswith("pull_")]

    assert [(pull.title, pull.is_merged) for pull in forge.pulls] == [("Mend add", True)]
    assert forge.git.remote.show("main", "calc.py") == RIGHT.strip()
    assert "verified: all checks passed" in forge.pulls[0].body
    assert told == ["pull_opened", "pull_merged"]
    assert PASSWORD not in running.logs() + json.dumps(running.events())


def test_a_person_starts_submits_and_sees_it_offered(running: Mesh, forge: ForgeServer, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "--quiet", str(forge.git.remote.path), str(copy))
    for name, value in (("user.name", "Ann"), ("user.email", "ann@example.org")):
        git(copy, "config", name, value)
    nobody = cli(running, copy, "git", "start", "Mend add()!", wanted=2)
    begun = json.loads(cli(running, copy, "git", "start", "Mend add()!", "--project", "calc", "--json"))
    nothing = cli(running, copy, "git", "submit", wanted=2)
    (copy / "calc.py").write_text(RIGHT.replace("def", "# better\ndef"))
    unclean = cli(running, copy, "git", "submit", wanted=2)
    git(copy, "commit", "--quiet", "--all", "--message", "Add, do not subtract")
    cli(running, copy, "git", "submit", "--wait")
    shown = json.loads(cli(running, copy, "git", "status", "--json"))
    again = json.loads(cli(running, copy, "git", "submit", "--json"))

    assert "name one with --project: calc" in nobody
    assert begun == {"branch": "work/ann/mend-add", "project": "calc", "into": "main"}
    assert "has no commit" in nothing
    assert "1 files have changes" in unclean
    (pull,) = forge.pulls
    assert (pull.head, pull.base, pull.title) == ("work/ann/mend-add", "main", "Mend add()!")
    assert pull.is_merged
    assert shown["pull"]["state"] == "merged"
    assert shown["task"]["verified"] is True
    assert (shown["ahead"], shown["is_pushed"], shown["changes"]) == (1, True, [])
    assert again["id"] == shown["task"]["id"], "the same commit is submitted once"


def test_what_a_person_has_made_worse_is_not_offered(running: Mesh, forge: ForgeServer, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "--quiet", str(forge.git.remote.path), str(copy))
    cli(running, copy, "git", "start", "Worse", "--project", "calc")
    (copy / "calc.py").write_text("def add(a, b):\n    return 0\n")
    git(copy, "commit", "--quiet", "--all", "--message", "Worse")
    said = cli(running, copy, "git", "submit", "--wait", wanted=1)

    assert "is failed" in said
    assert forge.pulls == []
