"""The promises of forgetting an agent by hand: never one that is there, or that has work in hand."""

from pathlib import Path

from hub.store.changes import PutAgent
from tests.support.running_hub import running_hub


async def test_an_agent_that_is_gone_can_be_forgotten_and_no_other(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as hub:
        unknown = await hub.ask("DELETE", "/api/v1/agents/nobody")
        await hub.running.store.commit(
            PutAgent(
                at_ms=5, name="a", host="h", boot=1, slots=1, version="1", capabilities=(), draining=False, event=None
            )
        )
        agent = hub.running.fleet.agent("a")
        agent.fire("join")
        online = await hub.ask("DELETE", "/api/v1/agents/a")
        viewer = await hub.ask("DELETE", "/api/v1/agents/a", role="viewer")
        agent.fire("lose")
        gone = await hub.ask("DELETE", "/api/v1/agents/a", role="operator")
        again = await hub.ask("GET", "/api/v1/agents/a")

    assert (unknown.status, online.status, viewer.status, gone.status, again.status) == (404, 409, 403, 204, 404)
