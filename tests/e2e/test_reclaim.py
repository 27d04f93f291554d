"""The owner of a machine gets its GPU back: work of models stops there, what was loaded leaves, nothing new comes."""

import subprocess
import sys
from pathlib import Path

from tests.e2e.test_progress import mesh, seven_parts
from tests.support.mesh import Mesh, until
from tests.support.mesh import mesh as plain_mesh
from tests.support.turns import Turns


def _agentcom(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "agentcom", *arguments], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _at(running: Mesh) -> list[str]:
    return ["--hub", running.url, "--token-file", str(running.data_dir / "admin.token")]


def test_a_machine_whose_owner_wants_the_gpu_back_stops_unloads_and_waits_to_be_given_back(tmp_path: Path) -> None:
    with Turns(holds={3}) as model, mesh(tmp_path, model, "One", lease_s=30.0) as running:
        task = running.submit(**seven_parts())
        until(lambda: 3 in model.asked, "turn 3 is asked for")
        loaded = len(model.server.memory.look())
        said = _agentcom("agents", "reclaim", "One", *_at(running))
        model.release()
        stopped = running.wait_state(task, "queued")
        until(lambda: not model.server.memory.look(), "the model has left")
        until(
            lambda: "gpu:reclaimed" in running.call("GET", "/api/v1/agents/One")["capabilities"], "the hub has heard it"
        )
        listed = _agentcom("agents", "ls", *_at(running))
        command = running.submit(command="echo no model needed")
        [done] = running.wait(command)
        why = running.call("GET", f"/api/v1/tasks/{task}/explain")["agents"][0]["reasons"]
        asked = list(model.asked)
        _agentcom("sidecar", "--state-dir", str(tmp_path / "state-One"), "give-back")
        [ended] = running.wait(task)
        kinds = [event["kind"] for event in running.events() if event["agent"] == "One" and event["task"] is None]

    assert loaded == 1
    assert "has its GPU back" in said
    assert (stopped["attempts"][0]["state"], stopped["retries_left"]) == ("cancelled", 3)
    assert "GPU taken back" in listed
    assert done["state"] == "completed"
    assert "taken the GPU back" in why[0]
    assert asked == [1, 2, 3]
    assert ended["state"] == "completed", ended["reason"]
    assert model.asked == [1, 2, 3, 4, 5, 6, 7, 8]
    assert "agent_reclaimed" in kinds


def test_a_command_that_was_placed_for_the_gpu_goes_back_to_the_queue_and_others_go_on(tmp_path: Path) -> None:
    with plain_mesh(tmp_path, "One", flags=["--slots", "2", "--capability", "gpu"], lease_s=30.0) as running:
        task, other = (running.submit(command="sleep 600", needs=needs) for needs in (["gpu"], []))
        for each in (task, other):
            running.wait_state(each, "running")
        _agentcom("agents", "reclaim", "One", *_at(running))
        stopped = running.wait_state(task, "queued")
        why = running.call("GET", f"/api/v1/tasks/{task}/explain")["agents"][0]["reasons"]
        beside = running.task(other)["state"]
        _agentcom("agents", "give-back", "One", *_at(running))
        again = running.wait_state(task, "running")
        for each in (task, other):
            running.call("POST", f"/api/v1/tasks/{each}/cancel")
        running.wait(task, other)

    assert (stopped["attempts"][0]["state"], stopped["retries_left"]) == ("cancelled", 3)
    assert "wants its GPU back" in stopped["attempts"][0]["reason"]
    assert "lacks 'gpu'" in why
    assert beside == "running"
    assert again["epoch"] == 2
