"""Work that needs a model, end to end: servers that speak the real protocols, one of them written by nobody here."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agentcom import local_model
from tests.support.mesh import Mesh, Refused, mesh
from tests.support.repositories import CALC, TEST_OF_CALC, make_remote

if TYPE_CHECKING:
    from llmock.pytest_plugin import LLMock


@contextlib.contextmanager
def _ollama(folder: Path, script: list[dict[str, Any]]) -> Iterator[str]:
    """A scripted Ollama in a process of its own; its address."""
    file = folder / "script.json"
    file.write_text(json.dumps(script))
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.ollama_server", "--script", str(file), "--model", "qwen3:8b"],
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
def _with_env(folder: Path, **env: str) -> Iterator[Mesh]:
    """A hub and one sidecar with these variables, idle and with its endpoints reported."""
    running = Mesh(folder)
    try:
        running.start_hub()
        running.start_sidecar("One", env=env)
        running.wait_agents("One")
        yield running
    finally:
        running.stop()


def test_an_agent_on_a_local_model_repairs_a_repository(tmp_path: Path) -> None:
    origin = make_remote(tmp_path, {"calc.py": CALC, "test_calc.py": TEST_OF_CALC}).path
    script = [
        {"tool_calls": [["finish", {"summary": "nothing to do"}]]},
        {"tool_calls": [["read", {"path": "calc.py"}]]},
        {"tool_calls": [["edit", {"path": "calc.py", "old": "a - b", "new": "a + b"}]]},
        {"tool_calls": [["finish", {"summary": "add adds now"}]]},
    ]
    with _ollama(tmp_path, script) as address, _with_env(tmp_path, OLLAMA_HOST=address) as running:
        task = running.submit(
            title="Repair add",
            prompt="The test fails; make it pass.",
            context={"repo": str(origin)},
            verification=[{"type": "test_passes", "command": "python3 -m unittest -q"}],
        )
        [ended] = running.wait(task)

    result, routing = ended["result"], ended["routing"]
    assert ended["state"] == "completed"
    assert [iteration["passed"] for iteration in result["iterations"]] == [False, True]
    assert (routing["strategy"], routing["model"], routing["executor"]) == ("local_llm", "qwen3:8b", "agent")
    assert result["usage"]["input_tokens"] > 0
    assert result["usage"]["cost_usd"] == 0.0
    assert result["pushed"] is True


def test_complex_work_goes_to_claude_and_is_paid_for(tmp_path: Path, llmock: "LLMock") -> None:
    llmock.reply("Use a lease with a fencing token.", times=None)  # listing the models takes a reply too
    env = {"ANTHROPIC_API_KEY": "sk-ant-test", "ANTHROPIC_BASE_URL": llmock.base_url("anthropic")}
    with _with_env(tmp_path, **env) as running:
        [ended] = running.wait(
            running.submit(prompt="Design a distributed lock that survives a race.", save_as="design.md")
        )

    result = ended["result"]
    assert ended["state"] == "completed"
    assert ended["routing"]["tier"]["effective"] == "complex"
    assert ended["routing"]["strategy"] == "cloud_llm"
    assert result["output"] == "Use a lease with a fencing token."
    assert result["usage"]["model"].startswith("claude")
    assert result["usage"]["cost_usd"] > 0


def test_an_endpoint_that_a_person_adds_serves_every_sidecar(tmp_path: Path, llmock: "LLMock") -> None:
    llmock.reply("Welcome aboard.", times=None)
    with mesh(tmp_path, "One") as running:
        added = running.call(
            "POST", "/api/v1/endpoints", {"kind": "openai", "url": llmock.base_url("openai"), "default_model": "gpt-5"}
        )
        [ended] = running.wait(
            running.submit(
                prompt="Say welcome",
                executor="chat",
                save_as="note.txt",
                verification=[{"type": "command_succeeds", "command": "grep -q Welcome note.txt"}],
            )
        )
        running.call("DELETE", f"/api/v1/endpoints/{added['id']}")
        waiting = running.submit(prompt="Say it again")
        explained = running.call("GET", f"/api/v1/tasks/{waiting}/explain")

    assert ended["state"] == "completed", ended["result"]
    assert ended["verified"] is True
    assert ended["result"]["usage"]["endpoint"] == added["id"]
    assert "no agent that is online can do it" in explained["summary"]


def test_an_endpoint_that_is_down_is_refused_and_not_kept(tmp_path: Path) -> None:
    running = Mesh(tmp_path)
    try:
        running.start_hub()
        with pytest.raises(Refused) as refused:
            running.call("POST", "/api/v1/endpoints", {"kind": "ollama", "url": "http://127.0.0.1:9"})
        kept = running.call("GET", "/api/v1/endpoints")["endpoints"]
    finally:
        running.stop()

    assert refused.value.problem["code"] == "endpoint_down"
    assert "127.0.0.1:9" in refused.value.problem["detail"]
    assert kept == []


def test_a_model_that_never_passes_the_checks_ends_with_its_partial_report(tmp_path: Path, llmock: "LLMock") -> None:
    llmock.reply("one", times=None)
    with mesh(tmp_path, "One") as running:
        running.call(
            "POST", "/api/v1/endpoints", {"kind": "openai", "url": llmock.base_url("openai"), "default_model": "gpt-5"}
        )
        [ended] = running.wait(
            running.submit(
                prompt="Write a number",
                executor="chat",
                save_as="n.txt",
                verification=[
                    {"type": "file_exists", "path": "n.txt"},
                    {"type": "command_succeeds", "command": "grep -q 42 n.txt"},
                ],
                budget={"fix_attempts": 1},
                escalation="off",
            )
        )

    result = ended["result"]
    assert ended["state"] == "failed"
    assert (result["execution_ok"], result["verified"]) == (True, False)
    assert [[f["passed"] for f in i["findings"]] for i in result["iterations"]] == [[True, False], [True, False]]


@pytest.mark.slow
def test_a_real_model_answers_a_chat(tmp_path: Path) -> None:
    if not local_model.is_installed():
        pytest.skip("no local model installed: ./run _local")
    server = subprocess.Popen([sys.executable, "-m", "agentcom.local_model"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        address = server.stdout.readline().strip()
        with mesh(tmp_path, "One") as running:
            running.call("POST", "/api/v1/endpoints", {"kind": "openai", "url": f"{address}/v1", "local": True})
            [ended] = running.wait(running.submit(prompt="Say hello in one sentence.", executor="chat"), timeout_s=120)
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()

    assert ended["state"] == "completed"
    assert ended["result"]["output"].strip()
    assert ended["result"]["usage"]["model"] == local_model.NAME
