"""Many tasks in a request, on the short way: answered as on the long one, in time, and counted before they are read."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub.services.projects import Projects
from hub.web import requests, short_way
from hub.web.alike import Found
from hub.web.short_way import Desk, ShortWay
from tests.support.running_hub import RunningHub, running_hub
from tests.support.short_ways import TASK, Answer, line


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as running:
        yield running


async def test_what_is_asked_too_often_is_not_read(
    hub: RunningHub, ways: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand wrong tasks take long to be told of: whoever is out of requests may not have that done."""
    seen: list[bytes] = []
    read = short_way._read

    def watched(way: ShortWay, found: Found, projects: Projects) -> object:
        seen.append(found.rest)
        return read(way, found, projects)

    monkeypatch.setattr(short_way, "_read", watched)  # it reads as it would; only that it does is noted
    async with line(hub, "submitter") as one:
        await one.ask(TASK)
        await hub.ask("PATCH", "/api/v1/rate-limits/write", json={"per_s": 0.01, "burst": 1})
        answers = [await one.ask({"tasks": [{"colour": 1}]}) for _ in range(3)]

    assert ways == [True, True, True]
    assert [answer.status for answer in answers] == [422, 429, 429]
    assert len(seen) == 1


async def test_what_the_short_way_gives_up_counts_once(hub: RunningHub, ways: list[bool]) -> None:
    async with line(hub, "submitter") as one:
        await one.ask(TASK)
        await hub.ask("PATCH", "/api/v1/rate-limits/write", json={"per_s": 0.01, "burst": 2})
        secret = {**TASK, "secrets": [{"name": "deploy", "env": "KEY"}]}
        answers = [await one.ask(body) for body in (secret, TASK, TASK)]

    assert ways[0] is False
    assert [answer.status for answer in answers][1:] == [201, 429]


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_batches_are_answered_alike_on_both_ways(hub: RunningHub, ways: list[bool], size: int) -> None:
    batch = {"tasks": [{**TASK, "title": f"task {number}"} for number in range(size)]}
    async with line(hub) as one, line(hub) as other:
        await one.ask(TASK, key="first")
        short, again = await one.ask(batch, key="many"), await one.ask(batch, key="many")
        single = await one.ask(TASK, key="single")
        long = await other.ask(batch, key="others")
        conflict = await one.ask({"tasks": [TASK]}, key="many")

    assert ways == [True] * 4
    assert short.headers.keys() == long.headers.keys()
    assert [alike_tasks(answer) for answer in (short, again)] == [alike_tasks(long)] * 2
    assert again.body["tasks"] == short.body["tasks"]
    assert (again.headers["idempotency-replayed"], again.body["replayed"]) == ("true", True)
    assert len({task["id"] for task in short.body["tasks"]}) == size
    assert (single.status, conflict.status) == (201, 409)


def alike_tasks(answer: Answer) -> tuple[int, list[dict[str, Any]]]:
    own = {"id", "submitted_at", "queued_at"}
    return answer.status, [
        {name: value for name, value in task.items() if name not in own} for task in answer.body["tasks"]
    ]


async def test_a_long_batch_goes_the_long_way(hub: RunningHub, ways: list[bool]) -> None:
    task = {**TASK, "prompt": "x" * 1000}
    async with line(hub) as one:
        await one.ask(TASK)
        answers = [await one.ask({"tasks": [task] * size}) for size in (60, 70)]

    assert (ways[0], ways[1]) == (True, False)
    assert [len(answer.body["tasks"]) for answer in answers] == [60, 70]


