"""A replay as people ask for it: the life of a task step by step, decided again with the same answer."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from agentcom.cli import run
from tests.support.running_hub import RunningHub, running_hub
from tests.support.strangers import join, submit, until_state


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as running:
        yield running


async def test_a_task_is_told_step_by_step_and_a_difference_is_found(
    hub: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTCOM_TOKEN", hub.tokens["viewer"])
    agent = await join(hub)
    task = await submit(hub)
    await agent.work()
    await until_state(hub, task, "completed")
    await agent.leave()

    async def says() -> tuple[int, str]:
        status = await asyncio.to_thread(run, ["tasks", "replay", task, "--hub", hub.url])
        return status, capsys.readouterr().out

    found = await (await hub.ask("GET", f"/api/v1/tasks/{task}/replay", role="viewer")).json()
    assert (found["verdict"], found["state"], found["replayed"]) == ("same", "completed", "completed")
    assert [step["state"] for step in found["steps"]][:3] == ["queued", "assigned", "running"]
    assert [(each["epoch"], each["same"]) for each in found["decisions"]] == [(1, True)]
    status, text = await says()
    assert (status, "task_assigned" in text, "attempt 1: same" in text) == (0, True, True)
    assert text.endswith("same: the task is completed\n")

    store = apsw.Connection(str(next(tmp_path.rglob("hub.sqlite"))))
    store.set_busy_timeout(60_000)  # the hub may be writing
    store.execute("UPDATE events SET kind = 'task_failed' WHERE kind = 'task_completed'")
    store.close()
    status, text = await says()
    assert (status, "state: failed by its events, completed stored" in text) == (1, True)
    assert (await hub.ask("GET", f"/api/v1/tasks/{'0' * 26}/replay")).status == 404
