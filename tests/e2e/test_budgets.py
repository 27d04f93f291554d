"""Budgets over a day, end to end: real processes, the public interface only."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.mesh import Mesh, Refused, mesh, ollama_process, until

if TYPE_CHECKING:
    from llmock.pytest_plugin import LLMock


def cli(running: Mesh, *words: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "AGENTCOM_TOKEN": running.token()}
    command = [sys.executable, "-m", "agentcom", *words, "--hub", running.url]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def explained(running: Mesh, task: str) -> dict[str, Any]:
    return dict(running.call("GET", f"/api/v1/tasks/{task}/explain"))


def test_work_waits_for_the_budget_of_the_day_over_a_restart_and_goes_on_when_it_is_settled(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with mesh(tmp_path / "mesh", "One", flags=("--slots", "2"), lease_s=20.0) as running:
        assert cli(running, "budgets", "set", "hub", "--seconds", "1000").returncode == 0
        first = running.submit(command=f"until [ -e {go} ]; do sleep 0.05; done")
        running.wait_state(first, "running")
        second = running.submit(command="true")

        said = explained(running, second)
        assert "the budget of hub has 100 s of 1,000 s left today, and it may use 900 s" in said["summary"]
        assert any("agentcom budgets set hub --seconds N" in way for way in said["unblock"])
        running.kill(running.hub)
        running.start_hub()
        running.wait_agents("One", state="working")
        assert "the budget of hub" in explained(running, second)["summary"]
        go.touch()
        ended = running.wait(first, second)

        [budget] = running.call("GET", "/api/v1/budgets")["budgets"]
        listed = cli(running, "budgets").stdout
    assert [task["state"] for task in ended] == ["completed", "completed"]
    assert budget["reserved"] == {"tokens": 0, "usd": 0.0, "seconds": 0.0}
    used = sum(task["usage"]["seconds"] for task in ended)
    assert used <= budget["spent"]["seconds"] < used + 0.01
    assert "hub     seconds  16m40s" in listed


@contextlib.contextmanager
def claude(folder: Path, llmock: "LLMock") -> Iterator[Mesh]:
    """A hub and a sidecar that may ask Claude."""
    env = {"ANTHROPIC_API_KEY": "sk-ant-test", "ANTHROPIC_BASE_URL": llmock.base_url("anthropic")}
    running = Mesh(folder)
    try:
        running.start_hub()
        running.start_sidecar("One", env=env)
        running.wait_agents("One")
        yield running
    finally:
        running.stop()


def test_money_is_spent_to_the_cent_and_no_further_by_submitter_and_hub(tmp_path: Path, llmock: "LLMock") -> None:
    llmock.reply("An answer that costs something.", times=None)
    with claude(tmp_path, llmock) as running:
        submitter = running.token().split("_")[1]
        running.call("PUT", "/api/v1/budgets/hub", {"usd": 5.0})
        running.call("PUT", f"/api/v1/budgets/submitter:{submitter}", {"usd": 0.75})
        work = {
            "prompt": "Design a distributed lock that survives a race.",
            "executor": "chat",
            "complexity": "complex",
        }
        [first] = running.wait(running.submit(**work, budget={"usd": 0.75}))
        second = running.submit(**work, budget={"usd": 0.75})
        until(lambda: "the budget of submitter" in explained(running, second)["summary"], "it waits for its budget")
        budgets = {each["id"]: each for each in running.call("GET", "/api/v1/budgets")["budgets"]}
        third = running.submit(**work, budget={"usd": 0.5})  # a smaller one still fits
        [ended] = running.wait(third)
        running.call("PUT", f"/api/v1/budgets/submitter:{submitter}", {"usd": 2.0})
        running.wait(second)

    cost = first["usage"]["cost_usd"]
    assert ended["state"] == "completed"
    assert cost > 0
    assert [round(each["spent"]["usd"], 6) for each in budgets.values()] == [pytest.approx(cost, abs=2e-6)] * 2


def test_a_budget_can_be_set_by_operators_read_by_all_and_is_told_of(tmp_path: Path) -> None:
    with mesh(tmp_path) as running:
        wrong = cli(running, "budgets", "set", "team:x", "--usd", "1")
        unknown = cli(running, "budgets", "set", "project:nope", "--usd", "1")
        nothing = cli(running, "budgets", "set", "hub")
        kept = cli(running, "budgets", "set", "hub", "--usd", "2.5", "--tokens", "1000", "--json")
        gone = cli(running, "budgets", "rm", "hub")
        with pytest.raises(Refused) as missing:
            running.call("GET", "/api/v1/budgets/hub")
        told = [(event["kind"], event["facts"]["budget"]) for event in running.events() if "budget" in event["kind"]]

    assert (wrong.returncode, unknown.returncode, nothing.returncode) == (2, 2, 2)
    assert "a budget is named hub, submitter:TOKEN_ID or project:NAME" in wrong.stderr
    assert "there is no project 'nope'" in unknown.stderr
    assert json.loads(kept.stdout)["left"] == {"tokens": 1000, "usd": 2.5, "seconds": None}
    assert (gone.returncode, missing.value.status) == (0, 404)
    assert told == [("budget_set", "hub"), ("budget_removed", "hub")]


def test_a_budget_in_dollars_is_not_spent_on_a_model_whose_price_nobody_knows(tmp_path: Path, llmock: "LLMock") -> None:
    llmock.reply("An answer.", times=None)
    running = Mesh(tmp_path, hub_flags=("--price", "priced=1000/2000@2025-11-01"))
    endpoint = {"kind": "openai", "url": llmock.base_url("openai"), "local": False}
    work = {"prompt": "Answer.", "executor": "chat", "escalation": "off"}
    try:
        running.start_hub()
        running.start_sidecar("One")
        running.wait_agents("One")
        running.call("POST", "/api/v1/endpoints", {**endpoint, "id": "far", "default_model": "odd"})
        [refused] = running.wait(running.submit(**work, budget={"usd": 5.0}))
        [unbounded] = running.wait(running.submit(**work))
        running.call("PATCH", "/api/v1/endpoints/far", {"default_model": "priced"})
        [priced] = running.wait(running.submit(**work, budget={"usd": 5.0}))
        shown = cli(running, "tasks", "show", priced["id"]).stdout
    finally:
        running.stop()

    assert (refused["state"], refused["result"]["error_code"]) == ("failed", "unpriced")
    assert "no price is known for model odd on far" in refused["result"]["error"]
    assert refused["usage"]["input_tokens"] == 0
    assert unbounded["usage"]["cost_usd"] is None
    usage = priced["usage"]
    assert usage["cost_usd"] == pytest.approx((usage["input_tokens"] * 1000 + usage["output_tokens"] * 2000) / 1e6)
    assert "$1000 in, $2000 out a million tokens; by the hub's settings, 2025-11-01" in shown


def test_a_model_that_burns_tokens_is_stopped_within_one_call(tmp_path: Path) -> None:
    calls = [{"tool_calls": [["read", {"path": f"f{number}"}]]} for number in range(60)]
    with ollama_process(tmp_path / "script.json", calls, {"burner:1b": 1.0}) as address:
        running = Mesh(tmp_path, hub_flags=("--gpu-hour-usd", "36"))
        try:
            running.start_hub()
            running.start_sidecar("One", env={"OLLAMA_HOST": address})
            running.wait_agents("One")
            work = {"prompt": "Read on.", "executor": "agent", "escalation": "off"}
            [ended] = running.wait(running.submit(**work, budget={"tokens": 3_000}))
        finally:
            running.stop()

    used = ended["usage"]["input_tokens"] + ended["usage"]["output_tokens"]
    assert (ended["state"], ended["result"]["error_code"]) == ("failed", "budget_spent")
    assert 3_000 <= used < 6_000  # one call holds the whole conversation once more
    bill = ended["usage"]["bill"]
    assert (bill["price"]["gpu_hour_usd"], bill["price"]["source"]) == (36.0, "the hub's settings")
    assert ended["usage"]["cost_usd"] == pytest.approx(0.01 * bill["gpu_s"], abs=1e-5)


def test_work_for_an_endpoint_waits_for_its_quota_and_goes_on_when_there_is_room(
    tmp_path: Path, llmock: "LLMock"
) -> None:
    llmock.reply("An answer.", times=None)
    running = Mesh(tmp_path)
    endpoint = {"kind": "openai", "url": llmock.base_url("openai"), "local": False, "default_model": "m", "id": "far"}
    work = {"prompt": "Answer.", "executor": "chat", "escalation": "off"}
    try:
        running.start_hub()
        running.start_sidecar("One")
        running.wait_agents("One")
        running.call("POST", "/api/v1/endpoints", endpoint)
        changed = cli(running, "endpoints", "change", "far", "--rpm", "2", "--tpm", "1000000", "--json")
        refused = cli(running, "endpoints", "change", "far", "--rpm", "-1")
        running.kill(running.hub)
        running.start_hub()
        running.wait_agents("One")
        first = running.wait(*(running.submit(**work) for _ in range(2)))
        third = running.submit(**work)
        said = explained(running, third)
        listed = cli(running, "endpoints").stdout
        running.call("PATCH", "/api/v1/endpoints/far", {"rpm": 0})
        [ended] = running.wait(third)
    finally:
        running.stop()

    assert json.loads(changed.stdout)["rpm"] == 2
    assert refused.returncode == 2
    assert [task["state"] for task in (*first, ended)] == ["completed"] * 3
    assert said["summary"].startswith(
        "endpoint far has no room: its quota of 2 requests a minute is used; its turn comes on One in about "
    )
    assert 0 < said["starts_in_s"] <= 60
    assert "2 requests, 1,000,000 tokens" in listed
