"""What the commands ask for that show the same as a view of the dashboard."""

import asyncio

import pytest

from agentcom.cli import run
from tests.unit.agentcom.conftest import Script, replies, streams

PIECE = (
    'data: {"seq":1,"at":"2026-01-01T00:00:00Z","epoch":1,"stream":"stdout","text":"one\\ntwo\\u001b[2J",'
    '"task":"t","title":"build","agent":"One"}\n\n'
)
GROUP = {
    "name": "qwen3:8b", "attempts": 3, "input_tokens": 1_200, "output_tokens": 30, "cached_input_tokens": 0,
    "cost_usd": 0.25, "unpriced": 0, "seconds": 12.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCOM_TOKEN", "acm_x")


async def test_tasks_are_filtered_as_in_the_dashboard(script: Script) -> None:
    script.then(replies({"tasks": [], "next_cursor": None}))
    words = ["--priority", "high", "--priority", "low", "--tier", "complex", "--model", "m", "--find", "a b"]
    status = await asyncio.to_thread(run, ["tasks", "ls", "--hub", script.url, "--label", "k=v", *words])

    asked = dict(script.requests[0].query)
    assert status == 0
    assert asked == {
        "priority": "high,low", "tier": "complex", "model": "m", "q": "a b", "label": "k:v", "limit": "50",
    }  # fmt: skip


async def test_what_all_tasks_write_is_followed_and_moves_no_cursor(
    script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    script.then(streams(PIECE), replies({"title": "over"}, status=401))
    await asyncio.to_thread(run, ["tasks", "logs", "--follow", "--hub", script.url, "--agent", "One", "--find", "two"])

    assert script.requests[0].path == "/api/v1/logs"
    assert {"agent": "One", "q": "two"}.items() <= dict(script.requests[0].query).items()
    assert capsys.readouterr().out == "One build: one\nOne build: two[2J\n"


@pytest.mark.parametrize(
    "words, why",
    [(["tasks", "logs"], "Missing argument 'TASK'"), (["tasks", "logs", "01abc", "--find", "x"], "leave out TASK")],
)
async def test_output_of_no_task_or_of_both_is_refused(
    script: Script, words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await asyncio.to_thread(run, [*words, "--hub", script.url]) == 2
    assert why in capsys.readouterr().err


async def test_use_is_listed_by_whom(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    script.then(replies({"by": "model", "step_s": 3_600, "groups": [GROUP]}))
    assert await asyncio.to_thread(run, ["budgets", "usage", "--hub", script.url, "--by", "model", "--days", "2"]) == 0

    assert script.requests[0].path == "/api/v1/usage"
    assert {"by", "since"} == set(script.requests[0].query)
    assert "qwen3:8b  $0.2500  3" in capsys.readouterr().out


async def test_events_of_one_kind_are_listed(script: Script) -> None:
    script.then(replies({"events": [], "next_cursor": None, "floor": 0, "newest": 0}))
    assert await asyncio.to_thread(run, ["events", "--hub", script.url, "--kind", "task_dead"]) == 0

    assert script.requests[0].query["kind"] == "task_dead"
