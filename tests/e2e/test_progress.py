"""Work in progress is kept turn by turn: what a machine loses, another goes on with."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.mesh import Mesh, until
from tests.support.repositories import git, make_remote
from tests.support.turns import Turns


@contextlib.contextmanager
def mesh(folder: Path, model: Turns, *names: str, lease_s: float = 30.0) -> Iterator[Mesh]:
    """A hub and sidecars that find the model."""
    running = Mesh(folder, lease_s=lease_s)
    try:
        running.start_hub()
        for name in names:
            running.start_sidecar(name, "--config", model.config(folder / f"{name}.toml"))
        running.wait_agents(*names)
        until(lambda: running.call("GET", "/api/v1/models")["models"], "the model is reported")
        yield running
    finally:
        running.stop()


def seven_parts(**more: Any) -> dict[str, Any]:
    """What the model is asked to do."""
    checks = [{"type": "file_exists", "path": f"part-{turn}.txt"} for turn in (1, 7)]
    return {"title": "Write seven parts", "executor": "agent", "verification": checks, **more}


def _kill_the_worker(running: Mesh, task: str) -> str:
    agent = running.task(task)["agent"]
    running.kill(running.sidecars[agent])
    return str(agent)


def test_killed_in_the_middle_of_turn_7_it_goes_on_from_turn_6_on_another_machine(tmp_path: Path) -> None:
    origin = make_remote(tmp_path, {"README": "hello\n"}).path
    with Turns(holds={7}) as model, mesh(tmp_path, model, "One", "Two", lease_s=8.0) as running:
        task = running.submit(**seven_parts(context={"repo": str(origin)}))
        until(lambda: 7 in model.asked, "turn 7 is asked for")
        kept = running.task(task)["progress"]
        refs = git(origin, "for-each-ref", "--format=%(refname)", "refs/agentcom")
        killed = _kill_the_worker(running, task)
        model.release()
        [ended] = running.wait(task)

    assert (kept["turn"], kept["iteration"], kept["ref"]) == (6, 1, f"refs/agentcom/wip/{task}-e1")
    assert refs == kept["ref"]
    assert ended["state"] == "completed", ended["reason"]
    assert model.asked == [1, 2, 3, 4, 5, 6, 7, 7, 8]
    assert [attempt["state"] for attempt in ended["attempts"]] == ["lost", "passed"]
    assert ended["agent"] != killed
    # What the dead machine has used counts, once.
    assert ended["usage"]["input_tokens"] > kept["usage"]["input_tokens"] > 0
    assert ended["usage"] == ended["attempts"][1]["result"]["usage"]
    branch = ended["result"]["branch"]
    assert git(origin, "ls-tree", "--name-only", branch).split() == [
        "README", *(f"part-{turn}.txt" for turn in range(1, 8)),
    ]  # fmt: skip
    assert "Draft" not in git(origin, "log", "--format=%B", branch)
    assert git(origin, "for-each-ref", "refs/agentcom") == ""


def test_work_without_a_repository_goes_on_with_its_files_too(tmp_path: Path) -> None:
    with Turns(holds={7}) as model, mesh(tmp_path, model, "One", "Two", lease_s=8.0) as running:
        task = running.submit(**seven_parts())
        until(lambda: 7 in model.asked, "turn 7 is asked for")
        _kill_the_worker(running, task)
        model.release()
        [ended] = running.wait(task)
        files = running.call("GET", f"/api/v1/tasks/{task}/artifacts")["artifacts"]

    assert ended["state"] == "completed", ended["reason"]
    assert model.asked == [1, 2, 3, 4, 5, 6, 7, 7, 8]
    assert files == []
