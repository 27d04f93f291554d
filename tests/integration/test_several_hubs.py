"""Several hubs on one database: to everybody outside they are one, whichever of them is asked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.foreign_agent import ForeignAgent
from tests.support.joiner import Machine
from tests.support.postgres import postgres_server
from tests.support.running_hub import RunningHub, running_hub

PATIENCE_S = 60.0


@pytest.fixture
async def hubs(tmp_path: Path) -> AsyncIterator[tuple[RunningHub, RunningHub]]:
    url = await postgres_server().new_database()
    async with contextlib.AsyncExitStack() as stack:
        one = await stack.enter_async_context(running_hub(tmp_path / "one", store=url, hub_lease_s=2.0))
        two = await stack.enter_async_context(running_hub(tmp_path / "two", store=url, hub_lease_s=2.0))
        yield one, two


async def read(hub: RunningHub, path: str) -> dict[str, Any]:
    answer = await hub.ask("GET", f"/api/v1{path}")
    assert answer.status == 200, await answer.text()
    found: dict[str, Any] = await answer.json()
    return found


async def submitted(hub: RunningHub, **task: Any) -> str:
    made = await hub.ask("POST", "/api/v1/tasks", json={"executor": "noop", "title": "x", **task})
    assert made.status == 201, await made.text()
    task_id: str = (await made.json())["id"]
    return task_id


async def logged(hub: RunningHub, after: int = 0) -> list[dict[str, Any]]:
    """The events behind ``after``, in one page."""
    headers = {**hub.bearer("admin"), "Accept": "application/json"}
    answer = await hub.ask("GET", f"/api/v1/events?after={after}", role=None, headers=headers)
    found: list[dict[str, Any]] = (await answer.json())["events"]
    return found


async def until(fact: Callable[[], Awaitable[object]]) -> None:
    """Wait for a fact that has to travel from hub to hub."""
    async with asyncio.timeout(PATIENCE_S):
        while not await fact():  # noqa: ASYNC110 - the other hub tells nobody that it has heard
            await asyncio.sleep(0.02)


async def test_what_one_hub_takes_in_runs_at_the_agent_of_the_other(hubs: tuple[RunningHub, RunningHub]) -> None:
    one, two = hubs
    agent = await ForeignAgent.join(two.url, two.tokens["agent"])
    task = await submitted(one)
    assert (await agent.work())[2] == task

    async def is_done() -> bool:
        return bool((await read(one, f"/tasks/{task}"))["state"] == "completed")

    await until(is_done)
    await agent.leave()


async def test_one_key_gives_one_task_at_whichever_hub_it_comes_in(hubs: tuple[RunningHub, RunningHub]) -> None:
    headers = {**hubs[0].bearer("admin"), "Idempotency-Key": "k"}  # a key is one of its token
    answers = await asyncio.gather(
        *(hub.ask("POST", "/api/v1/tasks", role=None, json={"title": "x"}, headers=headers) for hub in hubs * 3)
    )

    assert len({(await answer.json())["id"] for answer in answers}) == 1
    assert {answer.status for answer in answers} <= {200, 201}
    assert len((await read(hubs[0], "/tasks"))["tasks"]) == 1


async def test_a_token_counts_and_ends_at_every_hub(hubs: tuple[RunningHub, RunningHub]) -> None:
    one, two = hubs
    made = await (await one.ask("POST", "/api/v1/tokens", json={"role": "viewer"})).json()
    mine = {"Authorization": f"Bearer {made['token']}"}

    async def status() -> int:
        return (await two.ask("GET", "/api/v1/agents", role=None, headers=mine)).status

    async def counts() -> bool:
        return await status() == 200

    async def is_over() -> bool:
        return await status() == 401

    await until(counts)
    assert (await one.ask("DELETE", f"/api/v1/tokens/{made['id']}")).status == 204
    await until(is_over)


async def test_a_cancel_at_one_hub_stops_the_work_at_the_other(hubs: tuple[RunningHub, RunningHub]) -> None:
    one, two = hubs
    agent = await ForeignAgent.join(two.url, two.tokens["agent"])
    task = await submitted(one)
    attempt = await agent.take()
    cancelled = await one.ask("POST", f"/api/v1/tasks/{task}/cancel", json={"reason": "no more"})
    assert cancelled.status == 200
    told = await agent.until("cancel")

    assert (told["attempt"], told["reason"]) == (attempt, "no more")
    assert (await read(two, "/agents/Foreign"))["busy"] == 0
    await agent.leave()


async def test_every_hub_shows_every_agent_and_where_it_is(hubs: tuple[RunningHub, RunningHub]) -> None:
    one, two = hubs
    agent = await ForeignAgent.join(two.url, two.tokens["agent"])

    async def seen(state: str, busy: int, hub: str) -> bool:
        found = (await read(one, "/agents"))["agents"]
        return [(a["name"], a["state"], a["busy"], a["hub"]) for a in found] == [("Foreign", state, busy, hub)]

    await until(lambda: seen("idle", 0, two.url))
    await submitted(one)
    attempt = await agent.take()
    await until(lambda: seen("working", 1, two.url))
    await agent.until_acknowledged(await agent.report(attempt))
    await until(lambda: seen("idle", 0, two.url))
    drained = await one.ask("POST", "/api/v1/agents/Foreign/drain")
    assert drained.status == 200
    assert (await agent.until("drain"))["on"] is True
    await until(lambda: seen("draining", 0, two.url))
    await one.ask("POST", "/api/v1/agents/Foreign/resume")
    assert (await agent.until("drain"))["on"] is False
    await agent.leave()

    await until(lambda: seen("offline", 0, ""))


async def test_an_agent_that_moves_takes_its_work_along_and_its_report_counts_once(
    hubs: tuple[RunningHub, RunningHub],
) -> None:
    one, two = hubs
    old = await ForeignAgent.join(one.url, one.tokens["agent"])
    task = await submitted(one)
    attempt = await old.take()
    held = {"attempt": attempt, "state": "running"}
    new = await ForeignAgent.join(two.url, one.tokens["agent"], inventory=[held], hub_boot=old.welcome["hub_boot"])
    assert [(v["attempt"], v["verdict"]) for v in new.welcome["verdicts"]] == [(attempt, "keep")]
    assert new.welcome["afresh"] is True
    await old.closed()  # the hub that it has left hears of it, and lets go
    await new.until_acknowledged(await new.report(attempt, output="done"))

    found = await read(one, f"/tasks/{task}")
    assert (found["state"], [a["accepted"] for a in found["attempts"]]) == ("completed", [True])
    assert (one.running.fleet.held, two.running.fleet.held) == ({}, {})
    await new.leave()


async def test_what_is_told_to_the_hub_that_an_agent_has_left_is_told_again_to_the_right_one(
    hubs: tuple[RunningHub, RunningHub],
) -> None:
    one, two = hubs
    first = await ForeignAgent.join(one.url, one.tokens["agent"])
    task = await submitted(one)
    attempt = await first.take()
    held = {"attempt": attempt, "state": "running"}
    second = await ForeignAgent.join(two.url, one.tokens["agent"], inventory=[held])
    # Without a word about the move, so the answer may come before the first hub has heard of it, or after.
    with contextlib.suppress(Exception):
        await first.report(attempt, output="at the wrong door")
    await second.until_acknowledged(await second.report(attempt, output="at the right one"))

    found = await read(two, f"/tasks/{task}")
    assert (found["state"], found["result"]["output"]) == ("completed", "at the right one")
    await second.leave()


async def test_a_delayed_task_becomes_ready_at_the_hub_that_has_the_agent(hubs: tuple[RunningHub, RunningHub]) -> None:
    one, two = hubs
    agent = await ForeignAgent.join(two.url, two.tokens["agent"])
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    tasks = {await submitted(two, run_after=soon), await submitted(one, run_after=soon)}

    assert {(await agent.take())[2], (await agent.take())[2]} == tasks
    await agent.leave()


async def test_who_follows_events_at_one_hub_hears_of_the_other(hubs: tuple[RunningHub, RunningHub]) -> None:
    one, two = hubs
    async with one.stream("/api/v1/events", headers={"Last-Event-ID": "0"}) as reader:
        task = await submitted(two)

        assert (await reader.until("task_queued"))["task"] == task


async def test_who_comes_back_hears_of_both_hubs_whatever_the_one_remembers(
    hubs: tuple[RunningHub, RunningHub],
) -> None:
    """A hub has its own events in memory and reads those of others: what it has may be the begin of what there is."""
    one, two = hubs
    await submitted(one)
    own = (await logged(one))[-1]["seq"]
    theirs = [await submitted(two) for _ in range(3)]
    newest = (await logged(two))[-1]["seq"]

    async def is_seen() -> bool:
        return bool(one.running.store.newest_event >= newest)

    await until(is_seen)
    page = await logged(one, own - 1)
    async with one.stream("/api/v1/events", headers={"Last-Event-ID": str(own - 1)}) as reader:
        heard = [(await reader.next())["data"]["seq"] for _ in range(newest - own + 1)]

    assert heard == [event["seq"] for event in page] == list(range(own, newest + 1))
    assert {event["task"] for event in page} >= set(theirs)


async def test_a_hub_that_stops_leaves_nothing_behind(hubs: tuple[RunningHub, RunningHub], tmp_path: Path) -> None:
    one, two = hubs
    agent = await ForeignAgent.join(one.url, one.tokens["agent"])
    task = await submitted(one)
    attempt = await agent.take()
    await one.running.stop()

    async def is_taken_over() -> bool:
        return task in two.running.fleet.held

    await until(is_taken_over)
    held = {"attempt": attempt, "state": "running"}
    back = await ForeignAgent.join(two.url, one.tokens["agent"], inventory=[held])
    await back.until_acknowledged(await back.report(attempt))

    assert (await read(two, f"/tasks/{task}"))["state"] == "completed"
    await back.leave()


async def test_a_password_does_not_stay_where_another_hub_has_changed_the_address(
    hubs: tuple[RunningHub, RunningHub], tmp_path: Path
) -> None:
    one, two = hubs
    body = {"name": "p", "repository": "https://someone:s3cr3t@example.org/r.git"}
    assert (await one.ask("POST", "/api/v1/projects", json=body)).status == 201
    kept = tmp_path / "one" / "projects" / "p" / "logins"
    assert len(list(kept.iterdir())) == 1

    async def has_heard() -> bool:
        return any(found["name"] == "p" for found in (await read(two, "/projects"))["projects"])

    await until(has_heard)
    patches = [{"branch": "a"}, {"description": "b"}, {"repository": "https://elsewhere.example/r.git"}]
    answers = await asyncio.gather(
        *(
            hub.ask("PATCH", "/api/v1/projects/p", json=patch)
            for hub, patch in zip((one, two, two), patches, strict=True)
        )
    )

    async def is_forgotten() -> bool:
        return not list(kept.iterdir())

    await until(is_forgotten)
    found = await read(one, "/projects/p")
    assert [answer.status for answer in answers] == [200] * 3
    assert (found["branch"], found["description"], found["has_credential"]) == ("a", "b", False)
    assert found["version"] == 4


async def test_a_copy_that_goes_to_another_hub_is_found_out_and_every_hub_gives_neither_work(
    hubs: tuple[RunningHub, RunningHub],
) -> None:
    one, two = hubs
    machine = await Machine(signs=True).join(one, "Arbitrary")
    await machine.dial(one, 5, instance="state")
    await until(lambda: _knows(two, machine))
    copy = await machine.dial(two, 9, instance="state")  # a restart, for all that anybody can tell

    async def is_found_out() -> bool:
        again = await ForeignAgent.dial(one.url, machine.token)
        word = await machine.greet(again, 5, instance="state", dial=2)
        assert word["code"] in {"overtaken", "cloned"}  # the first: it has to come once more
        return bool(word["code"] == "cloned")

    async def quarantines() -> list[bool]:
        return [bool((await read(hub, "/agents/Arbitrary"))["quarantine"]) for hub in hubs]

    async def both() -> bool:
        return all(await quarantines())

    async def none() -> bool:
        return not any(await quarantines())

    await until(is_found_out)
    await until(both)
    assert (await one.ask("POST", "/api/v1/agents/Arbitrary/release")).status == 200
    await until(none)
    await copy.leave()


async def _knows(hub: RunningHub, machine: Machine) -> bool:
    """Whether the token of the machine is known there."""
    headers = {"Authorization": f"Bearer {machine.token}"}
    return (await hub.ask("GET", "/api/v1/machine", role=None, headers=headers)).status == 200


async def test_hubs_that_are_given_their_first_secrets_at_once_seal_with_one_key(
    hubs: tuple[RunningHub, RunningHub],
) -> None:
    put = [
        hub.ask("PUT", f"/api/v1/secrets/OF_{number}", json={"value": "a long enough value"})
        for number, hub in enumerate(hubs)
    ]
    answers = await asyncio.gather(*put)
    codes = [(await answer.json()).get("code") for answer in answers]
    kept = (await read(hubs[0], "/secrets"))["secrets"]

    assert sorted(answer.status for answer in answers) == [200, 409]
    assert {code for code in codes if code} <= {"key_of_another", "key_lost"}
    assert len(kept) == len({secret["key"] for secret in kept}) == 1
