"""A package with more than a hundred tests is repaired, once by every kind of model server.

Real processes; the servers of hosted models are llmock, which nobody of this project wrote. What was used is held
against what the server itself has said on the wire. Another machine proves each repair before it counts, and it is
offered as a pull request.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from llmock.scenarios import Match, Reply, ToolCall
from llmock.testing import LLMockServer

from tests.support import package100
from tests.support.forge_server import ForgeServer, forge_server
from tests.support.mesh import Mesh, ollama_process, until
from tests.support.repositories import Remote, git
from tests.support.tap import Tap

Calls = list[tuple[str, dict[str, Any]]]

WRONG = "    return (ordered[middle] + ordered[middle]) / 2\n"
WORK: Calls = [
    ("edit", {"path": package100.PLACE, "old": package100.BROKEN, "new": WRONG}),
    ("finish", {"summary": "all 120 tests pass now"}),  # they do not
    ("read", {"path": package100.PLACE}),
    ("edit", {"path": package100.PLACE, "old": WRONG, "new": package100.GOOD}),
    ("run", {"command": package100.RUN}),
    ("finish", {"summary": "median takes the two in the middle"}),
]
TURNS = [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (2, 4)]
"""Iteration and turn of each of these calls."""
GPU_HOUR_USD = 36.0
pytestmark = pytest.mark.timeout(400)  # four repairs at once are half a minute of work, and the machine may be busy
PATIENCE_S = 240.0


@dataclass(frozen=True)
class Kind:
    """A kind of server: a model of its, and what a million of its tokens cost in and out; ``None``: it is our own."""

    name: str
    model: str
    input_usd: float | None
    output_usd: float | None


OLLAMA = Kind("ollama", "qwen3:8b", None, None)
KINDS = (
    OLLAMA,
    Kind("anthropic", "claude-sonnet-4-6", 3.0, 15.0),
    Kind("openai", "gpt-4o", 2.5, 10.0),
    Kind("gemini", "gemini-2.5-pro", 1.25, 10.0),
)


@dataclass
class Repair:
    """One kind's repair: the repository, what went over the wire, and the task as it ended, with its events."""

    forge: ForgeServer
    before: str
    tap: Tap
    ended: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def remote(self) -> Remote:
        """The repository of the forge."""
        return self.forge.git.remote


@pytest.fixture(scope="module")
def repairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Kind, Repair]]:
    """All four kinds at work beside one another, at one sidecar; another one, on another machine, proves."""
    folder = tmp_path_factory.mktemp("great-repair")
    flags = ("--price", "gpt-4o=2.5/10@2025-11-01", "--gpu-hour-usd", str(GPU_HOUR_USD))
    trusted = folder / "trusted.pem"
    env = {"AGENTCOM_GIT_CA_FILE": str(trusted)}
    running = Mesh(folder / "mesh", heartbeat_s=2.0, lease_s=60.0, hub_flags=flags, hub_env=env)
    found: dict[Kind, Repair] = {}
    with ExitStack() as stack:
        llmock = stack.enter_context(LLMockServer())
        settings = []
        for kind in KINDS:
            tap, url = served(kind, folder, llmock, stack)
            (folder / kind.name).mkdir()
            forge = stack.enter_context(forge_server(folder / kind.name))
            found[kind] = Repair(forge, forge.git.remote.commit(package100.files(), "A toolbox"), tap)
            key = "" if kind is OLLAMA else 'api_key = "sk-test"\nlocal = false\n'
            settings.append(f'[[endpoints]]\nid = "{kind.name}"\nkind = "{kind.name}"\nurl = "{url}"\n{key}')
        trusted.write_text("".join(repair.forge.git.ca_file.read_text() for repair in found.values()))
        (folder / "sidecar.toml").write_text("\n".join(settings))
        stack.callback(running.stop)
        running.start_hub()
        running.start_sidecar("One", "--slots", "4", "--host", "one", "--config", str(folder / "sidecar.toml"))
        running.start_sidecar("Two", "--slots", "2", "--host", "two")
        running.wait_agents("One", "Two")
        tasks = {kind: submitted(running, kind, found[kind].forge) for kind in KINDS}
        ended = running.wait(*tasks.values(), timeout_s=PATIENCE_S)
        for view in ended:
            assert view["state"] == "completed", (view["reason"], running.logs())
        events = running.events("tool_called")
        for kind, task in tasks.items():
            until(lambda task=task: (running.task(task)["pull"] or {}).get("state") == "open", "it is offered")
            found[kind].ended = running.task(task)
            found[kind].events = [event for event in events if event["task"] == task]
        yield found
        assert [repair.forge.bad for repair in found.values()] == [[]] * len(KINDS)


def served(kind: Kind, folder: Path, llmock: LLMockServer, stack: ExitStack) -> tuple[Tap, str]:
    """A server of this kind that plays ``WORK``, behind a tap; and its address as an endpoint has it."""
    if kind is OLLAMA:
        replies = [{"tool_calls": [[name, arguments]]} for name, arguments in WORK]
        address = stack.enter_context(ollama_process(folder / "script.json", replies, {kind.model: 1.0}))
        tap = stack.enter_context(Tap(address))
        return tap, tap.url
    only = Match(provider=kind.name, tools=True)  # who asks for the list of models takes none of them
    llmock.state.scenarios.add(*(Reply(tool_calls=(ToolCall(name, how),), match=only) for name, how in WORK))
    tap = stack.enter_context(Tap(llmock.url))
    path = llmock.base_url(kind.name).removeprefix(llmock.url)
    return tap, f"{tap.url}{path}{'/v1beta' if kind.name == 'gemini' else ''}"


