"""A hub and the strangers that talk to it: what tests of the mesh ask again and again."""

from typing import Any

from tests.support.foreign_agent import ForeignAgent, Plain
from tests.support.running_hub import RunningHub


async def submit(hub: RunningHub, **spec: Any) -> str:
    """Submit a task of nothing, or with more in its spec; its id."""
    answer = await hub.ask("POST", "/api/v1/tasks", json={"title": "x", "executor": "noop", **spec})
    assert answer.status == 201, await answer.text()
    return str((await answer.json())["id"])


async def task(hub: RunningHub, name: str) -> Plain:
    """A task, whole, as people see it."""
    found: Plain = await (await hub.ask("GET", f"/api/v1/tasks/{name}")).json()
    return found


async def kinds(hub: RunningHub, name: str) -> list[str]:
    """Kinds of the events of a task, in order."""
    events = await (await hub.ask("GET", f"/api/v1/tasks/{name}/events")).json()
    return [event["kind"] for event in events["events"]]


async def until_state(hub: RunningHub, name: str, state: str) -> Plain:
    """Wait for the fact that a task is in this state; the task."""
    async with hub.stream(f"/api/v1/tasks/{name}/events") as facts:
        while (found := await task(hub, name))["state"] != state:
            await facts.next()
    return found


async def join(hub: RunningHub, **more: Any) -> ForeignAgent:
    """An agent that was welcomed; ``more`` goes into its hello."""
    return await ForeignAgent.join(hub.url, hub.tokens["agent"], **more)
