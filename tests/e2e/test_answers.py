"""Answers of models from submission to end, on two servers that share no line of code: a stand-in for Ollama that keeps
to its manners, and llama.cpp with a real model."""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest

from agentcom import local_model
from tests.support.mesh import Mesh, until
from tests.support.ollama_memory import BUSY
from tests.support.ollama_server import Model, OllamaServer, Reply

LONG = "Write a very long story about a dog."
"""The small model has no end of it, where it soon tires of counting."""
PATIENCE_S = 90


class Server(Protocol):
    """What the tests ask of a server."""

    model: str

    def env(self) -> dict[str, str]:
        """What a sidecar beside it needs to find it."""
        ...

    def add(self, running: Mesh) -> None:
        """Have the hub know it, if nobody finds it."""
        ...

    def is_busy(self) -> bool:
        """Whether it writes an answer."""
        ...


@dataclass
class Ollama:
    """The stand-in, in a thread of its own."""

    model: str = "qwen3:8b"
    refusals: int = 3
    _ready: threading.Event = field(default_factory=threading.Event)
    _end: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.server = OllamaServer(models=(Model(self.model, context_tokens=8_192),), script=self._reply, piece_s=0.02)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)

    async def _serve(self) -> None:
        await self.server.start()
        self._ready.set()
        await self._end.wait()
        await self.server.stop()

    def _reply(self, body: dict[str, Any]) -> Reply:
        said = json.dumps(body["messages"])
        if LONG in said:
            return Reply("one two three " * 10_000)
        if self.refusals:
            self.refusals -= 1
            return Reply(status=503, error=BUSY)
        return Reply("Hello there.")

    def env(self) -> dict[str, str]:
        return {"OLLAMA_HOST": self.server.url}

    def add(self, running: Mesh) -> None:
        pass

    def is_busy(self) -> bool:
        return any(resident.users for resident in list(self.server.memory.residents.values()))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE_S)
        self._loop.close()


@dataclass
class LlamaCpp:
    """The real one, in a process of its own."""

    address: str
    model: str = local_model.NAME

    def env(self) -> dict[str, str]:
        return {}

    def add(self, running: Mesh) -> None:
        running.call("POST", "/api/v1/endpoints", {"kind": "openai", "url": f"{self.address}/v1", "local": True})

    def is_busy(self) -> bool:
        with urllib.request.urlopen(f"{self.address}/slots", timeout=PATIENCE_S) as answer:  # noqa: S310 - our own
            return any(slot["is_processing"] for slot in json.load(answer))


@contextlib.contextmanager
def _llama_cpp() -> Iterator[LlamaCpp]:
    command = [sys.executable, "-m", "agentcom.local_model", "--until-stdin-closes"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield LlamaCpp(process.stdout.readline().strip())
        finally:
            process.stdin.close()


@pytest.fixture(scope="module", params=["ollama", "llama.cpp"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == "ollama":
        with contextlib.closing(Ollama()) as ollama:
            yield ollama
        return
    if not local_model.is_installed():
        pytest.skip("no local model installed: ./run _local")
    with _llama_cpp() as llama:
        yield llama


@pytest.fixture(scope="module")
def running(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    mesh = Mesh(tmp_path_factory.mktemp("answers"))
    try:
        mesh.start_hub()
        mesh.start_sidecar("One", env=server.env())
        mesh.wait_agents("One")
        server.add(mesh)
        until(lambda: mesh.call("GET", "/api/v1/models")["models"], "its model is known", timeout_s=PATIENCE_S)
        yield mesh
    finally:
        mesh.stop()


def chat(running: Mesh, prompt: str, **more: Any) -> str:
    return running.submit(prompt=prompt, executor="chat", complexity="standard", max_retries=0, **more)


def test_a_standard_task_is_verified_in_one_attempt_though_the_queue_was_full(running: Mesh, server: Server) -> None:
    checks = [{"type": "command_succeeds", "command": "test -s answer.txt"}]
    [ended] = running.wait(
        chat(running, "Answer with one word: hello.", save_as="answer.txt", verification=checks), timeout_s=PATIENCE_S
    )

    usage = ended["result"]["usage"]
    assert (ended["state"], ended["verified"]) == ("completed", True), ended["result"]
    assert (ended["routing"]["tier"]["effective"], ended["routing"]["strategy"]) == ("standard", "local_llm")
    assert (usage["model"], usage["cost_usd"]) == (server.model, 0.0)
    assert usage["output_tokens"] > 0
    assert len(ended["attempts"]) == 1
    assert not isinstance(server, Ollama) or server.refusals == 0


def test_cancelling_a_task_stops_the_model_and_meanwhile_it_is_told_how_it_comes_along(
    running: Mesh, server: Server
) -> None:
    task = chat(running, LONG)
    until(server.is_busy, "the server writes", timeout_s=PATIENCE_S)
    until(lambda: _answering(running, task).get("tokens"), "the attempt tells its tokens", timeout_s=PATIENCE_S)
    told = _answering(running, task)
    running.call("POST", f"/api/v1/tasks/{task}/cancel", {"reason": "enough"})
    ended = running.wait_state(task, "cancelled", timeout_s=PATIENCE_S)
    until(lambda: not server.is_busy(), "the server rests", timeout_s=PATIENCE_S)

    assert (told["phase"], told["model"]) == ("writing", server.model)
    assert len(ended["attempts"]) == 1


def test_a_prompt_that_would_be_cut_is_given_to_nobody_and_that_is_said(running: Mesh) -> None:
    task = chat(running, "word " * 40_000)
    explained = json.dumps(running.call("GET", f"/api/v1/tasks/{task}/explain"))
    view = running.task(task)
    running.call("POST", f"/api/v1/tasks/{task}/cancel", {"reason": "too long"})

    assert (view["state"], view["attempts"]) == ("queued", [])
    assert "takes 8192 tokens, the task needs more than" in explained, explained


def _answering(running: Mesh, task: str) -> dict[str, Any]:
    attempts = running.task(task)["attempts"]
    return (attempts[-1].get("answering") if attempts else None) or {}
