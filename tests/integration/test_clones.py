"""A key that is in use twice: neither of the two gets work until a person decides. A restart is none of that."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import websockets

from sidecar.dial import HubRefused
from tests.support.foreign_agent import ForeignAgent
from tests.support.joiner import API, Machine, link_of
from tests.support.links import Notebook, running
from tests.support.running_hub import RunningHub, running_hub
from tests.support.strangers import submit, task, until_state


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as made:
        yield made


@contextlib.asynccontextmanager
async def alive(agent: ForeignAgent) -> AsyncIterator[None]:
    """Answer what the hub asks, as a sidecar that lives does, and do the work that comes."""

    async def live() -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                message = await agent.next_ever()
                if message["t"] == "ping":
                    await agent.say({"t": "pong", "token": message["token"]})
                elif message["t"] == "assign":
                    await agent.tell("accept", message["attempt"])
                    await agent.report(message["attempt"], output="done")
                    await agent.acknowledge()

    living = asyncio.create_task(live())
    try:
        yield
    finally:
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)


async def agent_of(hub: RunningHub, name: str = "Arbitrary") -> dict[str, Any]:
    found: dict[str, Any] = await (await hub.ask("GET", f"{API}/agents/{name}")).json()
    return found


async def events(hub: RunningHub, *kinds: str) -> list[str]:
    answer = await hub.ask("GET", f"{API}/events?limit=500", headers={"Accept": "application/json"})
    return [event["kind"] for event in (await answer.json())["events"] if event["kind"] in kinds]


async def refusal(hub: RunningHub, machine: Machine, boot: int, **more: Any) -> str:
    agent = await ForeignAgent.dial(hub.url, machine.token)
    word = await machine.greet(agent, boot, **more)
    assert (word["t"], word["fatal"]) == ("error", True)
    return f"{word['code']}: {word['detail']}"


@pytest.mark.parametrize(
    "second",
    [{"boot": 9, "instance": "one"}, {"boot": 3, "instance": "one"}, {"boot": 5, "instance": "two"}],
    ids=["newer", "older", "other"],
)
async def test_a_copy_of_a_machine_at_work_stops_both_until_a_person_decides(
    hub: RunningHub, second: dict[str, Any]
) -> None:
    machine = await Machine(signs=True).join(hub, "Arbitrary")
    first = await machine.dial(hub, 5, instance="one")
    async with alive(first):
        said = await refusal(hub, machine, **second, host="thief")
        name = await submit(hub, needs=["machine:Arbitrary"])
        found = await agent_of(hub)
        why = await (await hub.ask("GET", f"{API}/tasks/{name}/explain")).json()
        health = (await (await hub.ask("GET", f"{API}/health")).json())["components"]["agents"]

        assert said.startswith("cloned: another sidecar has the key of 'Arbitrary', on elsewhere (boot 5)")
        assert "agentcom agents release Arbitrary" in said
        assert (found["state"], found["boot_epoch"]) == ("blocked", 5)
        assert found["quarantine"] == f"its key is in use on elsewhere (boot 5) and on thief (boot {second['boot']})"
        assert (await task(hub, name))["state"] == "queued"
        assert "is in quarantine, because its key is in use twice" in str(why)
        assert (health["state"], "in quarantine" in health["detail"]) == ("degraded", True)
        assert (await refusal(hub, machine, **second, host="thief")).startswith("cloned")
        assert await events(hub, "agent_cloned", "agent_quarantined") == ["agent_cloned", "agent_quarantined"]

        assert (await hub.ask("POST", f"{API}/agents/Arbitrary/release", role="viewer")).status == 403
        released = await (await hub.ask("POST", f"{API}/agents/Arbitrary/release", role="operator")).json()
        await until_state(hub, name, "completed")

    assert (released["quarantine"], released["alarm"]) == ("", "")


@pytest.mark.parametrize("second", [{"boot": 9, "instance": "one"}, {"boot": 2, "instance": "two"}])
async def test_a_start_whose_socket_stands_though_it_is_dead_makes_room_for_the_next(
    hub: RunningHub, second: dict[str, Any]
) -> None:
    machine = await Machine(signs=True).join(hub, "Arbitrary")
    first = await machine.dial(hub, 5, instance="one")  # it answers nothing: its machine has lost power
    next_one = await machine.dial(hub, **second)
    found = await agent_of(hub)

    assert await events(hub, "agent_cloned", "agent_quarantined") == []
    assert (found["boot_epoch"], found["quarantine"], found["alarm"]) == (second["boot"], "", "")
    await next_one.leave()
    await first.leave()


async def test_a_machine_that_restarts_again_and_again_is_no_clone(hub: RunningHub) -> None:
    machine = await Machine(signs=True).join(hub, "Arbitrary")
    for boot in range(1, 6):
        agent = await machine.dial(hub, boot, instance="one")
        agent.socket.transport.abort()  # as the kernel does for a process that was killed

    assert await events(hub, "agent_cloned", "agent_quarantined") == []


async def test_quarantine_outlives_the_hub_and_whoever_is_released_comes_as_what_it_is(tmp_path: Path) -> None:
    machine = Machine(signs=True)
    async with running_hub(tmp_path) as hub:
        await machine.join(hub, "Arbitrary")
        newer = await machine.dial(hub, 9, instance="one")
        assert (await refusal(hub, machine, 5, instance="one")).startswith("cloned")
        await newer.leave()
    async with running_hub(tmp_path) as hub:
        agent = await machine.dial(hub, 10, instance="one")
        assert (await agent_of(hub))["state"] == "blocked"
        await agent.leave()
        async with hub.stream(f"{API}/events?after=0") as facts:
            await facts.until("agent_lost")
            while (await agent_of(hub))["state"] != "offline":
                await facts.next()
        assert (await hub.ask("POST", f"{API}/agents/Arbitrary/release")).status == 200
        older = await machine.dial(hub, 5, instance="one")  # the copy had the newer start; it is gone

        assert (await agent_of(hub))["quarantine"] == ""
        await older.leave()


async def test_a_name_in_quarantine_is_not_forgotten(tmp_path: Path) -> None:
    machine = Machine(signs=True)
    async with running_hub(tmp_path) as hub:
        await machine.join(hub, "Arbitrary")
        first = await machine.dial(hub, 9, instance="one")
        assert (await refusal(hub, machine, 5, instance="one")).startswith("cloned")
        await first.leave()
        async with hub.stream(f"{API}/events?after=0") as facts:
            await facts.until("agent_lost")
            while (await agent_of(hub))["state"] != "offline":
                await facts.next()
        removed = await hub.ask("DELETE", f"{API}/agents/Arbitrary", role="operator")

        assert (removed.status, "agentcom agents release Arbitrary" in await removed.text()) == (409, True)
        again = await machine.dial(hub, 10, instance="one")
        assert (await agent_of(hub))["state"] == "blocked"
        await again.leave()


async def test_a_copy_of_a_sidecar_that_is_started_ends_and_says_what_to_do_while_the_first_stays(
    hub: RunningHub, tmp_path: Path
) -> None:
    machine = await Machine(signs=True).join(hub, "Arbitrary")
    first = link_of(hub, machine, tmp_path / "state")
    async with running(first, Notebook()):
        await first.online.wait()
        with pytest.raises(HubRefused, match="agentcom agents release Arbitrary") as told:
            await link_of(hub, machine, tmp_path / "copy", boot=8).run(Notebook())

        assert told.value.reason == "cloned"
        assert first.online.is_set()
        assert (await agent_of(hub))["state"] == "blocked"
