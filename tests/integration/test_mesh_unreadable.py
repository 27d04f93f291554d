"""A message that the hub cannot read ends what it was about, and nothing that comes behind it waits for it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.foreign_agent import ForeignAgent
from tests.support.running_hub import RunningHub, running_hub
from tests.support.strangers import join, submit, task, until_state

LONG = {"execution_ok": True, "verified": None, "commit": "c" * 3_000}


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as made:
        yield made


async def back(hub: RunningHub, agent: ForeignAgent, *held: Any) -> ForeignAgent:
    """The same start of it again, after its line was closed."""
    await agent.closed()
    inventory = [{"attempt": attempt, "state": "running"} for attempt in held]
    known = {"hub_boot": agent.welcome["hub_boot"], "received": agent.received}
    return await join(hub, inventory=inventory, sent=agent.sent, **known)


async def test_a_report_that_cannot_be_read_fails_its_attempt_and_the_next_one_gets_through(hub: RunningHub) -> None:
    agent = await join(hub)
    bad, good = await submit(hub, max_retries=0), await submit(hub)
    attempts = {attempt[2]: attempt for attempt in (await agent.take(), await agent.take())}
    await agent.tell("report", attempts[bad], state="passed", result=LONG)
    number = await agent.report(attempts[good], output="done")
    refused = await agent.until("error", fatal=True)
    again = await back(hub, agent, attempts[good])
    # As every sender does: what the hub has not confirmed comes once more.
    for late in range(again.welcome["received"] + 1, number + 1):
        body = LONG if late < number else {"execution_ok": True, "verified": None, "output": "done"}
        about = attempts[bad] if late < number else attempts[good]
        await again.say({"t": "report", "n": late, "attempt": about, "state": "passed", "result": body})
    await again.until_acknowledged(number)

    assert refused["code"] == "malformed_frame"
    assert (await until_state(hub, good, "completed"))["result"]["output"] == "done"
    [first, *_] = (await task(hub, bad))["attempts"]
    assert (first["state"], first["failure"]) == ("failed", "infra")
    assert first["reason"].startswith("its report cannot be read: Expected `str` of length <= 2048 - at")
    assert "result" not in first or first["result"] is None


async def test_a_refusal_that_cannot_be_read_gives_the_task_back(hub: RunningHub) -> None:
    agent = await join(hub)
    name = await submit(hub)
    attempt = (await agent.until("assign"))["attempt"]
    await agent.tell("reject", attempt, code="x" * 5_000, reason="no")
    await agent.until("error", fatal=True)
    again = await back(hub, agent)
    second = await again.take()
    await again.until_acknowledged(await again.report(second, output="done"))

    assert second[2:] == [name, 2]
    assert (await until_state(hub, name, "completed"))["attempts"][0]["reason"].startswith("its reject cannot be read")


async def test_of_another_agents_attempt_it_ends_nothing(hub: RunningHub) -> None:
    owner = await join(hub)
    await submit(hub)
    attempt = await owner.take()
    thief = await join(hub, name="Thief", boot=2)
    await thief.tell("report", attempt, state="passed", result=LONG)
    await thief.until("error", fatal=True)
    await owner.until_acknowledged(await owner.report(attempt, output="done"))

    assert (await until_state(hub, attempt[2], "completed"))["result"]["output"] == "done"


async def test_what_tells_no_end_is_passed_over_and_the_work_goes_on(hub: RunningHub) -> None:
    agent = await join(hub)
    name = await submit(hub)
    attempt = await agent.take()
    await agent.tell("log", attempt, offset=-1, stream="stdout", text="x")
    await agent.until("error", fatal=True)
    again = await back(hub, agent, attempt)
    await again.until_acknowledged(await again.report(attempt, output="done"))

    assert again.welcome["verdicts"] == [{"attempt": attempt, "verdict": "keep"}]
    done = await until_state(hub, name, "completed")
    assert len(done["attempts"]) == 1
