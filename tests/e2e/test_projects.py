"""Projects, end to end: real processes, a server of repositories that wants a password, and the command line."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.git_server import PASSWORD, GitServer, git_server
from tests.support.mesh import Mesh, mesh, ollama_process, until
from tests.support.repositories import make_remote


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("projects")
    (folder / "open").mkdir()
    (folder / "server").mkdir()
    return folder


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[GitServer]:
    with git_server(place / "server") as running:
        yield running


@pytest.fixture(scope="module")
def running(place: Path, server: GitServer) -> Iterator[Mesh]:
    flags = ("--project-root", str(place / "open"))
    env = {"AGENTCOM_GIT_CA_FILE": str(server.ca_file)}
    with mesh(place / "mesh", "One", hub_flags=flags, hub_env=env) as found:
        yield found


def cli(running: Mesh, *words: str, stdin: str = "", wanted: int = 0) -> str:
    """What a command says on stdout."""
    where = ["--hub", running.url, "--token-file", str(running.data_dir / "admin.token")]
    command = [sys.executable, "-m", "agentcom", *words, *where]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ}, input=stdin
    )
    assert done.returncode == wanted, done.stdout + done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    return done.stdout if wanted == 0 else done.stderr


def test_work_is_pushed_to_a_server_whose_password_only_the_hub_has(
    running: Mesh, server: GitServer, place: Path
) -> None:
    cli(running, "projects", "add", "site", server.with_login())
    server.asked.clear()
    task = running.submit(project="site", command="cat README.md > copy && env > env.txt", title="Copy it")
    (done,) = running.wait(task)
    output = "".join(piece["text"] for piece in running.call("GET", f"/api/v1/tasks/{task}/logs")["logs"])

    assert done["state"] == "completed", done
    assert done["result"]["pushed"]
    assert server.remote.tip(done["result"]["branch"]) == done["result"]["commit"]
    assert server.remote.show(done["result"]["branch"], "copy") == "# A project"
    assert "GIT_CONFIG" not in server.remote.show(done["result"]["branch"], "env.txt")
    told = json.dumps(done) + json.dumps(running.events()) + output + running.logs()
    assert PASSWORD not in told
    assert "Bearer" not in told
    kept = [path for path in place.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert {path.parent.name for path in kept} == {"logins"}, "the hub's file, and nothing of the sidecar"
    assert {is_known for _, _, is_known in server.asked} == {True}, "only the hub has asked it"


def test_a_password_that_the_server_does_not_take_fails_the_work_and_says_so(running: Mesh, server: GitServer) -> None:
    wrong = server.with_login().replace(PASSWORD, "wrong-pass-77")
    cli(running, "projects", "add", "wrong", wrong)
    task = running.submit(project="wrong", command="true", max_retries=0)
    until(lambda: any(attempt["reason"] for attempt in running.task(task)["attempts"]), "an attempt has ended")
    running.call("POST", f"/api/v1/tasks/{task}/cancel")
    (done,) = running.wait(task)

    assert "refuses this host" in done["attempts"][0]["reason"]
    assert "wrong-pass-77" not in json.dumps(done) + json.dumps(running.events()) + running.logs()
    assert server.asked[-1][2] is False


def test_a_project_goes_from_the_command_line_to_its_remote(running: Mesh, place: Path) -> None:
    remote = make_remote(place / "open", {"src/a.py": "print(1)\n", "old.txt": "x"})

    def told(*words: str, stdin: str = "") -> dict[str, object]:
        found: dict[str, object] = json.loads(cli(running, "projects", *words, "--json", stdin=stdin))
        return found

    added = told("add", "tool", str(remote.path), "--branch", "main", "--priority", "high", "--description", "A tool")
    assert (added["name"], added["priority"], added["version"]) == ("tool", "high", 1)
    assert "tool" in cli(running, "projects", "ls")
    assert "not here yet" in cli(running, "projects", "show", "tool")
    cloned = told("clone", "tool")
    assert (cloned["branch"], cloned["unpushed"]) == ("main", 0)
    assert "a.py" in cli(running, "projects", "files", "tool", "src")
    assert cli(running, "projects", "cat", "tool", "src/a.py") == "print(1)\n"

    told("branch", "tool", "feature/b")
    assert told("checkout", "tool", "feature/b")["branch"] == "feature/b"
    cli(running, "projects", "put", "tool", "src/b.py", stdin="print(2)\n")
    cli(running, "projects", "del", "tool", "old.txt")
    assert "src/b.py" in cli(running, "projects", "status", "tool")
    told("stage", "tool")
    made = told("commit", "tool", "-m", "Add b, remove old", "--author", "A B <a@example.org>")
    assert made["files"] == ["old.txt", "src/b.py"]
    assert cli(running, "projects", "rm", "tool", wanted=2).startswith("error: project tool: 1 commits")
    pushed = told("push", "tool")

    assert pushed["commit"] == made["commit"] == remote.tip("feature/b")
    assert remote.show("feature/b", "src/b.py") == "print(2)"
    assert told("set", "tool", "--branch", "feature/b")["version"] == 2
    task = json.loads(cli(running, "submit", "--shell", "python3 src/b.py", "--project", "tool", "--wait", "--json"))
    assert task["result"]["output"] == "2\n"
    cli(running, "projects", "put", "tool", "../out", wanted=2, stdin="x")
    cli(running, "projects", "rm", "tool")
    cli(running, "projects", "show", "tool", wanted=2)


def test_an_agent_uses_git_by_its_tools_and_pushes_where_the_task_allows_it(
    running: Mesh, server: GitServer, place: Path
) -> None:
    calls = [
        ["git_branch", {"name": "work"}],
        ["write", {"path": "by-agent.txt", "content": "hello\n"}],
        ["git_add", {"paths": ["by-agent.txt"]}],
        ["git_commit", {"message": "Add a greeting"}],
        ["git_push", {}],
        ["git_status", {}],
        ["finish", {"summary": "committed and pushed"}],
    ]
    script = [{"tool_calls": [call]} for call in calls]
    with ollama_process(place / "script.json", script, {"qwen3:8b": 5.0}) as address:
        running.start_sidecar("Two", env={"OLLAMA_HOST": address})
        running.wait_agents("Two")
        cli(running, "projects", "add", "greeting", server.with_login())
        task = running.submit(
            project="greeting", prompt="Say hello", executor="agent", model="qwen3:8b", needs=["push"],
            verification=[{"type": "file_exists", "path": "by-agent.txt"}],
        )  # fmt: skip
        (done,) = running.wait(task)
    branch, output = done["result"]["branch"], done["result"]["output"]

    assert (done["state"], done["result"]["verified"]) == ("completed", True), done
    assert "> git_push {}\n  agentcom/" in output
    assert "branch: work" in output
    assert server.remote.show(branch, "by-agent.txt") == "hello"
    assert server.remote.tip(branch) == done["result"]["commit"]
    assert "work" not in server.remote.branches()
    assert PASSWORD not in json.dumps(done) + running.logs()
