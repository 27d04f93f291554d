"""The LLM registry end to end: endpoints that die, come back, refuse and are remembered. Real processes all of them."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.mesh import Mesh, until
from tests.support.ports import free_port

PATIENCE_S = 90.0  # one round of looks is half a second, a cooldown some seconds; the machine may be busy


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
    mesh = Mesh(folder, hub_env={"AGENTCOM_CHECK_S": "0.5"})
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


def wait_endpoint(
    mesh: Mesh, what: str, fact: Callable[[dict[str, Any]], object], name: str = "ollama"
) -> dict[str, Any]:
    """The endpoint as it was in the one answer in which ``fact`` was true of it."""
    seen: dict[str, Any] = {}

    def is_so() -> bool:
        nonlocal seen
        seen = endpoint(mesh, name)
        return bool(seen and fact(seen))

    try:
        until(is_so, what, timeout_s=PATIENCE_S)
    except AssertionError as exc:
        raise AssertionError(f"{exc}; it is {seen}\n{mesh.logs()}") from None
    return seen


def is_well(seen: dict[str, Any]) -> bool:
    """It answers, and the sidecar beside it is connected."""
    return (seen["health"], seen["state"], seen["agents"]) == ("online", "up", ["One"])


def wait_event(mesh: Mesh, kind: str, after: int) -> dict[str, Any]:
    """The first event of this kind after that one: it is stored, and so is what it tells of."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found.extend(event for event in mesh.events(kind) if event["seq"] > after)
        return bool(found)

    until(is_there, kind, timeout_s=PATIENCE_S)
    return found[0]


def newest(mesh: Mesh) -> int:
    return int(mesh.events()[-1]["seq"])


@pytest.mark.timeout(300)
def test_an_endpoint_dies_and_is_remembered_and_comes_back(running: Mesh, ollama: Ollama) -> None:
    well = wait_endpoint(running, "it is well", is_well)
    first, *_ = running.wait(running.submit(prompt="Say something."))
    seen = wait_endpoint(
        running,
        "it is seen in memory",
        lambda seen: [(m["residency"], bool(m["kv_bytes_per_token"])) for m in seen["models"]] == [("warm", True)],
    )
    before = newest(running)
    ollama.kill()
    second = running.submit(prompt="Say it again.")  # it runs into the dead server, which makes its sidecar look
    wait_event(running, "endpoint_down", before)
    gone = wait_endpoint(
        running, "it is gone", lambda seen: seen["health"] == "offline" and ollama.url in seen["detail"]
    )
    running.kill(running.hub)
    running.start_hub()
    remembered = endpoint(running)
    ollama.start()
    [ended] = running.wait(second, timeout_s=PATIENCE_S)
    back = wait_endpoint(running, "it is back", lambda seen: is_well(seen) and not seen["detail"])

    [warm] = seen["models"]
    assert (first["state"], ended["state"]) == ("completed", "completed")
    assert well["host"] == socket.gethostname()
    assert warm["vram_bytes"] <= warm["resident_bytes"]
    assert warm["expires_at"] > first["ended_at"]
    assert warm["kv_bytes_per_token"] == 147_456
    assert (gone["state"], gone["agents"]) == ("down", [])
    assert (remembered["health"], remembered["since"]) == (gone["health"], gone["since"])
    assert [model["name"] for model in remembered["models"]] == ["qwen3:8b"]
    assert back["since"] > gone["since"]


@pytest.mark.timeout(300)
def test_an_endpoint_that_refuses_is_left_alone_and_tried_again(running: Mesh, ollama: Ollama) -> None:
    wait_endpoint(running, "it is well", is_well)
    before = newest(running)
    refused = running.submit(prompt="Refuse this three times.")
    told = wait_event(running, "endpoint_cooldown", before)
    cold = endpoint(running)
    task = running.submit(prompt="Say something else.")  # the first one waits for longer than the endpoint does
    running.kill(running.hub)
    running.start_hub()
    [ended] = running.wait(task, timeout_s=PATIENCE_S)
    after = wait_endpoint(running, "it is well again", is_well)
    running.wait(refused, timeout_s=PATIENCE_S)  # else it would be refused again in the midst of another test

    assert (told["facts"]["endpoint"], told["facts"]["detail"]) == ("ollama", "server busy, please try again.")
    assert told["facts"]["for_s"] >= 5
    # Some seconds later it is on trial, and well after that; on a machine that stands still one of them is seen.
    assert (cold["health"], cold["state"]) in {("cooldown", "degraded"), ("half_open", "degraded"), ("online", "up")}
    assert (cold["until"] is None) is (cold["health"] == "online")
    assert ended["state"] == "completed"
    assert [each["state"] for each in ended["attempts"]][-1:] == ["passed"]
    assert after["until"] is None


@pytest.mark.timeout(300)
def test_an_added_endpoint_is_kept_changed_and_removed(running: Mesh, ollama: Ollama) -> None:
    added = running.call("POST", "/api/v1/endpoints", {"kind": "ollama", "url": ollama.url, "id": "big"})
    changed = running.call("PATCH", "/api/v1/endpoints/big", {"default_model": "qwen3:8b"})
    running.kill(running.hub)
    running.start_hub()
    kept = wait_endpoint(running, "it is known and answers", lambda seen: seen["health"] == "online", "big")
    ollama.kill()
    gone = wait_endpoint(running, "it is gone", lambda seen: seen["health"] == "offline", "big")
    running.call("DELETE", "/api/v1/endpoints/big")

    assert (added["health"], added["host"]) == ("online", None)
    assert changed["default_model"] == kept["default_model"] == "qwen3:8b"
    assert [model["name"] for model in kept["models"]] == ["qwen3:8b"]
    assert gone["state"] == "down"
    assert endpoint(running, "big") == {}
