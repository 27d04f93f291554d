"""A hub on PostgreSQL: everything as on SQLite, and a database that comes and goes costs time, never a task."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog

from agentcom.cli.hub import command
from hub.app import start_hub
from hub.core.task import LIVE_STATES
from hub.settings import load, masked
from protocol.errors import BadInput, StoreFailed
from tests.support.foreign_agent import ForeignAgent
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.running_hub import RunningHub, running_hub

PATIENCE_S = 30.0


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path, store=await postgres_server().new_database()) as made:
        yield made


async def submitted(hub: RunningHub, **task: Any) -> str:
    made = await hub.ask("POST", "/api/v1/tasks", json={"executor": "noop", **task})
    assert made.status == 201, await made.text()
    task_id: str = (await made.json())["id"]
    return task_id


async def read(hub: RunningHub, path: str) -> dict[str, Any]:
    found: dict[str, Any] = await (await hub.ask("GET", f"/api/v1{path}")).json()
    return found


async def do_next(agent: ForeignAgent) -> str:
    """Do the next task, without a look at acknowledgements; its id."""
    attempt: list[Any] = (await agent.until("assign"))["attempt"]
    await agent.tell("accept", attempt)
    await agent.acknowledge()
    await agent.report(attempt, output="done")
    task: str = attempt[2]
    return task


async def all_done(hub: RunningHub) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (await read(hub, "/health"))["queue"] != dict.fromkeys(LIVE_STATES, 0):
            assert not hub.running.failed.done()


# --- all is as on SQLite ----------------------------------------------------------------------------------------------


async def test_tasks_go_their_whole_way(hub: RunningHub) -> None:
    first = await submitted(hub, title="one", labels={"team": "x"})
    second = await submitted(hub, title="two", depends_on=[first])
    agent = await ForeignAgent.join(hub.url, hub.tokens["agent"])
    done = [await do_next(agent), await do_next(agent)]
    await all_done(hub)
    await agent.leave()

    assert done == [first, second]
    for task in (first, second):
        shown = await read(hub, f"/tasks/{task}")
        assert (shown["state"], shown["result"]["output"]) == ("completed", "done")
    listed = await read(hub, "/tasks?label=team:x")
    assert [task["id"] for task in listed["tasks"]] == [first]
    kinds = [event.kind for event in await hub.running.store.events(0, 99, second)]
    assert kinds == ["task_blocked", "task_queued", "task_assigned", "task_started", "task_completed"]


async def test_health_tells_which_store_it_is(hub: RunningHub, tmp_path: Path) -> None:
    store = (await read(hub, "/health"))["components"]["store"]

    assert store["state"] == "ok"
    assert store["detail"].startswith("postgresql: event ")
    async with running_hub(tmp_path / "other") as other:
        assert (await read(other, "/health"))["components"]["store"]["detail"].startswith("sqlite: event ")


async def test_what_a_hub_knew_the_next_one_knows(tmp_path: Path) -> None:
    url = await postgres_server().new_database()
    async with running_hub(tmp_path, store=url) as first:
        held, queued = await submitted(first, title="held"), await submitted(first, title="queued")
        agent = await ForeignAgent.join(first.url, first.tokens["agent"], slots=1)
        assert (await agent.take())[2] == held
        await agent.leave()
        boot = agent.welcome["hub_boot"]
    async with running_hub(tmp_path, store=url) as second:
        again = await ForeignAgent.join(second.url, second.tokens["agent"], boot=2, slots=1)
        assert again.welcome["hub_boot"] > boot
        assert {await do_next(again), await do_next(again)} == {held, queued}
        await all_done(second)
        attempts = (await read(second, f"/tasks/{held}"))["attempts"]
        assert [(attempt["epoch"], attempt["state"]) for attempt in attempts] == [(1, "lost"), (2, "passed")]
        await again.leave()


# --- a database that comes and goes -----------------------------------------------------------------------------------


class Load:
    """People who submit as careful clients do, and an agent that works."""

    def __init__(self, hub: RunningHub) -> None:
        self.hub = hub
        self.acknowledged: dict[str, str] = {}
        self.done: list[str] = []
        self.is_over = False

    async def submit(self, name: str) -> None:
        """Task after task, each with its key until there is an answer."""
        number = 0
        while not self.is_over:
            number += 1
            key = f"{name}-{number}"
            while key not in self.acknowledged:
                with contextlib.suppress(TimeoutError):
                    await self.try_one(key)

    async def try_one(self, key: str) -> None:
        body, headers = {"executor": "noop", "title": key}, {"Idempotency-Key": key}
        made = await self.hub.ask("POST", "/api/v1/tasks", json=body, headers=headers)
        if made.status == 503:
            assert int(made.headers["Retry-After"]) >= 1
            await asyncio.sleep(0.05)
            return
        assert made.status in {200, 201}, await made.text()
        self.acknowledged[key] = (await made.json())["id"]

    async def work(self) -> None:
        """One agent that takes what comes, until it is cancelled."""
        agent = await ForeignAgent.join(self.hub.url, self.hub.tokens["agent"], slots=4)
        try:
            while True:
                self.done.append(await do_next(agent))
        finally:
            await agent.leave()

    async def more(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        wanted = len(self.acknowledged) + count
        await until(lambda: len(self.acknowledged) >= wanted)

    async def stored(self) -> dict[str, str]:
        """All tasks of the hub: title by id."""
        found: dict[str, str] = {}
        cursor: str | None = ""
        while cursor is not None:
            page = await read(self.hub, f"/tasks?limit=100{cursor and '&cursor=' + cursor}")
            found |= {task["id"]: task["title"] for task in page["tasks"]}
            cursor = page.get("next_cursor")
        return found


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_true():  # noqa: ASYNC110 - a fact of another program
            await asyncio.sleep(0.02)


async def test_a_server_restarted_under_load_loses_and_doubles_nothing_and_the_hub_goes_on(tmp_path: Path) -> None:
    server = PostgresServer()
    try:
        async with running_hub(tmp_path, store=await server.new_database()) as hub:
            load = Load(hub)
            agent = asyncio.create_task(load.work())
            async with asyncio.TaskGroup() as group:
                for name in "abcd":
                    group.create_task(load.submit(name))
                for _ in range(3):
                    await load.more(40)
                    await asyncio.to_thread(server.stop)
                    await until(lambda: bool(hub.running.store.trouble))
                    await asyncio.to_thread(server.start)
                await load.more(40)
                load.is_over = True

            await all_done(hub)
            agent.cancel()
            await asyncio.wait({agent})

            assert not hub.running.failed.done()
            stored = await load.stored()
            assert {key: task for task, key in stored.items()} == load.acknowledged
            assert len(stored) == len(load.acknowledged)
            assert sorted(load.done) == sorted(stored)
            for task in stored:
                shown = await read(hub, f"/tasks/{task}")
                assert shown["state"] == "completed"
                assert [attempt["accepted"] for attempt in shown["attempts"]].count(True) == 1
    finally:
        await asyncio.to_thread(server.destroy)


async def test_while_the_database_is_away_the_hub_says_so_and_takes_nothing_in(tmp_path: Path) -> None:
    server = PostgresServer()
    try:
        async with running_hub(tmp_path, store=await server.new_database()) as hub:
            await asyncio.to_thread(server.stop)
            waiting = asyncio.ensure_future(hub.ask("POST", "/api/v1/tasks", json={"title": "x", "executor": "noop"}))
            await until(lambda: bool(hub.running.store.trouble))
            ready = await hub.ask("GET", "/readyz", role=None)
            refused = await hub.ask("POST", "/api/v1/tasks", json={"title": "y"})
            listed = await hub.ask("GET", "/api/v1/tasks")
            health = await read(hub, "/health")
            await asyncio.to_thread(server.start)

            assert (await waiting).status == 201
            assert (ready.status, refused.status, listed.status) == (503, 503, 503)
            assert "the database does not answer" in (await refused.json())["detail"]
            assert refused.headers["Retry-After"] == listed.headers["Retry-After"] == "1"
            assert health["state"] == health["components"]["store"]["state"] == "down"
            assert "postgresql: the database does not answer" in health["components"]["store"]["detail"]
            assert [task["title"] for task in (await read(hub, "/tasks"))["tasks"]] == ["x"]
    finally:
        await asyncio.to_thread(server.destroy)


async def test_a_hub_can_be_stopped_while_its_database_is_away(tmp_path: Path) -> None:
    server = PostgresServer()
    try:
        async with running_hub(tmp_path, store=await server.new_database()) as hub:
            await hub.ask("GET", "/api/v1/tasks")  # a token was used, which wants to be written
            await asyncio.to_thread(server.stop)
            async with asyncio.timeout(PATIENCE_S / 3):
                await hub.running.stop()
    finally:
        await asyncio.to_thread(server.destroy)


# --- its address ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url, says",
    [
        ("mysql://me:secret@h/x", "no such store: 'mysql'"),
        ("secret", "no such store"),
        ("postgresql://me:secret@/x", "it names no host"),
        ("postgresql://me:secret@h", "it names no database"),
        ("postgresql://me:secret@h:99999/x", "a port is a number from 1 to 65535"),
        ("postgresql://me:sec:ret@[h/x", "not an address"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused_without_its_password(url: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        load({"data_dir": "/tmp/x", "store": url}, env={})
    assert url == "secret" or "secret" not in str(caught.value)
    assert "postgresql://user:password@host:5432/database" in str(caught.value)


@pytest.mark.parametrize(
    "url, shown",
    [
        ("postgresql://me:secret@h:5/x?sslmode=require", "postgresql://me:***@h:5/x?sslmode=require"),
        ("postgresql://me:p@ss:w/or@h/x", "postgresql://me:***@h/x"),
        ("postgresql://me@h/x?password=secret&a=b", "postgresql://me@h/x?password=***&a=b"),
        ("postgresql://me@h/x", "postgresql://me@h/x"),
        ("127.0.0.1:7420", "127.0.0.1:7420"),
        ("", ""),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_the_settings_that_count_are_shown_without_the_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "postgresql://me:secret@db.example.org/agentcom"
    command.main(["--data-dir", str(tmp_path), "--store", url, "--check-config", "--json"], standalone_mode=False)
    shown = capsys.readouterr().out

    assert json.loads(shown)["store"]["value"] == "postgresql://me:***@db.example.org/agentcom"
    assert "secret" not in shown


async def test_a_hub_without_its_database_does_not_start_and_leaves_the_directory_free(tmp_path: Path) -> None:
    settings, _ = load(
        {"data_dir": str(tmp_path), "listen": "127.0.0.1:0", "store": "postgresql://me:secret@127.0.0.1:1/x"}, env={}
    )
    with structlog.testing.capture_logs() as logged, pytest.raises(StoreFailed, match="check --store") as caught:
        await start_hub(settings)
    assert "secret" not in f"{caught.value}{logged}"
    async with running_hub(tmp_path) as hub, aiohttp.ClientSession() as client, client.get(hub.url + "/healthz") as got:
        assert got.status == 200
