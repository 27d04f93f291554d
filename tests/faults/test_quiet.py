"""An hour of healthy work on real processes wakes nobody: no alert fires, by the rules that everybody has.

An hour of the real clock, or as many minutes as ``QUIET_MIN`` says. How near the figures came to what rules judge is
printed.
"""

import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.mesh import Mesh, mesh, ollama_process
from tests.support.repositories import CALC, Remote, make_remote

MINUTES = float(os.environ.get("QUIET_MIN", "60"))
EVERY_S = 2.0
LOOK_S = 10.0
ANSWER = {"text": "hello there", "repeat": True}
FIGURES = ("loop_lag_s", "store_log_bytes", "oldest_wait_s", "wait_s_p95", "total_s_p95", "tasks_queued", "host_cpu")


def varied(chance: random.Random, remote: Remote) -> dict[str, Any]:
    """Work as people have it: some without a trace, most with checks, and one in twenty fails and is made again."""
    kind = chance.choices(("noop", "shell", "repo", "chat", "fails"), (35, 30, 15, 15, 5))[0]
    if kind == "noop":
        return {"title": kind, "executor": "noop"}
    if kind == "fails":
        return {"title": kind, "command": "exit 3", "max_retries": 1}
    if kind == "shell":
        checks = [
            {"type": "file_exists", "path": "out.txt"},
            {"type": "command_succeeds", "command": "test -s out.txt"},
        ]
        return {"title": kind, "command": "sleep 1; date > out.txt", "verification": checks}
    if kind == "repo":
        return {
            "title": kind,
            "command": "sed -i 's/a - b/a + b/' calc.py",
            "context": {"repo": str(remote.path)},
            "verification": [{"type": "file_contains", "path": "calc.py", "text": "a + b"}],
        }
    check = {"type": "file_contains", "path": "hello.txt", "text": "hello"}
    return {"prompt": "Say hello.", "executor": "chat", "save_as": "hello.txt", "verification": [check]}


def work(running: Mesh, remote: Remote) -> dict[str, str]:
    """Submit steadily for as long as it lasts, and look; the kinds of the tasks by their ids."""
    chance, tasks = random.Random(1), dict[str, str]()
    began = looked = time.monotonic()
    while (now := time.monotonic()) - began < MINUTES * 60:
        spec = varied(chance, remote)
        tasks[running.submit(**spec)] = spec.get("title", "chat")
        if now - looked >= LOOK_S:
            looked = now
            assert running.call("GET", "/api/v1/alerts")["alerts"] == [], running.logs()
        time.sleep(max(0.0, EVERY_S - (time.monotonic() - now)))  # the load is so much an hour, not as much as goes
    return tasks


def told(running: Mesh) -> str:
    """The most of each figure that rules judge, or that says how hard it was."""
    found = running.call("GET", f"/api/v1/metrics?names={','.join(FIGURES)}")["series"]
    most = {each["name"]: max(value for _, value in each["points"] if value is not None) for each in found}
    return ", ".join(f"{name} {value:g}" for name, value in most.items())


@pytest.mark.soak
@pytest.mark.timeout(MINUTES * 60 + 900)
def test_soak_an_hour_of_healthy_work_raises_no_alert(tmp_path: Path) -> None:
    remote = make_remote(tmp_path, {"calc.py": CALC})
    with (
        ollama_process(tmp_path / "script.json", [ANSWER], {"tiny:1b": 1.0}) as address,
        mesh(tmp_path, heartbeat_s=10.0) as running,
    ):
        for name in ("One", "Two"):
            running.start_sidecar(name, "--slots", "2", "--host", name.lower(), env={"OLLAMA_HOST": address})
        running.wait_agents("One", "Two")
        tasks = work(running, remote)
        ended = {view["id"]: view["state"] for view in running.wait(*tasks, timeout_s=600)}
        alerts = running.call("GET", "/api/v1/alerts")["alerts"]
        fired = running.events("alert_fired")
        figures = told(running)

    print(f"\n{len(tasks)} tasks in {MINUTES:g} minutes: {dict(Counter(f'{tasks[t]} {s}' for t, s in ended.items()))}")
    print(f"at most: {figures}")
    assert {tasks[task] for task, state in ended.items() if state != "completed"} <= {"fails"}
    assert (alerts, fired) == ([], [])
