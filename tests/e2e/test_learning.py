"""A model that keeps failing is left once that was seen, if learning is on; in shadow it is only told."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.support.mesh import Mesh, ollama_process, until

SMALL, LARGE = "small:1b", "large:8b"
REPLIES: Final = [{"text": "41\n", "model": SMALL, "repeat": True}, {"text": "42\n", "model": LARGE, "repeat": True}]
TASK: Final = {
    "prompt": "Write a number",
    "executor": "chat",
    "save_as": "n.txt",
    "verification": [{"type": "command_succeeds", "command": "grep -q 42 n.txt"}],
    "budget": {"fix_attempts": 0},
}


@contextlib.contextmanager
def mesh(folder: Path, learning: str) -> Iterator[Mesh]:
    """A hub, and a machine with a model that always fails, its default, and one that passes."""
    with ollama_process(folder / "replies.json", REPLIES, {SMALL: 1.0, LARGE: 8.0}) as address:
        # Trying what is little known, which a new hub may do at once, would make the choice one of luck.
        running = Mesh(folder, hub_env={"AGENTCOM_LEARNING": learning, "AGENTCOM_EXPLORE_SHARE": "0"})
        try:
            running.start_hub()
            config = folder / "one.toml"
            config.write_text(
                f'[[endpoints]]\nid = "box"\nkind = "ollama"\nurl = "{address}"\ndefault_model = "{SMALL}"\n'
            )
            running.start_sidecar("One", "--config", str(config))
            running.wait_agents("One")
            until(lambda: len(running.call("GET", "/api/v1/models")["models"]) == 2, "both models are reported")
            yield running
        finally:
            running.stop()


def begun(running: Mesh, **more: Any) -> tuple[str, dict[str, Any] | None]:
    """The model that a task has begun with, and what was learnt by then."""
    [ended] = running.wait(running.submit(**TASK, **more))
    first = ended["attempts"][0]["routing"]
    return first["model"], first["learnt"]


def test_it_is_left_if_learning_is_on_over_a_restart_and_not_where_a_task_says_otherwise(tmp_path: Path) -> None:
    with mesh(tmp_path, "on") as running:
        models = [begun(running)[0] for _ in range(8)]
        assert running.hub is not None
        running.hub.terminate()  # an orderly end: what was measured in its last seconds is kept, too
        running.hub.wait()
        running.start_hub()
        running.wait_agents("One")
        model, learnt = begun(running)
        pinned, kept = begun(running, model=SMALL, escalation="off")
        left_out, untold = begun(running, learning=False, escalation="off")

    assert models[-3:] == [LARGE] * 3, models
    assert learnt is not None
    assert (model, learnt["mode"], learnt["model"]) == (LARGE, "on", LARGE)
    assert learnt["estimates"][0]["outcomes"] > 2
    assert (pinned, kept) == (SMALL, None)
    assert (left_out, untold) == (SMALL, None)


def test_in_shadow_it_is_only_told_what_would_have_been_chosen(tmp_path: Path) -> None:
    with mesh(tmp_path, "shadow") as running:
        found = [begun(running) for _ in range(5)]
        task = running.submit(**TASK, needs=["nobody"])
        waiting = running.call("GET", f"/api/v1/tasks/{task}/explain")["routing"]["learnt"]

    assert [model for model, _ in found] == [SMALL] * 5
    last = found[-1][1]
    assert last is not None
    assert (last["mode"], last["model"]) == ("shadow", LARGE)
    chances = {each["model"]: each["success"] for each in waiting["estimates"]}
    assert chances[LARGE] > chances[SMALL]
    assert waiting["model"] == LARGE


def test_switched_off_nothing_is_learnt(tmp_path: Path) -> None:
    with mesh(tmp_path, "off") as running:
        assert [begun(running) for _ in range(2)] == [(SMALL, None)] * 2
