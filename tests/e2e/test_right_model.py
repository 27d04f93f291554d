"""The right model on the right machine: commands to a shell, standard work to a local model, complex work to Claude."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.mesh import Mesh, until

if TYPE_CHECKING:
    from llmock.pytest_plugin import LLMock

MODEL = "small:1b"


@contextlib.contextmanager
def _ollama(folder: Path) -> Iterator[str]:
    script = folder / "script.json"
    script.write_text(json.dumps([{"text": "It is a queue."}] * 4))
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.ollama_server", "--script", str(script), "--model", f"{MODEL}=1.0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        yield server.stdout.readline().split()[-1]
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


@contextlib.contextmanager
def _mesh(folder: Path, ollama: str, claude: str) -> Iterator[Mesh]:
    """A hub that tells everything, a machine with a local model and one with a key for Claude."""
    running = Mesh(folder, hub_flags=("--log-level", "debug"))
    try:
        running.start_hub()
        config = folder / "local.toml"  # both are on one machine here: the endpoint has a name of its own
        config.write_text(f'[[endpoints]]\nid = "ollama-local"\nkind = "ollama"\nurl = "{ollama}"\n')
        running.start_sidecar("Local", "--config", str(config))
        running.start_sidecar("Cloud", env={"ANTHROPIC_API_KEY": "sk-ant-test", "ANTHROPIC_BASE_URL": claude})
        _wait(running)
        yield running
    finally:
        running.stop()


def _wait(running: Mesh) -> None:
    running.wait_agents("Local", "Cloud")
    until(lambda: MODEL in _models(running) and len(_models(running)) > 1, "the models of both endpoints are reported")


def _models(running: Mesh) -> set[str]:
    return {model["name"] for model in running.call("GET", "/api/v1/models")["models"]}


def _decisions(running: Mesh) -> list[dict[str, str]]:
    """What the hub's log tells of each assignment."""
    lines = (running.folder / "hub.log").read_text().splitlines()
    return [json.loads(line) for line in lines if '"task_assigned"' in line]


def test_each_task_goes_where_its_tier_belongs_and_the_log_says_why(tmp_path: Path, llmock: "LLMock") -> None:
    llmock.reply("Use a lease with a fencing token.", times=None)
    with _ollama(tmp_path) as ollama, _mesh(tmp_path, ollama, llmock.base_url("anthropic")) as running:
        tasks = [
            running.submit(command="true"),
            running.submit(prompt="What is this program about?", executor="chat"),
            running.submit(prompt="Design a distributed lock that survives a race.", save_as="design.md"),
        ]
        command, standard, hard = running.wait(*tasks)
        explained = running.call("GET", f"/api/v1/tasks/{hard['id']}/explain")
        told = {line["task"]: line for line in _decisions(running)}

    assert [task["state"] for task in (command, standard, hard)] == ["completed"] * 3
    routes = [
        (t["routing"]["tier"]["effective"], t["routing"]["strategy"], t["routing"]["agent"]) for t in (standard, hard)
    ]
    assert routes == [("standard", "local_llm", "Local"), ("complex", "cloud_llm", "Cloud")]
    assert command["routing"]["strategy"] == "trivial"
    assert [command["result"]["usage"][name] for name in ("model", "input_tokens", "output_tokens")] == ["none", 0, 0]
    assert standard["routing"]["model"] == MODEL
    assert hard["result"]["usage"]["model"].startswith("claude")
    for task in (command, standard, hard):
        routing, line = task["routing"], told[task["id"]]
        assert {name: line[name] for name in ("agent", "model", "endpoint", "reason")} == {
            name: routing[name] for name in ("agent", "model", "endpoint", "reason")
        }
        assert routing["reason"]
    chosen, *others = explained["routing"]["candidates"]
    assert (chosen["agent"], chosen["feasible"]) == ("Cloud", True)
    assert chosen["cost"]["total_s"] > 0
    assert {each["agent"] for each in others} == {"Local"}
    assert all(each["reasons"] for each in others)


def test_endpoints_and_what_was_measured_survive_a_restart_of_the_hub(tmp_path: Path, llmock: "LLMock") -> None:
    llmock.reply("Welcome aboard.", times=None)
    question = {"prompt": "What is this program about?", "executor": "chat", "model": MODEL}
    with _ollama(tmp_path) as ollama, _mesh(tmp_path, ollama, llmock.base_url("anthropic")) as running:
        added = running.call("POST", "/api/v1/endpoints", {"kind": "openai", "url": llmock.base_url("openai")})
        [guessed] = running.wait(running.submit(**question))
        assert running.hub is not None
        running.hub.terminate()
        running.hub.wait()
        running.start_hub()
        _wait(running)
        kept = [endpoint["id"] for endpoint in running.call("GET", "/api/v1/endpoints")["endpoints"]]
        [known] = running.wait(running.submit(**question))

    assert added["id"] in kept
    # Before anything was measured, a machine without a GPU is expected to take minutes; the stand-in takes a moment.
    assert _expected_s(known) < _expected_s(guessed) / 10


def _expected_s(task: dict[str, Any]) -> float:
    cost: dict[str, float] = task["routing"]["candidates"][0]["cost"]
    return cost.get("prefill_s", 0.0) + cost.get("decode_s", 0.0)
