"""``agentcom alerts`` against a hub that has something to say."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from agentcom.cli import run
from tests.support.pager import pager_at_work
from tests.support.running_hub import PATIENCE_S, RunningHub, running_hub

Say = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    """A hub at which a task waits that nobody can do; it has just been started again, and so looks at once."""
    async with running_hub(tmp_path) as first:
        await first.ask("PATCH", "/api/v1/alerts/rules/no_agent_for_tier", json={"for_s": 0})
        await first.ask("POST", "/api/v1/tasks", json={"title": "x", "executor": "noop", "needs": ["moon"]})
    async with running_hub(tmp_path) as running:
        async with asyncio.timeout(PATIENCE_S):
            while not (await (await running.ask("GET", "/api/v1/alerts")).json())["alerts"]:  # noqa: ASYNC110 - asked over HTTP
                await asyncio.sleep(0.1)
        yield running


@pytest.fixture
def say(hub: RunningHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Type a command; its exit status and what it has written to its two outputs."""
    monkeypatch.setenv("AGENTCOM_TOKEN", hub.tokens["operator"])

    async def said(*words: str) -> tuple[int, str, str]:
        status = await asyncio.to_thread(run, ["alerts", *words, "--hub", hub.url])
        return status, *capsys.readouterr()

    return said


async def test_what_is_wrong_is_listed_taken_and_silenced(say: Say) -> None:
    status, shown, _ = await say("ls")
    assert status == 0
    assert "Tasks wait that no agent online can do: 1 of tier" in shown
    assert "what to do: docs/operate/runbooks.md#no_agent_for_tier" in shown
    found = json.loads((await say("ls", "--json"))[1])["alerts"]
    [alert] = [one for one in found if one["rule"] == "no_agent_for_tier"]

    assert (await say("ack", alert["id"]))[:2] == (0, "no_agent_for_tier: acknowledged\n")
    status, shown, _ = await say("silence", alert["id"], "--hours", "2")
    assert (status, shown.startswith("no_agent_for_tier: silent until ")) == (0, True)
    [silent] = json.loads((await say("ls", "--state", "silenced", "--json"))[1])["alerts"]
    assert silent["id"] == alert["id"]
    assert (await say("ls", "--state", "resolved"))[1] == ""

    for verb in ("ack", "silence"):
        status, _, problem = await say(verb, "nothing")
        assert (status, "nothing" in problem) == (2, True)


async def test_rules_are_listed_and_changed(say: Say) -> None:
    status, shown, _ = await say("rules")
    rows = {line.split()[0]: line for line in shown.splitlines()}
    assert status == 0
    assert "changed" in rows["no_agent_for_tier"]
    assert "88 celsius" in rows["host_hot"]

    status, shown, _ = await say("rules", "host_hot", "--threshold", "75", "--for", "5", "--cooldown", "60")
    assert (status, "75 celsius" in shown, "5 s" in shown) == (0, True, True)
    assert "off" in (await say("rules", "host_hot", "--off"))[1]
    assert "changed" in (await say("rules", "host_hot", "--on"))[1]

    assert (await say("rules", "--off"))[0] == 2
    assert (await say("rules", "host_hot", "--threshold", "-1"))[0] == 2
    assert (await say("rules", "no_rule", "--off"))[0] == 2


async def test_who_is_told_is_added_tried_and_removed(say: Say) -> None:
    assert "nobody is told" in "".join((await say("notifiers"))[1:])
    async with pager_at_work() as pager:
        status, shown, _ = await say("notifiers", "--add", f"{pager.url}/t0ken", "--label", "night", "--secret", "s")
        assert (status, "night" in shown, "t0ken" in shown) == (0, True, False)
        [row] = json.loads((await say("notifiers", "--json"))[1])["notifiers"]

        assert (await say("test", row["id"]))[:2] == (0, "delivered\n")
        assert pager.events[-1]["event"] == "test"
        pager.status = 500
        assert (await say("test", row["id"]))[:2] == (1, "not delivered: it answered 500\n")
    assert (await say("notifiers", "--rm", row["id"]))[0] == 0
    assert (await say("test", row["id"]))[0] == 2
    assert (await say("notifiers", "--add", "http://169.254.169.254/"))[0] == 2
