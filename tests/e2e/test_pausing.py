"""Work that people hold up stops at the end of a turn, waits over any crash, and goes on where it was."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_progress import mesh, seven_parts
from tests.support.mesh import Mesh, Refused, until
from tests.support.repositories import git, make_remote
from tests.support.turns import Turns


def _agentcom(running: Mesh, *arguments: str) -> str:
    command = [sys.executable, "-m", "agentcom", *arguments, "--hub", running.url]
    token = str(running.data_dir / "admin.token")
    done = subprocess.run([*command, "--token-file", token], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_paused_work_stops_after_its_turn_and_goes_on_elsewhere_even_after_a_crash_of_the_hub(tmp_path: Path) -> None:
    with Turns(holds={3}) as model, mesh(tmp_path, model, "One", "Two", lease_s=30.0) as running:
        task = running.submit(**seven_parts())
        until(lambda: 3 in model.asked, "turn 3 is asked for")
        said = _agentcom(running, "tasks", "pause", task, "--reason", "lunch")
        at_work = running.task(task)
        running.kill(running.hub)
        running.start_hub()
        model.release()
        paused = running.wait_state(task, "waiting")
        again = running.call("POST", f"/api/v1/tasks/{task}/pause", {"reason": "still"})
        running.wait_agents("One", "Two")
        running.call("POST", f"/api/v1/agents/{paused['attempts'][-1]['agent']}/drain")
        resumed = _agentcom(running, "tasks", "resume", task)
        [ended] = running.wait(task)

    assert "stops at the end of its turn" in said
    assert (at_work["state"], at_work["hold"]["stopping"], at_work["hold"]["reason"]) == ("running", True, "lunch")
    assert (paused["progress"]["turn"], paused["hold"]["stopping"]) == (3, False)
    assert again["hold"] == paused["hold"]
    assert f"{task} is " in resumed  # queued, or given away by now
    assert ended["state"] == "completed", ended["reason"]
    assert model.asked == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [attempt["state"] for attempt in ended["attempts"]] == ["cancelled", "passed"]
    assert ended["agent"] != paused["attempts"][-1]["agent"]
    used = [attempt["result"]["usage"]["input_tokens"] for attempt in ended["attempts"]]
    assert ended["usage"]["input_tokens"] == sum(used)
    assert used[0] == paused["progress"]["usage"]["input_tokens"]


def test_a_person_takes_work_over_changes_it_and_hands_it_back_with_a_note(tmp_path: Path) -> None:
    origin = make_remote(tmp_path, {"README": "hello\n"})
    with Turns(holds={2}) as model, mesh(tmp_path, model, "One") as running:
        task = running.submit(**seven_parts(context={"repo": str(origin.path)}))
        until(lambda: 2 in model.asked, "turn 2 is asked for")
        _agentcom(running, "tasks", "take", task)
        model.release()
        ref = running.wait_state(task, "waiting")["progress"]["ref"]
        git(origin.clone, "fetch", "--quiet", "origin", ref)
        git(origin.clone, "checkout", "--quiet", "FETCH_HEAD")
        (origin.clone / "mine.txt").write_text("by hand\n")
        git(origin.clone, "add", "mine.txt")
        git(origin.clone, "commit", "--quiet", "-m", "By hand")
        git(origin.clone, "push", "--quiet", "origin", f"HEAD:{ref}")
        _agentcom(running, "tasks", "hand-back", task, "--note", "mine.txt is done")
        [ended] = running.wait(task)

    assert ended["state"] == "completed", ended["reason"]
    assert model.asked == [1, 2, 3, 4, 5, 6, 7, 8]
    assert "mine.txt is done" in model.said[2]
    assert not any("mine.txt is done" in said for said in model.said[3:])
    branch = ended["result"]["branch"]
    assert git(origin.path, "show", f"{branch}:mine.txt") == "by hand"
    assert git(origin.path, "for-each-ref", "refs/agentcom") == ""


def test_a_command_pauses_only_before_it_begins_and_one_error_says_so(tmp_path: Path) -> None:
    running = Mesh(tmp_path)
    try:
        running.start_hub()
        task = running.submit(command="echo done")
        waiting = running.call("POST", f"/api/v1/tasks/{task}/pause")
        running.start_sidecar("One")
        running.wait_agents("One")
        other = running.submit(command="sleep 30")
        running.wait_state(other, "running")
        with pytest.raises(Refused) as refused:
            running.call("POST", f"/api/v1/tasks/{other}/pause")
        running.call("POST", f"/api/v1/tasks/{other}/cancel")
        still = running.task(task)["state"]
        running.call("POST", f"/api/v1/tasks/{task}/resume")
        [ended] = running.wait(task)
        with pytest.raises(Refused) as final:
            running.call("POST", f"/api/v1/tasks/{task}/pause")
    finally:
        running.stop()

    assert (waiting["state"], still, ended["state"]) == ("waiting", "waiting", "completed")
    assert (refused.value.status, refused.value.problem["code"]) == (409, "cannot_pause")
    assert "cannot stop and go on later" in refused.value.problem["detail"]
    assert final.value.status == 409
