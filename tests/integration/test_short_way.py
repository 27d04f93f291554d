"""Submissions over one connection: whichever way the hub takes, the answer is the same, and in its turn."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub.store import waiting
from hub.web import short_way
from hub.web.alike import Found
from hub.web.short_way import Desk, ShortWay
from protocol.log_levels import LogLevel
from protocol.logs import ACCESS, set_levels
from tests.support.running_hub import RunningHub, running_hub
from tests.support.short_ways import TASK, alike, line


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as running:
        yield running


async def test_both_ways_give_the_same_answer(hub: RunningHub, ways: list[bool]) -> None:
    async with line(hub) as one:
        long, short = await one.ask(TASK, key="a"), await one.ask(TASK, key="b")

    assert ways == [True]
    assert long.status == 201
    assert alike(short) == alike(long)
    assert short.headers.keys() == long.headers.keys()
    assert short.headers["location"] == f"/api/v1/tasks/{short.body['id']}"
    assert short.headers["x-request-id"] != long.headers["x-request-id"]
    shown = await (await hub.ask("GET", short.headers["location"])).json()
    assert shown["title"] == "one of many"


async def test_a_key_counts_on_both_ways(hub: RunningHub, ways: list[bool]) -> None:
    async with line(hub) as one, line(hub) as other:
        first, again = await one.ask(TASK, key="same"), await one.ask(TASK, key="same")
        conflict = await one.ask({**TASK, "title": "another"}, key="same")
        long = await other.ask({**TASK, "title": "another"}, key="same")

    assert ways == [True, True]
    assert again.body["id"] == first.body["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert conflict.status == 409
    assert alike(conflict) == alike(long)


@pytest.mark.parametrize(
    "body",
    [
        b'{"title":',
        b'"word"',
        b'{"title": "half a pair: \\udcff", "executor": "noop"}',
        b'{"title": "t", "max_retries": 99999999999999999999}',
        b" ",
        {"title": ""},
        {"title": "t", "colour": 1},
        {**TASK, "project": "nowhere"},
        {**TASK, "labels": {"a b": "c"}},
        {"tasks": []},
        {"tasks": TASK},
        {"tasks": [TASK] * 1001},
        {"tasks": [TASK], "priority": "high"},
        {"tasks": [TASK, {"title": ""}, {**TASK, "colour": 1}]},
    ],
)
@pytest.mark.parametrize("key", ["", "k"])
async def test_what_is_wrong_is_told_alike_and_the_next_one_is_answered(
    hub: RunningHub, ways: list[bool], body: object, key: str
) -> None:
    async with line(hub) as one, line(hub) as other:
        await one.ask(TASK, key=key and "first")
        answer, after = await one.ask(body, key=key), await one.ask(TASK, key=key and "after")
        long = await other.ask(body, key=key)

    assert ways[0] is True
    assert alike(answer) == alike(long)
    assert answer.status >= 400
    assert after.status == 201
    assert {"detail", "code"} <= answer.body.keys()


@pytest.mark.parametrize("many", [False, True])
async def test_tasks_that_name_secrets_go_the_long_way(hub: RunningHub, ways: list[bool], many: bool) -> None:
    secret = {**TASK, "secrets": [{"name": "deploy", "env": "KEY"}]}
    async with line(hub) as one, line(hub) as other:
        await one.ask(TASK)
        body = {"tasks": [TASK, secret]} if many else secret
        answer, after = await one.ask(body), await one.ask(TASK)
        long = await other.ask(body)

    assert ways[0] is False
    assert alike(answer) == alike(long)
    assert after.status == 201


@pytest.mark.parametrize(
    "body",
    [
        {**TASK, "labels": {"team": "a", "n": "7"}, "priority": "high"},
        {"executor": "shell", "command": "make " + "x" * 300, "ttl_s": 60, "needs": ["gpu"]},
        {
            "title": "t",
            "prompt": "Z\u00e4hle \u2713 " * 40,
            "verification": [{"type": "command_succeeds", "command": "true"}],
        },
        {**TASK, "depends_on": ["0" * 26]},
    ],
)
async def test_an_ordinary_task_goes_the_short_way(hub: RunningHub, ways: list[bool], body: dict[str, Any]) -> None:
    async with line(hub) as one:
        await one.ask(TASK)
        short = await one.ask(body)
    async with line(hub) as other:
        long = await other.ask(body)

    assert ways == [True]
    assert short.status == (422 if "depends_on" in body else 201)
    assert alike(short) == alike(long)


async def test_each_of_those_that_come_in_one_moment_has_its_own_answer(hub: RunningHub, ways: list[bool]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(line(hub)) for _ in range(4)]
        for number, each in enumerate(lines):
            first = await each.ask(TASK, key=f"first-{number}")
        lines[0].say(TASK, key="new")
        lines[1].say(TASK, key="first-3")
        lines[2].say({**TASK, "title": "another"}, key="first-3")
        lines[3].say({**TASK, "depends_on": ["0" * 26]}, key="wrong")
        new, again, conflict, wrong = [await each.hear() for each in lines]

    assert ways == [True] * 4
    assert [answer.status for answer in (new, again, conflict, wrong)] == [201, 201, 409, 422]
    assert again.body["id"] == first.body["id"] != new.body["id"]
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_full_hub_refuses_before_it_reads_what_was_submitted(
    hub: RunningHub, ways: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line(hub) as one, line(hub) as other:
        await one.ask(TASK, key="before")
        with monkeypatch.context() as full:
            full.setattr(waiting, "MAX_WAITING_TASKS", 0)  # nobody can submit so much in a test
            answers = [await one.ask(body, key="a") for body in (TASK, b'{"title":')]
            long = await other.ask(b'{"title":')
        later = await one.ask(TASK, key="a")

    assert ways[:2] == [True, True]
    assert [answer.status for answer in (*answers, long, later)] == [503, 503, 503, 201]
    assert "idempotency-replayed" not in later.headers
    assert "retry-after" in answers[0].headers


@pytest.mark.parametrize(
    "more", ["Origin: https://elsewhere.example\r\n", "X-Request-Id: mine\r\n", "Content-Length: 3\r\n"]
)
async def test_another_head_goes_the_long_way(hub: RunningHub, ways: list[bool], more: str) -> None:
    async with line(hub) as one:
        await one.ask(TASK)
        await one.ask(TASK, more=more)

    assert ways == [False]


async def test_now_and_then_the_long_way_hears_of_a_connection(
    hub: RunningHub, ways: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line(hub) as one:
        await one.ask(TASK)
        await one.ask(TASK)
        monkeypatch.setattr(short_way, "LONG_WAY_S", -1.0)  # as if the minutes were over
        async with line(hub) as other:
            answers = [await other.ask(TASK) for _ in range(3)]

    assert ways == [True, False, False]
    assert [answer.status for answer in answers] == [201, 201, 201]


async def test_every_request_is_told_where_somebody_wants_to_hear_of_all(hub: RunningHub, ways: list[bool]) -> None:
    async with line(hub) as one:
        await one.ask(TASK)
        set_levels({ACCESS: LogLevel.INFO})
        try:
            await one.ask(TASK)
        finally:
            set_levels({})

    assert ways == [False]


async def test_requests_that_come_together_are_answered_in_their_order(hub: RunningHub, ways: list[bool]) -> None:
    titles = [f"number {number}" for number in range(40)]
    async with line(hub) as one:
        await one.ask(TASK)
        one.say({**TASK, "title": "first"})
        one.say(*({**TASK, "title": title} for title in titles))
        heard = [(await one.hear()).body["title"] for _ in range(41)]

    assert ways
    assert heard == ["first", *titles]


async def test_a_token_that_was_revoked_opens_no_way(hub: RunningHub, ways: list[bool]) -> None:
    made = await (await hub.ask("POST", "/api/v1/tokens", json={"role": "submitter"})).json()
    hub.tokens["gone"] = made["token"]
    async with line(hub, "gone") as one:
        await one.ask(TASK)
        before = await one.ask(TASK)
        await hub.ask("DELETE", f"/api/v1/tokens/{made['id']}")
        after = await one.ask(TASK)

    assert (before.status, after.status) == (201, 401)
    assert ways == [True, False]


async def test_who_asks_too_often_is_told_so_on_both_ways(hub: RunningHub, ways: list[bool]) -> None:
    async with line(hub, "submitter") as one, line(hub, "submitter") as other:
        await one.ask(TASK)
        await hub.ask("PATCH", "/api/v1/rate-limits/write", json={"per_s": 0.01, "burst": 1})
        answers = [await one.ask(TASK) for _ in range(3)]
        long = await other.ask(TASK)

    assert ways == [True, True, True]
    assert answers[-1].status == long.status == 429
    assert "retry-after" in answers[-1].headers
    assert alike(answers[-1])[2].keys() == alike(long)[2].keys()


async def test_who_asks_and_does_not_read_goes_the_long_way_which_waits(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[ShortWay, bool]] = []
    take = ShortWay.take

    def watched(self: ShortWay, data: bytes) -> bytes:
        back = take(self, data)
        seen.append((self, not back))
        return back

    monkeypatch.setattr(ShortWay, "take", watched)  # it does what it does; from outside both ways look the same
    async with line(hub) as one:
        await one.ask(TASK)
        await one.ask(TASK)
        short, was_taken = seen[-1]
        short._visitor.pause_writing()  # as its transport says when the other end takes nothing
        one.say(TASK)
        while len(seen) == 1:  # noqa: ASYNC110 - the hub runs in this loop, and tells nobody
            await asyncio.sleep(0.001)
        short._visitor.resume_writing()

        assert (await one.hear()).status == 201
    assert was_taken
    assert not seen[-1][1]


async def test_a_connection_has_its_short_way_back_after_the_next_plain_submission(
    hub: RunningHub, ways: list[bool]
) -> None:
    async with line(hub) as one:
        for more in ("", "Origin: https://elsewhere.example\r\n", "", ""):
            await one.ask(TASK, more=more)

    assert ways == [False, False, True]


async def test_a_body_that_comes_apart_from_its_head_goes_the_short_way(hub: RunningHub, ways: list[bool]) -> None:
    async with line(hub) as one:
        raw = one._request(TASK, "", "")
        for _ in range(2):
            one._writer.write(raw[:-9])
            await asyncio.sleep(0.01)
            one._writer.write(raw[-9:])
            assert (await one.hear()).status == 201

    assert ways == [True]


async def test_the_end_waits_for_answers_that_are_being_made(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, take = asyncio.Event(), Desk.take

    def watched(self: Desk, way: ShortWay, found: Found) -> None:
        take(self, way, found)
        taken.set()

    monkeypatch.setattr(Desk, "take", watched)  # it does what it does; the test has to know when
    async with line(hub) as one:
        await one.ask(TASK)
        one.say(TASK)
        await taken.wait()
        await hub.running.stop()

        assert (await one.hear()).status == 201