async def test_a_connection_that_began_with_a_batch_goes_the_short_way(hub: RunningHub, ways: list[bool]) -> None:
    long = {"tasks": [{**TASK, "prompt": "x" * 9_000}] * 9}
    async with line(hub) as one:
        for body in (long, {"tasks": [TASK] * 200}, TASK):
            await one.ask(body)

    assert ways == [True, True]


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[ShortWay]:
    """The short ways that have begun to wait for the rest of a body."""
    seen: list[ShortWay] = []
    begin = ShortWay._begin

    def watched(self: ShortWay, data: bytes, body_bytes: int, lacks_bytes: int) -> bool:
        is_begun = begin(self, data, body_bytes, lacks_bytes)
        seen.append(self)
        return is_begun

    monkeypatch.setattr(ShortWay, "_begin", watched)  # it does what it does; the test has to know when
    return seen


async def until(begun: list[ShortWay], count: int) -> None:
    while len(begun) < count:  # noqa: ASYNC110 - the hub runs in this loop, and tells nobody
        await asyncio.sleep(0.001)


async def test_a_batch_that_comes_in_many_pieces_goes_the_short_way_and_counts_while_it_comes(
    hub: RunningHub, ways: list[bool], begun: list[ShortWay]
) -> None:
    async with line(hub) as one:
        await one.ask(TASK)
        raw = one._request({"tasks": [{**TASK, "prompt": "x" * 300}] * 100}, "", "")
        size = len(raw) - raw.index(b"\r\n\r\n") - 4
        one._writer.write(raw[:300])
        await until(begun, 1)
        live = begun[0]._live
        counted = live.body_bytes
        for at in range(300, len(raw), 5_000):
            one._writer.write(raw[at : at + 5_000])
            await asyncio.sleep(0.001)
        answer = await one.hear()

    assert (answer.status, len(answer.body["tasks"])) == (201, 100)
    assert ways == [True]
    assert (counted, live.body_bytes) == (size, 0)


@pytest.mark.parametrize("is_gone", [True, False])
async def test_who_is_slow_goes_the_long_way_and_who_is_gone_is_not_waited_for(
    hub: RunningHub, ways: list[bool], begun: list[ShortWay], is_gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(short_way, "PATIENCE_S", 60.0 if is_gone else 0.01)  # to wait for one, and never for the other
    async with line(hub) as one:
        await one.ask(TASK)
        raw = one._request({"tasks": [TASK]}, "", "")
        one._writer.write(raw[:-5])
        await until(begun, 1)
        if is_gone:
            one._writer.close()
        while begun[0]._begun is not None:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        if not is_gone:
            one._writer.write(raw[-5:])
            assert (await one.hear()).status == 201

    assert ways == ([] if is_gone else [False, False])
    assert begun[0]._live.body_bytes == 0


async def test_there_is_no_short_way_for_a_body_where_others_fill_the_memory(
    hub: RunningHub, ways: list[bool], begun: list[ShortWay], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line(hub) as one:
        await one.ask(TASK)
        raw = one._request({"tasks": [TASK]}, "", "")
        monkeypatch.setattr(requests, "MAX_BODIES_BYTES", 1)  # as if others filled it: that takes hundreds of MiB
        one._writer.write(raw[:-5])
        refused = await one.hear()

    assert (ways, refused.status, refused.body["code"]) == ([False], 503, "overloaded")


async def test_a_turn_of_the_loop_serves_so_much_and_the_next_one_the_rest(
    hub: RunningHub, ways: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[int] = []
    next_ = Desk._next

    def watched(self: Desk) -> list[tuple[ShortWay, Found]]:
        found = next_(self)
        served.append(len(found))
        return found

    monkeypatch.setattr(Desk, "_next", watched)  # it serves as it would; only how much a turn is noted
    async with contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(line(hub)) for _ in range(6)]
        for each in lines:
            await each.ask(TASK)
        for each in lines:
            each.say({"tasks": [{**TASK, "prompt": "x" * 900}] * 30})
        answers = [await each.hear() for each in lines]

    assert [len(answer.body["tasks"]) for answer in answers] == [30] * 6
    assert (sum(served), len(ways)) == (6, 6)
    assert max(served) <= 3