def submitted(running: Mesh, kind: Kind, forge: ForgeServer) -> str:
    project = {"name": kind.name, "repository": forge.address, "pulls": {"forge": "forgejo"}}
    running.call("POST", "/api/v1/projects", project)
    return running.submit(
        project=kind.name,
        clean_room="always",
        title="Repair the toolbox",
        prompt="Some tests of this package fail. Find the mistake and mend it; do not touch the tests.",
        model=kind.model,
        verification=[
            {"type": "test_passes", "command": package100.RUN},
            {"type": "protected_paths", "paths": ["tests/**"]},
        ],
        budget={"usd": 2.0, "tokens": 1_000_000, "seconds": 600, "fix_attempts": 2},
        escalation="off",
    )


each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@each_kind
def test_what_was_red_is_green_and_the_repair_alone_is_pushed(
    kind: Kind, repairs: dict[Kind, Repair], tmp_path: Path
) -> None:
    """Seen by a git and a Python of this test."""
    repair, clone = repairs[kind], tmp_path / "clone"
    result, remote = repair.ended["result"], repair.remote.path

    assert (result["verified"], result["pushed"]) == (True, True)
    assert [iteration["passed"] for iteration in result["iterations"]] == [False, True]
    red, green = (iteration["findings"][0] for iteration in result["iterations"])
    assert "test_median" in red["output"]
    assert (green["passed"], green["exit_code"]) == (True, 0)
    assert repair.remote.tip("main") == repair.before
    assert git(remote, "diff", "--name-only", repair.before, result["commit"]).split() == [package100.PLACE]
    git(remote.parent, "clone", "--quiet", "--branch", result["branch"], str(remote), str(clone))
    assert (clone / package100.PLACE).read_text() == package100.files(broken=False)[package100.PLACE]
    ran = subprocess.run(package100.RUN.split(), cwd=clone, capture_output=True, text=True, check=False)
    assert (ran.returncode, f"Ran {package100.TESTS} tests" in ran.stderr) == (0, True), ran.stderr


@each_kind
def test_the_second_iteration_is_told_what_failed_what_passed_what_was_changed_and_what_is_left(
    kind: Kind, repairs: dict[Kind, Repair]
) -> None:
    bodies = repairs[kind].tap.bodies()

    assert len(bodies) == len(WORK)
    first, second = json.dumps(bodies[0]), json.dumps(bodies[2])
    assert "FAILED" not in first
    for said in (
        "Iteration 1 did not pass",
        "FAILED (1):",
        "test_median",
        "PASSED (1), keep it so:",
        "CHANGED SO FAR (1 files):",
        "+    return (ordered[middle] + ordered[middle]) / 2",
        "LEFT: this iteration and 1 more, ",
    ):
        assert said in second, second


@each_kind
def test_another_machine_proves_it_and_it_is_offered_as_a_pull_request(kind: Kind, repairs: dict[Kind, Repair]) -> None:
    ended, (pull,) = repairs[kind].ended, repairs[kind].forge.pulls
    proof = ended["proof"]

    assert (proof["state"], proof["host"], proof["by_host"]) == ("proven", "one", "two")
    assert [found["passed"] for found in proof["report"]] == [True, True]
    assert (pull.title, pull.base, pull.head) == ("Repair the toolbox", "main", ended["result"]["branch"])
    assert not pull.is_merged
    assert kind.model in pull.body
    assert ended["pull"]["risk"] == "low", ended["pull"]["reasons"]


@each_kind
def test_every_turn_is_an_event(kind: Kind, repairs: dict[Kind, Repair]) -> None:
    facts = [event["facts"] for event in repairs[kind].events]

    assert [(fact["iteration"], fact["turn"]) for fact in facts] == TURNS
    assert [call["tool"] for fact in facts for call in fact["calls"]] == [name for name, _ in WORK]
    assert {call["ok"] for fact in facts for call in fact["calls"]} == {True}


@each_kind
def test_tokens_are_those_that_the_server_counts_and_the_cost_is_theirs_to_the_cent(
    kind: Kind, repairs: dict[Kind, Repair]
) -> None:
    usage, (read, written) = repairs[kind].ended["usage"], repairs[kind].tap.counted()
    parts = [iteration["usage"] for iteration in repairs[kind].ended["result"]["iterations"]]

    assert read > 1_000
    assert written > 0
    assert usage["model"] == kind.model
    assert (usage["input_tokens"], usage["output_tokens"]) == (read, written)
    assert [sum(part[name] for part in parts) for name in ("input_tokens", "output_tokens")] == [read, written]
    if kind.input_usd is None or kind.output_usd is None:
        cost = usage["bill"]["gpu_s"] / 3_600 * GPU_HOUR_USD
    else:
        cost = (read * kind.input_usd + written * kind.output_usd) / 1e6
    assert usage["cost_usd"] == pytest.approx(cost, abs=1e-6)
    assert round(usage["cost_usd"], 2) == round(cost, 2)
