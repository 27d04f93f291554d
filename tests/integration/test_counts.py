"""``/metrics`` of a hub that has worked says what its log says, to the last task."""

import asyncio
from pathlib import Path
from typing import Any

from agentcom.bench.light import LightFleet
from tests.support.recount import Moody, differences, told
from tests.support.running_hub import PATIENCE_S, RunningHub, running_hub

TASKS, SIDECARS, BATCH = 500, 10, 100
MAY_FAIL = {"title": "x", "executor": "noop", "max_retries": 1}


async def ended(hub: RunningHub, tasks: int) -> str:
    """What the metrics say when all tasks have ended."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            text = await (await hub.ask("GET", "/metrics", role="viewer")).text()
            count = sum(value for (name, _), value in told(text).items() if name == "agentcom_tasks_ended_total")
            if count == tasks:
                return text
            await asyncio.sleep(0.2)


async def log(hub: RunningHub, newest: float) -> list[dict[str, Any]]:
    """All events, up to this one."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["seq"] < newest:
        after = found[-1]["seq"] if found else 0
        answer = await hub.ask(
            "GET", f"/api/v1/events?after={after}&limit=500", role="viewer", headers={"Accept": "application/json"}
        )
        found += (await answer.json())["events"]
    return [event for event in found if event["seq"] <= newest]


async def test_after_500_tasks_that_end_in_every_way_every_count_is_that_of_the_log(tmp_path: Path) -> None:
    async with (
        running_hub(tmp_path) as hub,
        LightFleet(hub.url, hub.tokens["agent"], heartbeat_s=5.0, slots=8, kind=Moody) as fleet,
    ):
        await fleet.join(SIDECARS)
        for _ in range(TASKS // BATCH):
            await hub.ask("POST", "/api/v1/tasks", role="submitter", json={"tasks": [MAY_FAIL] * BATCH})
        await fleet.work(on=True)
        text = await ended(hub, TASKS)
        events = await log(hub, told(text)["agentcom_newest_event", ()])
        fleet.check()

    assert differences(text, events) == []
    found = told(text)
    assert found["agentcom_tasks_submitted_total", ()] == TASKS
    assert found["agentcom_retries_total", ("agent",)] > 0
    assert found["agentcom_tokens_total", ("input", "small")] > 0
    one_too_many = text.replace("agentcom_tasks_submitted_total 500", "agentcom_tasks_submitted_total 501")
    assert len(differences(one_too_many, events)) == 1
