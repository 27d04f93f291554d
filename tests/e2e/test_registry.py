"""The LLM registry end to end: endpoints that die, come back, refuse and are remembered. Real processes all of them."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.mesh import Mesh, until

CYCLE_S = 30.0  # one round of looks is half a second; the machine may be busy


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Ollama:
    """The stand-in as a process on a port of its own, to be killed and started again."""

    def __init__(self, folder: Path, replies: list[dict[str, Any]]) -> None:
        self.port, self.script = free_port(), folder / "script.json"
        self.script.write_text(json.dumps(replies))
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        module, files = "tests.support.ollama_server", ["--script", str(self.script), "--port", str(self.port)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *files, "--model", "qwen3:8b"], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


BUSY = {"status": 503, "error": "server busy, please try again.", "when": "Refuse"}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mesh, Ollama]]:
    """A hub, a sidecar and an Ollama for all of these tests: they find it well, and leave it so.

    The server refuses three requests of one kind, as often as a sidecar asks for one answer, and answers all others.
    """
    folder = tmp_path_factory.mktemp("registry")
    ollama = Ollama(folder, [BUSY, BUSY, BUSY, {"text": "a fine answer", "repeat": True}])
    mesh = Mesh(folder, heartbeat_s=0.2, hub_env={"AGENTCOM_CHECK_S": "0.5"})
    try:
        ollama.start()
        mesh.start_hub()
        mesh.start_sidecar("One", env={"OLLAMA_HOST": ollama.url, "AGENTCOM_CHECK_S": "0.5"})
        mesh.wait_agents("One")
        yield mesh, ollama
    finally:
        mesh.stop()
        ollama.kill()


@pytest.fixture
def running(machine: tuple[Mesh, Ollama]) -> Mesh:
    return machine[0]


@pytest.fixture
def ollama(machine: tuple[Mesh, Ollama]) -> Iterator[Ollama]:
    yield machine[1]
    if machine[1].process is None:
        machine[1].start()


def endpoint(mesh: Mesh, name: str = "ollama") -> dict[str, Any]:
    listed = mesh.call("GET", "/api/v1/endpoints")["endpoints"]
    return next((each for each in listed if each["id"] == name), {})


def wait_health(mesh: Mesh, *states: str, name: str = "ollama") -> dict[str, Any]:
    until(lambda: endpoint(mesh, name).get("health") in states, f"{name} is {states}", timeout_s=CYCLE_S)
    return endpoint(mesh, name)


def test_an_endpoint_dies_and_is_remembered_and_comes_back(running: Mesh, ollama: Ollama) -> None:
    well = wait_health(running, "online")
    first, *_ = running.wait(running.submit(prompt="Say something."))
    until(lambda: endpoint(running)["models"][0]["residency"] == "warm", "it is seen in memory", timeout_s=CYCLE_S)
    warm = endpoint(running)["models"][0]
    ollama.kill()
    second = running.submit(prompt="Say it again.")  # it runs into the dead server, which makes its sidecar look
    gone = wait_health(running, "offline")
    running.kill(running.hub)
    running.start_hub()
    remembered = endpoint(running)
    ollama.start()
    back = wait_health(running, "online")
    [ended] = running.wait(second)

    assert (first["state"], ended["state"]) == ("completed", "completed")
    assert (well["state"], well["host"], well["agents"]) == ("up", socket.gethostname(), ["One"])
    assert warm["vram_bytes"] <= warm["resident_bytes"]
    assert warm["expires_at"] > first["ended_at"]
    assert warm["kv_bytes_per_token"] == 147_456
    assert (gone["state"], gone["agents"]) == ("down", [])
    assert ollama.url in gone["detail"]
    assert (remembered["health"], remembered["since"]) == (gone["health"], gone["since"])
    assert [model["name"] for model in remembered["models"]] == ["qwen3:8b"]
    assert (back["state"], back["detail"]) == ("up", "")


def test_an_endpoint_that_refuses_is_left_alone_and_tried_again(running: Mesh, ollama: Ollama) -> None:
    wait_health(running, "online")
    refused = running.submit(prompt="Refuse this three times.")
    cold = wait_health(running, "cooldown")
    task = running.submit(prompt="Say something else.")  # the first one waits for longer than the endpoint does
    running.kill(running.hub)
    running.start_hub()
    still = endpoint(running)
    [ended] = running.wait(task)
    after = wait_health(running, "online")
    running.wait(refused)  # else it would be refused again in the midst of another test

    assert (cold["state"], cold["detail"]) == ("degraded", "server busy, please try again.")
    assert cold["until"] > cold["since"]
    assert still["health"] in {"cooldown", "half_open", "online"}
    assert ended["state"] == "completed"
    assert [each["state"] for each in ended["attempts"]][-1:] == ["passed"]
    assert after["until"] is None
    assert "endpoint_cooldown" in {event["kind"] for event in running.events()}


def test_an_added_endpoint_is_kept_changed_and_removed(running: Mesh, ollama: Ollama) -> None:
    added = running.call("POST", "/api/v1/endpoints", {"kind": "ollama", "url": ollama.url, "id": "big"})
    changed = running.call("PATCH", "/api/v1/endpoints/big", {"default_model": "qwen3:8b"})
    running.kill(running.hub)
    running.start_hub()
    kept = endpoint(running, "big")
    ollama.kill()
    gone = wait_health(running, "offline", name="big")
    running.call("DELETE", "/api/v1/endpoints/big")

    assert (added["health"], added["host"]) == ("online", None)
    assert changed["default_model"] == kept["default_model"] == "qwen3:8b"
    assert [model["name"] for model in kept["models"]] == ["qwen3:8b"]
    assert kept["health"] == "online"
    assert gone["state"] == "down"
    assert endpoint(running, "big") == {}
