"""The fix loop is seen while it runs, and ends where nothing comes of it."""

from pathlib import Path

from tests.support.mesh import Mesh, until


def test_iterations_are_seen_while_the_task_runs_and_end_without_progress(tmp_path: Path) -> None:
    running = Mesh(tmp_path)
    gate = tmp_path / "gate"
    command = f'if [ "$AGENTCOM_ITERATION" = 2 ]; then while [ ! -e {gate} ]; do sleep 0.05; done; fi; echo x > made'
    try:
        running.start_hub()
        running.start_sidecar("One")
        running.wait_agents("One")
        task = running.submit(
            command=command,
            verification=[{"type": "file_exists", "path": "never"}],
            budget={"fix_attempts": 9},
        )
        until(lambda: running.task(task)["iterations"], "the first iteration is told")
        seen = running.task(task)
        gate.touch()
        [ended] = running.wait(task)
    finally:
        running.stop()

    assert seen["state"] == "running"
    assert [(i["number"], i["passed"], i["findings"][0]["name"]) for i in seen["iterations"]] == [
        (1, False, seen["iterations"][0]["findings"][0]["name"]),
    ]
    assert seen["iterations"][0]["usage"]["seconds"] > 0
    assert (ended["state"], len(ended["iterations"])) == ("failed", 2)
    assert "no progress: iteration 2 changed no file" in ended["reason"]
