"""The promises of the mesh when links break at a bad moment: no agent is shown that is not there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import aiohttp
import msgpack
import pytest
from aiohttp import web

from hub.clock import SystemClock
from hub.core.agent import Held
from hub.core.fleet import Fleet
from hub.core.window import Window
from hub.gateway.connection import Links
from hub.gateway.server import Gateway
from hub.gateway.socket import Door
from hub.services.presence import Presence
from hub.services.results import Results
from hub.store.sqlite import SqliteStore
from protocol import messages
from protocol.events import Event
from protocol.model import AgentState, AttemptId
from tests.support.foreign_agent import ForeignAgent, hello
from tests.support.running_hub import RunningHub, running_hub
from tests.support.serving import served
from tests.support.strangers import join, submit

PATIENCE_S = 10.0


async def agent_state(hub: RunningHub, name: str = "Foreign") -> str:
    found = await (await hub.ask("GET", f"/api/v1/agents/{name}")).json()
    return str(found["state"])


async def test_a_reconnect_that_fails_half_way_leaves_no_agent_that_looks_alive(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as hub, hub.stream("/api/v1/events") as facts:
        first = await join(hub)
        second = await ForeignAgent.dial(hub.url, hub.tokens["agent"])
        await second.say(hello(hub_boot=first.welcome["hub_boot"], received=10**6))
        await second.until("error", code="protocol_violation")
        await first.closed()
        await second.closed()
        lost = await facts.until("agent_lost")

        assert lost["agent"] == "Foreign"
        assert await agent_state(hub) == "offline"


async def test_of_two_sockets_of_one_start_the_last_one_serves(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as first:
        agent = await join(first)
        await submit(first)
        await agent.until("assign")
    async with running_hub(tmp_path) as hub:
        # The attempt was never accepted: the welcome of the first socket has to fetch it, and is overtaken meanwhile.
        one = await ForeignAgent.dial(hub.url, hub.tokens["agent"])
        two = await ForeignAgent.dial(hub.url, hub.tokens["agent"])
        await one.say(hello())
        await two.say(hello())
        await one.closed()
        await two.until("welcome")
        attempt = (await two.until("assign"))["attempt"]
        await two.tell("accept", attempt)
        await two.until_acknowledged(await two.report(attempt))

        assert await agent_state(hub) == "idle"


# --- a gateway that is quick to lose patience -------------------------------------------------------------------------


@dataclass
class Made:
    """A gateway on a socket, with the parts behind it."""

    url: str
    fleet: Fleet
    links: Links
    events: "asyncio.Queue[Event]"

    async def until(self, kind: str) -> Event:
        """The next event of this kind."""
        async with asyncio.timeout(PATIENCE_S):
            while (event := await self.events.get()).kind != kind:
                pass
        return event


async def resend(_held: Held) -> None:
    """Nothing is ever held here."""


@contextlib.asynccontextmanager
async def door(*, dead_after_s: float | None) -> AsyncIterator[Made]:
    store, clock, fleet = SqliteStore(":memory:"), SystemClock(), Fleet()
    links, events = Links(clock), asyncio.Queue[Event]()

    def committed(found: Sequence[Event]) -> None:
        for event in found:
            events.put_nowait(event)

    await store.open()
    store.on_commit = committed
    results = Results(store, fleet, Window(), clock, Random(1))
    gateway = Gateway(
        links,
        Presence(store, fleet, clock, lease_s=30.0, lose=results.lose, send=links.send),
        results,
        clock,
        hub_boot=1,
        heartbeat_s=0.1,
        lease_s=30.0,
        dead_after_s=dead_after_s,
        resend=resend,
    )
    app = web.Application()
    app.router.add_get("/mesh", Door(gateway, lambda _request: True, clock=clock).accept)
    try:
        async with served(app) as url:
            yield Made(url, fleet, links, events)
    finally:
        await store.close()


@pytest.mark.parametrize("messages_sent", [0, 60], ids=["nothing waits for it", "much waits for it"])
async def test_a_sidecar_that_is_silent_and_reads_nothing_is_given_up(messages_sent: int) -> None:
    async with door(dead_after_s=0.5) as made, aiohttp.ClientSession() as client:
        socket = await client.ws_connect(f"{made.url}/mesh", max_msg_size=0)
        await socket.send_bytes(msgpack.packb(hello()))
        assert isinstance((welcome := msgpack.unpackb(await socket.receive_bytes())), dict)
        assert welcome["t"] == "welcome"
        await made.until("agent_joined")
        # Nobody reads from here on: far more than all buffers between the two ends can hold.
        for number in range(messages_sent):
            attempt = AttemptId("Foreign", 1, f"{number}", 1)
            made.links.send("Foreign", 1, messages.Cancel(attempt=attempt, reason="x" * 900_000))
        lost = await made.until("agent_lost")

        assert lost.agent == "Foreign"
        assert made.fleet.agents["Foreign"].state is AgentState.OFFLINE
        await socket.close()


async def test_a_fleet_with_fast_heartbeats_learns_of_a_silent_sidecar_fast() -> None:
    async with door(dead_after_s=None) as made, aiohttp.ClientSession() as client:
        socket = await client.ws_connect(f"{made.url}/mesh")
        began = asyncio.get_running_loop().time()
        await socket.send_bytes(msgpack.packb(hello()))
        await made.until("agent_lost")

        assert 5.0 <= asyncio.get_running_loop().time() - began < 12.0, "the shortest patience, not 15 s"
        await socket.close()
