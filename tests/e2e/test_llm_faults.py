"""What goes wrong at a model's server is told by its class at the task, and is never taken for success."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.mesh import Mesh, ollama_process

if TYPE_CHECKING:
    from llmock.pytest_plugin import LLMock

HALF = "an answer of which only half will ever come " * 5
FAULTS = {
    "claude-sonnet-4-6": ("endpoint_busy", "HTTP 529"),
    "gpt-4o": ("endpoint_down", "endpoint openai"),
    "gemini-2.5-pro": ("endpoint_down", "the answer ended before it was done"),
    "qwen3:8b": ("endpoint_down", "broke off"),
}
"""By model: the code and a part of the reason."""


def test_every_kind_of_server_that_fails_for_good_is_named_with_its_class(tmp_path: Path, llmock: "LLMock") -> None:
    llmock.reply(HALF, times=None)
    llmock.fail(529, times=None, model="claude-*")
    llmock.disconnect(after_chunks=3, times=None, provider="openai")
    llmock.truncate(after_chunks=3, times=None, provider="gemini")
    env = {
        "ANTHROPIC_API_KEY": "sk-ant-test",
        "ANTHROPIC_BASE_URL": llmock.base_url("anthropic"),
        "OPENAI_API_KEY": "sk-test",
        "OPENAI_BASE_URL": llmock.base_url("openai"),
        "GEMINI_API_KEY": "AIza-test",
        "GOOGLE_GEMINI_BASE_URL": llmock.base_url("gemini"),
    }
    running = Mesh(tmp_path, heartbeat_s=2.0, lease_s=60.0)
    with ollama_process(
        tmp_path / "script.json", [{"text": HALF, "cut_midway": True, "repeat": True}], {"qwen3:8b": 1.0}
    ) as box:
        try:
            running.start_hub()
            running.start_sidecar("One", "--slots", "4", env={**env, "OLLAMA_HOST": box})
            running.wait_agents("One")
            work: dict[str, Any] = {"executor": "chat", "escalation": "off", "max_retries": 0}
            tasks = {
                model: running.submit(prompt="Say it.", model=model, save_as="said.txt", **work) for model in FAULTS
            }
            ended = dict(zip(tasks, running.wait(*tasks.values()), strict=True))
        finally:
            running.stop()

    for model, (code, part) in FAULTS.items():
        task, attempt = ended[model], ended[model]["attempts"][-1]
        assert task["state"] == "dead", task
        assert (attempt["state"], attempt["failure"]) == ("failed", "quota"), attempt
        assert (attempt["result"]["execution_ok"], attempt["result"]["verified"]) == (False, None)
        assert attempt["result"]["error_code"] == code
        assert part in attempt["reason"]
