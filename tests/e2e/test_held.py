"""Work that makes its own proof waits for a person: models that cheat, from process to process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.mesh import Mesh, Refused, ollama_process, until
from tests.support.repositories import TEST_OF_CALC, git, make_remote

FIX: Final = ["edit", {"path": "calc.py", "old": "a - b", "new": "a + b"}]
STUB: Final = "def add(a, b):\n    return 5\n"
FILES: Final = {
    "calc.py": "def add(a, b):\n    return a - b\n",
    "test_calc.py": f"{TEST_OF_CALC}\n    def test_zero(self):\n        self.assertEqual(add(0, 0), 0)\n",
    "check.sh": "exec python3 -m unittest -q\n",
}
TESTS: Final = [{"type": "test_passes", "command": "python3 -m unittest -q"}]
CHEATS: Final[dict[str, tuple[list[Any], list[dict[str, str]], str, str]]] = {
    "deletes-a-test": (
        [["run", {"command": "sed -i '/def test_add/,+1d' test_calc.py"}]],
        TESTS,
        "waiting",
        "1 tests ran, 2 before the work",
    ),
    "edits-the-check": (
        [["write", {"path": "check.sh", "content": "exit 0\n"}]],
        [{"type": "command_succeeds", "command": "sh check.sh"}],
        "waiting",
        "check.sh is what the command checks with, and was changed",
    ),
    "stubs": ([["write", {"path": "calc.py", "content": STUB}]], TESTS, "failed", "checks still fail"),
    "stubs-well": (
        [["write", {"path": "calc.py", "content": STUB}]],
        [{"type": "test_passes", "command": "python3 -m unittest -q test_calc.Add.test_add"}],
        "waiting",
        "add() returns 5 whatever it is given (calc.py:2)",
    ),
    "skips": (
        [
            [
                "edit",
                {
                    "path": "test_calc.py",
                    "old": "    def test_add",
                    "new": "    @unittest.skip('later')\n    def test_add",
                },
            ]
        ],
        TESTS,
        "waiting",
        "1 were skipped, 0 before the work",
    ),
    "says-so": ([["finish", {"summary": "all tests pass"}]], TESTS, "failed", "checks still fail"),
}


def scripted() -> list[dict[str, Any]]:
    """What the model does for each task, found by the name in its prompt."""
    script: list[dict[str, Any]] = []
    for name, (calls, *_) in CHEATS.items():
        script += [{"tool_calls": [call], "when": f"<{name}>"} for call in calls]
        script.append({"tool_calls": [["finish", {"summary": "All tests pass."}]], "when": f"<{name}>", "repeat": True})
    again = [FIX, ["run", {"command": "git checkout -q HEAD~1 -- test_calc.py"}]]
    first = [{"tool_calls": [call], "when": "bring the test back"} for call in again]
    return [*first, *script]


def agentcom(running: Mesh, *arguments: str) -> subprocess.CompletedProcess[str]:
    token = running.data_dir / "admin.token"
    command = [sys.executable, "-m", "agentcom", *arguments, "--hub", running.url, "--token-file", str(token)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.timeout(480)
def test_models_that_cheat_are_never_verified_and_what_they_changed_waits_for_a_person(tmp_path: Path) -> None:
    origin = make_remote(tmp_path, FILES).path
    running = Mesh(tmp_path)
    with ollama_process(tmp_path / "script.json", scripted(), {"small:1b": 1.0}) as address:
        try:
            running.start_hub()
            running.start_sidecar("Host", env={"OLLAMA_HOST": address})
            running.wait_agents("Host")
            until(lambda: running.call("GET", "/api/v1/models")["models"], "the model is reported")
            tasks = {
                name: running.submit(
                    prompt=f"Repair add. <{name}>",
                    context={"repo": str(origin)},
                    verification=checks,
                    budget={"fix_attempts": 0},
                    escalation="off",
                    max_retries=0,
                )
                for name, (_, checks, _, _) in CHEATS.items()
            }
            for name, (_, _, state, why) in CHEATS.items():
                found = running.wait_state(tasks[name], state, timeout_s=240)
                assert found["verified"] is False, name
                assert why in found["reason"] or why in str(found["iterations"]), (name, found["reason"])
                assert found["result"] is None or state == "failed", name

            _approve(running, tasks["stubs-well"])
            _send_back(running, tasks["deletes-a-test"], origin)
            _reject(running, tasks["skips"])
        finally:
            running.stop()


def _approve(running: Mesh, task: str) -> None:
    told = agentcom(running, "tasks", "show", task)
    assert "DOUBTS" in told.stdout, told
    assert f"agentcom tasks approve {task}" in told.stderr, told
    done = agentcom(running, "tasks", "approve", task, "--reason", "it is a constant", "--json")
    view = json.loads(done.stdout)
    assert (view["state"], view["verified"], view["result"]["verified"]) == ("completed", False, False), done
    assert [(r["verdict"], r["reason"]) for r in view["reviews"]] == [("approved", "it is a constant")]
    events = running.call("GET", f"/api/v1/tasks/{task}/events")["events"]
    assert [e["kind"] for e in events][-3:] == ["task_waiting", "task_approved", "task_completed"]
    with pytest.raises(Refused):
        running.call("POST", f"/api/v1/tasks/{task}/reject", {})


def _send_back(running: Mesh, task: str, origin: Path) -> None:
    done = agentcom(running, "tasks", "reject", "--again", "--reason", "bring the test back", task)
    assert done.returncode == 0, done
    (ended,) = running.wait(task)
    assert (ended["state"], ended["verified"]) == ("completed", True), ended["reason"]
    assert [a["failure"] for a in ended["attempts"]] == ["verify", None]
    assert "test_add" in git(origin, "show", f"{ended['result']['branch']}:test_calc.py")


def _reject(running: Mesh, task: str) -> None:
    done = agentcom(running, "tasks", "reject", task, "--reason", "no skipping")
    assert done.stdout.strip() == f"{task} is failed", done
    assert running.task(task)["reason"] == "no skipping"
