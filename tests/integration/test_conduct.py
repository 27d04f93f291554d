"""A sidecar that breaks the protocol again and again is kept away for a while; others are not."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.core.conduct import FREE
from tests.support.foreign_agent import ForeignAgent, hello
from tests.support.running_hub import RunningHub, running_hub
from tests.support.strangers import join


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as made:
        yield made


async def test_who_breaks_the_protocol_again_and_again_is_shut_out_and_others_are_not(hub: RunningHub) -> None:
    waits = []
    for number in range(FREE + 1):
        agent = await join(hub, name="Odd", boot=number + 1)
        await agent.socket.send(b"\xc1")
        refused = await agent.until("error")
        assert refused["code"] == "malformed_frame"
        waits.append(refused.get("retry_after_s", 0.0))
        await agent.closed()
    again = await ForeignAgent.dial(hub.url, hub.tokens["agent"])
    await again.say(hello(name="Odd", boot=FREE + 2))
    told = await again.until("error")
    other = await join(hub, name="Even")
    shown = await (await hub.ask("GET", "/api/v1/agents/Odd")).json()
    events = await (
        await hub.ask("GET", "/api/v1/events?kind=agent_violated", headers={"Accept": "application/json"})
    ).json()

    assert waits == [0.0] * FREE + [2.0]
    assert (told["code"], told["fatal"]) == ("throttled", True)
    assert 0.0 < told["retry_after_s"] <= 2.0
    assert other.welcome["protocol"] == 1
    assert (shown["violations"], shown["shut_out_until"] is None) == (FREE + 1, False)
    assert [event["facts"]["count"] for event in events["events"]] == list(range(1, FREE + 2))
    assert 'agentcom_violations_total{code="malformed_frame"} 4.0' in await (await hub.ask("GET", "/metrics")).text()
