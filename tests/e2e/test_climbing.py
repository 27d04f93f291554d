"""A task whose checks keep failing climbs, from process to process: the report and the work so far go along."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.mesh import Mesh, ollama_process, until
from tests.support.repositories import CALC, TEST_OF_CALC, git, make_remote

FINISH: Final = {"tool_calls": [["finish", {"summary": "done, I think"}]]}
SMALL, LARGE = "small:1b", "large:8b"
SIZES_GB: Final = {SMALL: 1.0, LARGE: 8.0}  # the small one is expected to answer first


def _ollama(folder: Path, model: str, script: Sequence[dict[str, Any]]) -> contextlib.AbstractContextManager[str]:
    return ollama_process(folder / f"{model.partition(':')[0]}.json", script, {model: SIZES_GB[model]})


@contextlib.contextmanager
def _mesh(folder: Path, **models: str) -> Iterator[Mesh]:
    """A hub, and a sidecar for each name with the Ollama server at that address."""
    running = Mesh(folder)
    try:
        running.start_hub()
        for name, address in models.items():
            config = folder / f"{name}.toml"  # two machines: their endpoints have names of their own
            config.write_text(f'[[endpoints]]\nid = "ollama-{name}"\nkind = "ollama"\nurl = "{address}"\n')
            running.start_sidecar(name, "--config", str(config))
        running.wait_agents(*models)
        until(lambda: len(running.call("GET", "/api/v1/models")["models"]) == len(models), "all models are reported")
        yield running
    finally:
        running.stop()


def test_a_task_climbs_to_a_larger_model_on_another_machine_with_its_branch_and_report(tmp_path: Path) -> None:
    origin = make_remote(tmp_path, {"calc.py": CALC, "test_calc.py": TEST_OF_CALC}).path
    small = [
        {"tool_calls": [["write", {"path": "notes.txt", "content": "add subtracts\n"}]]},
        FINISH,
        {**FINISH, "when": f"An earlier attempt at this task ({SMALL}) did not pass its checks"},
        *[{**FINISH, "when": "did not pass. Repair what failed"}] * 2,
    ]
    large = [
        {"tool_calls": [["read", {"path": "notes.txt"}]], "when": "Its work is in the workspace"},
        {"tool_calls": [["edit", {"path": "calc.py", "old": "a - b", "new": "a + b"}]], "when": "add subtracts"},
        FINISH,
    ]
    with (
        _ollama(tmp_path, SMALL, small) as one,
        _ollama(tmp_path, LARGE, large) as two,
        _mesh(tmp_path, One=one, Two=two) as running,
    ):
        task = running.submit(
            title="Repair add",
            prompt="The test fails; make it pass.",
            context={"repo": str(origin)},
            complexity="standard",
            verification=[{"type": "test_passes", "command": "python3 -m unittest -q"}],
            budget={"fix_attempts": 0},
        )
        [ended] = running.wait(task)
        events = running.call("GET", f"/api/v1/tasks/{task}/events")["events"]

    attempts = [(a["agent"], a["failure"], (a["routing"]["rung"] or {}).get("effort")) for a in ended["attempts"]]
    assert ended["state"] == "completed", ended["reason"]
    assert attempts == [("One", "verify", None), ("One", "verify", "high"), ("Two", None, "normal")]
    assert ended["routing"]["rung"] == {"number": 2, "tier": "standard", "model": LARGE, "effort": "normal"}
    climbs = [event["facts"] for event in events if event["kind"] == "task_climbed"]
    assert [(c["model"], c["effort"]) for c in climbs] == [(SMALL, "high"), (LARGE, "normal")]
    branch = ended["result"]["branch"]
    assert git(origin, "show", f"{branch}:notes.txt") == "add subtracts"
    assert "a + b" in git(origin, "show", f"{branch}:calc.py")
    assert "Draft" not in git(origin, "log", "--format=%B", branch)


def test_a_task_without_a_repository_goes_on_with_its_files_until_the_ladder_ends(tmp_path: Path) -> None:
    replies = [
        {"text": "41\n"},
        {"text": "forty\n", "when": "Its work is in the workspace"},
        {"text": "forty-one\n", "repeat": True, "when": "Write a number"},
    ]
    with _ollama(tmp_path, SMALL, replies) as one, _mesh(tmp_path, One=one) as running:
        [ended] = running.wait(
            running.submit(
                prompt="Write a number",
                executor="chat",
                save_as="n.txt",
                verification=[{"type": "command_succeeds", "command": "grep -q 42 n.txt"}],
                budget={"fix_attempts": 0},
            )
        )

    assert ended["state"] == "failed"
    assert ended["reason"].endswith("there is no stronger model")
    assert [len(attempt["result"]["iterations"]) for attempt in ended["attempts"]] == [1, 3]


def test_a_task_that_may_not_climb_fails_at_once(tmp_path: Path) -> None:
    with _ollama(tmp_path, SMALL, [{"text": "41\n"}]) as one, _mesh(tmp_path, One=one) as running:
        [ended] = running.wait(
            running.submit(
                prompt="Write a number",
                executor="chat",
                save_as="n.txt",
                escalation="off",
                verification=[{"type": "command_succeeds", "command": "grep -q 42 n.txt"}],
                budget={"fix_attempts": 0},
            )
        )

    assert ended["state"] == "failed"
    assert ended["reason"].endswith("escalation is off")
    assert len(ended["attempts"]) == 1
    assert ended["result"]["branch"] == ""
