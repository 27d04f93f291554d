"""Readers of events who have seen all that there is: told of each commit, whatever they take, whoever else listens."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import aiohttp
import pytest

from hub.core.recent import Recent
from hub.services.counting import Counting
from hub.services.feed import Feed
from hub.store.changes import Record
from hub.web.following import Follower
from hub.web.stream import Stream
from protocol.events import Event, EventKind
from tests.support.running_hub import RunningHub, running_hub


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as running:
        yield running


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Stream, bool]]:
    """Who was told at once, and whether that could be."""
    seen: list[tuple[Stream, bool]] = []
    tell = Stream.tell

    def watched(self: Stream, chunked: bytes) -> bool:
        seen.append((self, tell(self, chunked)))
        return seen[-1][1]

    monkeypatch.setattr(Stream, "tell", watched)  # it does what it does; from outside both ways look the same
    return seen


@pytest.fixture
async def following(monkeypatch: pytest.MonkeyPatch) -> asyncio.Semaphore:
    """Counts the readers that have seen all that there is."""
    arrived, follow = asyncio.Semaphore(0), Follower.follow

    async def watched(self: Follower) -> int:
        arrived.release()
        return await follow(self)

    monkeypatch.setattr(Follower, "follow", watched)  # it follows as it would; the test has to know from when
    return arrived


async def submit(hub: RunningHub, number: int, title: str = "t") -> list[str]:
    answer = await hub.ask("POST", "/api/v1/tasks", json={"tasks": [{"title": title}] * number})
    return [task["id"] for task in (await answer.json())["tasks"]]


async def test_all_readers_are_told_of_every_commit_in_order_and_at_once(
    hub: RunningHub, told: list[tuple[Stream, bool]], following: asyncio.Semaphore
) -> None:
    wanted = "/api/v1/events?kind=task_queued,task_cancelled"
    async with AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(hub.stream(path)) for path in ("/api/v1/events", wanted, wanted)]
        for _ in readers:
            await following.acquire()
        tasks = [task for number in (1, 3, 450, 2) for task in await submit(hub, number)]
        await hub.ask("POST", f"/api/v1/tasks/{tasks[0]}/cancel")
        heard = []
        for reader in readers:
            found = [(await reader.next())]
            while found[-1]["data"]["kind"] != "task_cancelled":
                found.append(await reader.next())
            heard.append(found)

    assert heard[1] == heard[2]
    assert [event for event in heard[0] if event["data"]["kind"] in {"task_queued", "task_cancelled"}] == heard[1]
    assert [event["data"]["task"] for event in heard[1]] == [*tasks, tasks[0]]
    assert all(event["id"] == str(event["data"]["seq"]) for event in heard[0])
    assert sum(at_once for _, at_once in told) >= 5 * 3


@pytest.mark.parametrize(
    "kind, order",
    [
        (EventKind.TASK_QUEUED, ["commit", "told", "counted"]),
        (EventKind.TASK_ASSIGNED, ["commit", "counted", "told"]),
    ],
)
async def test_a_reader_hears_of_a_commit_before_it_is_counted_unless_work_is_to_leave_first(
    hub: RunningHub, following: asyncio.Semaphore, monkeypatch: pytest.MonkeyPatch, kind: EventKind, order: list[str]
) -> None:
    seen: list[str] = []

    def noting(owner: type, name: str, word: str) -> None:
        was = getattr(owner, name)

        def noted(self: object, *values: object) -> object:
            seen.append(word)
            return was(self, *values)

        monkeypatch.setattr(owner, name, noted)  # it does what it does; of the order nothing else tells

    async with hub.stream("/api/v1/events") as events:
        await following.acquire()
        noting(Feed, "committed", "commit")
        noting(Counting, "committed", "counted")
        noting(Stream, "tell", "told")
        await hub.running.store.commit(Record(Event(kind=kind, at_ms=1)))
        await events.until(kind.value)
        monkeypatch.undo()

    assert seen[:3] == order


async def test_what_is_told_at_once_is_what_is_told_page_by_page(hub: RunningHub, following: asyncio.Semaphore) -> None:
    async with hub.stream("/api/v1/events") as live:
        await following.acquire()
        [task] = await submit(hub, 1)
        await hub.ask("POST", f"/api/v1/tasks/{task}/cancel")
        at_once = [await live.next(), await live.next()]

    async with hub.stream("/api/v1/events", headers={"Last-Event-ID": str(int(at_once[0]["id"]) - 1)}) as later:
        assert [await later.next(), await later.next()] == at_once


async def test_a_reader_that_stops_reading_waits_for_itself_alone_and_fills_no_memory(
    hub: RunningHub, told: list[tuple[Stream, bool]], following: asyncio.Semaphore
) -> None:
    host, port = hub.url.removeprefix("http://").split(":")
    stuck = socket.create_connection((host, int(port)))
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    head = [f"GET /api/v1/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {hub.tokens['viewer']}", "", ""]
    stuck.sendall("\r\n".join(head).encode())
    await following.acquire()
    tasks: list[str] = []
    async with hub.stream("/api/v1/events") as events:
        await following.acquire()
        for number in count():
            tasks += await submit(hub, 400)
            at_once = dict(told)  # of each reader, the last time
            if not all(at_once.values()) and number > 4:
                break
        seen = [(await events.until("task_queued"))["task"] for _ in tasks]
    waiting = [stream._request.transport.get_write_buffer_size() for stream in at_once if stream._request.transport]
    stuck.close()

    assert seen == tasks
    assert max(waiting) <= 192 << 10


@pytest.mark.parametrize("is_revoked", [True, False])
async def test_a_reader_ends_with_its_token_and_leaves_nobody_behind(
    hub: RunningHub, following: asyncio.Semaphore, is_revoked: bool
) -> None:
    made = await (await hub.ask("POST", "/api/v1/tokens", json={"role": "viewer"})).json()
    hub.tokens["ci"] = made["token"]
    async with hub.stream("/api/v1/events", role="ci") as events:
        await following.acquire()
        if is_revoked:
            await hub.ask("DELETE", f"/api/v1/tokens/{made['id']}")
            with pytest.raises((EOFError, aiohttp.ClientError)):
                await events.until("nothing of this kind")
    async with hub.stream("/api/v1/events") as another:
        await submit(hub, 1)
        assert (await another.until("task_queued"))["kind"] == "task_queued"


async def test_what_is_committed_while_a_page_is_read_is_told_once(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    await submit(hub, 3)
    store = hub.running.store
    read = store.events

    async def reads_late(after: int, limit: int, task: str | None = None) -> Sequence[Event]:
        await submit(hub, 1)  # behind what was the newest when the page was asked for
        return await read(after, limit, task)

    monkeypatch.setattr(store, "events", reads_late)  # the real page; only the moment cannot be had from outside
    with monkeypatch.context() as context:
        context.setattr(Recent, "behind", lambda *_: None)  # as after a start: nothing is in memory
        async with hub.stream("/api/v1/events", headers={"Last-Event-ID": "1"}) as events:
            heard = [int((await events.next())["id"])]
            context.undo()
            last = await submit(hub, 1)
            while True:
                found = await events.next()
                heard.append(int(found["id"]))
                if found["data"]["task"] == last[0]:
                    break

    assert heard == list(range(2, heard[-1] + 1))
