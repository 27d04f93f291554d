"""The promises of the mesh to an agent that comes back: nothing is lost, nothing comes twice, no old start returns."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.foreign_agent import ForeignAgent, hello
from tests.support.running_hub import RunningHub, running_hub
from tests.support.strangers import join, kinds, submit, task, until_state


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as made:
        yield made


async def test_a_newer_start_ends_the_older_one_for_good(hub: RunningHub) -> None:
    old = await join(hub, boot=1)
    new = await join(hub, boot=2)
    await old.closed()
    name = await submit(hub)

    assert (await new.until("assign"))["attempt"] == ["Foreign", 2, name, 1]
    late = await ForeignAgent.dial(hub.url, hub.tokens["agent"])
    await late.say(hello(boot=1))
    error = await late.next()
    assert (error["code"], error["fatal"]) == ("evicted", True)


async def test_the_same_start_gets_what_it_has_not_acknowledged_again(hub: RunningHub) -> None:
    agent = await join(hub)
    name = await submit(hub)
    assign = await agent.until("assign")
    await agent.leave()
    back = await join(hub, hub_boot=agent.welcome["hub_boot"], received=0)
    again = await back.until("assign")

    assert again == assign
    assert again["attempt"] == ["Foreign", 1, name, 1]
    assert await kinds(hub, name) == ["task_queued", "task_assigned"]


async def test_what_was_acknowledged_does_not_come_again(hub: RunningHub) -> None:
    agent = await join(hub)
    await submit(hub)
    attempt = await agent.take()
    await agent.leave()
    held = [{"attempt": attempt, "state": "running", "iteration": 1}]
    back = await join(hub, hub_boot=agent.welcome["hub_boot"], received=agent.received, inventory=held, sent=agent.sent)
    second = await submit(hub)

    assert [v["verdict"] for v in back.welcome["verdicts"]] == ["keep"]
    assert (await back.until("assign"))["attempt"][2] == second
    await back.until_acknowledged(await back.report(attempt))


async def test_a_welcome_that_was_lost_costs_no_second_assignment(hub: RunningHub) -> None:
    agent = await join(hub)
    name = await submit(hub)
    await agent.until("assign")
    await agent.leave()
    back = await join(hub)  # it never learned of this hub, so it names none
    assert (await back.until("assign"))["attempt"] == ["Foreign", 1, name, 1]
    await back.say({"t": "ping", "token": 5})
    following = await back.next()

    assert following == {"t": "pong", "token": 5}


async def test_a_new_start_that_lists_nothing_loses_what_the_old_one_held(hub: RunningHub) -> None:
    agent = await join(hub, boot=1)
    name = await submit(hub)
    await agent.take()
    back = await join(hub, boot=2)

    assert (await back.until("assign"))["attempt"] == ["Foreign", 2, name, 2]
    assert "attempt_lost" in await kinds(hub, name)


async def test_a_new_start_that_still_has_the_work_keeps_it(hub: RunningHub) -> None:
    agent = await join(hub, boot=1)
    name = await submit(hub)
    attempt = await agent.take()
    await until_state(hub, name, "running")
    back = await join(hub, boot=2, inventory=[{"attempt": attempt, "state": "running", "iteration": 1}])

    assert back.welcome["verdicts"] == [{"attempt": attempt, "verdict": "keep"}]
    await back.until_acknowledged(await back.report(attempt))
    assert (await task(hub, name))["state"] == "completed"


async def test_every_attempt_of_an_inventory_gets_its_verdict(hub: RunningHub) -> None:
    other = await join(hub, name="Other")
    theirs = await submit(hub)
    await other.take()
    agent = await join(hub, capabilities=["executor:shell"])
    mine = await submit(hub, executor="shell", command="true")
    attempt = await agent.take()
    await until_state(hub, mine, "running")
    await agent.leave()
    ids = [attempt, ["Foreign", 1, mine, 9], ["Foreign", 1, theirs, 1], ["Foreign", 1, "0" * 26, 1]]
    inventory = [{"attempt": a, "state": "running", "iteration": 1} for a in ids]
    back = await join(hub, inventory=inventory, hub_boot=agent.welcome["hub_boot"], received=agent.received)

    assert [(v["attempt"], v["verdict"]) for v in back.welcome["verdicts"]] == list(
        zip(ids, ["keep", "stop", "stop", "unknown"], strict=True)
    )


async def test_a_restarted_hub_sends_an_assignment_again_that_was_never_accepted(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as first:
        agent = await join(first)
        name = await submit(first)
        assign = await agent.until("assign")
    await agent.closed()
    async with running_hub(tmp_path) as second:
        back = await join(second, hub_boot=agent.welcome["hub_boot"], received=1)
        again = await back.until("assign")

        assert back.welcome["hub_boot"] > agent.welcome["hub_boot"]
        assert (again["attempt"], again["spec"], again["n"]) == (assign["attempt"], assign["spec"], 1)
        await back.tell("accept", again["attempt"])
        await back.until_acknowledged(await back.report(again["attempt"]))
        assert (await task(second, name))["state"] == "completed"


async def test_a_report_that_a_dead_hub_never_acknowledged_is_taken_by_the_next_one(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as first:
        agent = await join(first)
        name = await submit(first)
        attempt = await agent.take()
        await until_state(first, name, "running")
    held = [{"attempt": attempt, "state": "passed", "iteration": 1}]
    async with running_hub(tmp_path) as second:
        back = await join(second, inventory=held)
        assert [v["verdict"] for v in back.welcome["verdicts"]] == ["keep"]
        await back.until_acknowledged(await back.report(attempt, output="kept"))

        assert (await task(second, name))["result"]["output"] == "kept"


async def test_a_lost_agent_costs_time_and_no_task(tmp_path: Path) -> None:
    async with running_hub(tmp_path, heartbeat_s=0.5, lease_s=2.0) as hub:
        agent = await join(hub)
        name = await submit(hub)
        await agent.take()
        await agent.leave()
        other = await join(hub, name="Other")

        assert (await other.until("assign"))["attempt"] == ["Other", 1, name, 2]
