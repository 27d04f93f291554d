"""The promise of fair shares, over HTTP and a real store: who has ten tasks does not wait behind ten thousand."""

from collections import Counter
from pathlib import Path

from tests.support.running_hub import RunningHub, running_hub
from tests.support.strangers import join

MANY, FEW = 10_000, 10


async def put(hub: RunningHub, role: str, count: int, **spec: str) -> None:
    for begin in range(0, count, 1_000):
        tasks = [{"title": role, "executor": "noop", **spec} for _ in range(min(1_000, count - begin))]
        answer = await hub.ask("POST", "/api/v1/tasks", role=role, json={"tasks": tasks})
        assert answer.status == 201, await answer.text()


async def test_ten_tasks_of_one_do_not_wait_behind_ten_thousand_of_another(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as hub:
        await put(hub, "operator", MANY)
        await put(hub, "submitter", FEW)
        await put(hub, "operator", 1, priority="urgent")
        agent = await join(hub, slots=2 * FEW + 1)
        given = [(await agent.until("assign"))["spec"] for _ in range(2 * FEW + 1)]

    assert given[0].get("priority") == "urgent"
    assert Counter(spec["title"] for spec in given) == {"operator": FEW + 1, "submitter": FEW}


async def test_after_a_restart_both_are_in_the_window_again(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as hub:
        await put(hub, "operator", 2_000)
        await put(hub, "submitter", FEW)
    async with running_hub(tmp_path) as hub:
        agent = await join(hub, slots=2 * FEW)
        given = [(await agent.until("assign"))["spec"] for _ in range(2 * FEW)]

    assert Counter(spec["title"] for spec in given) == {"operator": FEW, "submitter": FEW}
