"""Live streams over real sockets: in order, resumable, nothing missed, ended with the token and cut off when stuck."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub.store.changes import AppendLog, Claim
from hub.store.keeping_changes import ForgetEvents
from hub.web.logs import KEPT_BEHIND, MOST_BEHIND
from tests.support.running_hub import PATIENCE_S, Reader, RunningHub, running_hub
from tests.support.stores import PLACEMENT


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as running:
        yield running


async def submit(hub: RunningHub, *titles: str) -> list[str]:
    answer = await hub.ask("POST", "/api/v1/tasks", json={"tasks": [{"title": title} for title in titles]})
    return [task["id"] for task in (await answer.json())["tasks"]]


async def test_an_event_arrives_while_the_stream_is_open(hub: RunningHub) -> None:
    async with hub.stream("/api/v1/events") as events:
        assert events.answer.headers["Content-Type"] == "text/event-stream"
        assert events.answer.headers["X-Accel-Buffering"] == "no"
        [task] = await submit(hub, "live")

        assert (await events.until("task_queued"))["task"] == task


async def test_a_stream_resumes_behind_the_last_event_and_misses_none(hub: RunningHub) -> None:
    async with hub.stream("/api/v1/events?after=0") as events:
        first = await events.until("hub_started")
        last = events.last_id
    tasks = await submit(hub, *(f"t{number}" for number in range(700)))

    async with hub.stream("/api/v1/events", headers={"Last-Event-ID": last}) as events:
        found = [(await events.next())["data"] for _ in range(703)]

    assert first["seq"] == int(last)
    assert [event["seq"] for event in found] == list(range(int(last) + 1, int(last) + 704))
    assert [event["task"] for event in found if event["kind"] == "task_queued"] == tasks


async def test_the_position_of_the_header_counts_more_than_that_of_the_query(hub: RunningHub) -> None:
    await submit(hub, "a")
    async with hub.stream("/api/v1/events?after=0", headers={"Last-Event-ID": "2"}) as events:
        assert (await events.next())["id"] == "3"


@pytest.mark.parametrize("position", ["x", "-1", "1.5", "9" * 30, "\u0663"])
async def test_a_position_that_is_none_is_422(hub: RunningHub, position: str) -> None:
    answer = await hub.ask("GET", "/api/v1/events", headers={"Last-Event-ID": position})

    assert answer.status == 422


async def test_a_reader_from_the_future_is_told_where_the_log_ends(hub: RunningHub) -> None:
    async with hub.stream("/api/v1/events?after=100000") as events:
        reset = await events.next()

        assert reset["event"] == "reset"
        assert reset["data"]["newest"] == int(reset["id"])
        await submit(hub, "after")
        assert (await events.next())["data"]["seq"] == reset["data"]["newest"] + 1


async def test_a_reader_behind_the_floor_is_told_what_is_gone_and_goes_on_from_there(tmp_path: Path) -> None:
    json_page = {"Accept": "application/json"}
    async with running_hub(tmp_path) as before:
        await submit(before, "a", "b", "c")
        floor = before.running.store.newest_event - 1
        await before.running.store.commit(ForgetEvents(at_ms=1, through=floor))
    async with running_hub(tmp_path) as hub:  # none of them is in its memory
        page = await (await hub.ask("GET", "/api/v1/events?after=2", headers=json_page)).json()
        first = await (await hub.ask("GET", "/api/v1/events?after=0", headers=json_page)).json()
        async with hub.stream("/api/v1/events", headers={"Last-Event-ID": "2"}) as events:
            reset, event = await events.next(), await events.next()

    assert (page["reset"], page["floor"]) == (True, floor)
    assert page["events"][0]["seq"] == floor + 1
    assert not first["reset"]  # from the oldest that there is: nobody was promised more
    assert (reset["event"], reset["data"]["floor"], reset["id"]) == ("reset", floor, str(floor))
    assert event["data"]["seq"] == floor + 1


async def told(page: Reader) -> dict[str, Any]:
    """The next that a page is told of what it shows."""
    while (found := await page.next())["event"] != "message":
        pass
    return found


async def test_the_live_page_shows_the_rows_whatever_events_are_gone(hub: RunningHub) -> None:
    await submit(hub, "a", "b", "c")
    async with hub.stream("/dashboard/live") as page:
        before = (await told(page))["data"]
        await hub.running.store.commit(ForgetEvents(at_ms=1, through=hub.running.store.newest_event))
        await submit(hub, "d")
        after = (await told(page))["data"]
        while "lists" not in after["rows"]:
            after = (await told(page))["data"]

    newest = [len(told["rows"]["lists"]["newest"]["ids"]) for told in (before, after)]
    assert newest == [3, 4]


async def test_a_reader_of_some_kinds_is_told_of_no_other_and_waits_for_the_next(hub: RunningHub) -> None:
    async with hub.stream("/api/v1/events?after=0&kind=task_queued,task_cancelled") as events:
        [task] = await submit(hub, "a")
        assert (await events.next())["data"]["kind"] == "task_queued"
        assert (await hub.ask("POST", f"/api/v1/tasks/{task}/cancel")).status == 200

        assert (await events.next())["data"]["kind"] == "task_cancelled"


async def test_a_page_of_some_kinds_goes_on_behind_what_it_left_out(hub: RunningHub) -> None:
    tasks = await submit(hub, "a", "b", "c")
    found, cursor = [], "0"
    while cursor is not None:
        query = f"/api/v1/events?limit=2&kind=task_queued&cursor={cursor}"
        page = await (await hub.ask("GET", query, headers={"Accept": "application/json"})).json()
        found += page["events"]
        cursor = page["next_cursor"]

    assert [event["task"] for event in found] == tasks


async def test_an_unknown_kind_of_event_is_named(hub: RunningHub) -> None:
    answer = await hub.ask("GET", "/api/v1/events?kind=task_quued", headers={"Accept": "application/json"})

    assert answer.status == 422
    assert "task_quued" in await answer.text()


async def test_events_come_as_a_page_too(hub: RunningHub) -> None:
    await submit(hub, "a", "b")

    first = await (await hub.ask("GET", "/api/v1/events?limit=2", headers={"Accept": "application/json"})).json()
    rest = await (
        await hub.ask("GET", f"/api/v1/events?cursor={first['next_cursor']}", headers={"Accept": "application/json"})
    ).json()

    assert [event["seq"] for event in first["events"]] == [1, 2]
    assert rest["events"][0]["seq"] == 3
    assert rest["next_cursor"] is None


async def test_the_events_of_one_task_are_its_own_and_end_with_it(hub: RunningHub) -> None:
    first, _ = await submit(hub, "mine", "other")
    async with hub.stream(f"/api/v1/tasks/{first}/events") as events:
        queued = await events.next()
        await hub.ask("POST", f"/api/v1/tasks/{first}/cancel")
        cancelled, end = await events.next(), await events.next()

        assert [queued["data"]["kind"], cancelled["data"]["kind"]] == ["task_queued", "task_cancelled"]
        assert (end["event"], end["data"]) == ("end", {"state": "cancelled"})
        with pytest.raises(EOFError):
            await events.next()


async def test_a_followed_log_ends_when_the_task_is_final(hub: RunningHub) -> None:
    [task] = await submit(hub, "x")
    async with hub.stream(f"/api/v1/tasks/{task}/logs?follow=true", headers={"Accept": "*/*"}) as log:
        await hub.ask("POST", f"/api/v1/tasks/{task}/cancel")

        assert (await log.next())["event"] == "end"


async def wrote(hub: RunningHub, title: str, agent: str, *texts: str) -> str:
    """A task in the hands of an agent that has written this."""
    body = {"title": title, "labels": {"of": agent}}
    task = str((await (await hub.ask("POST", "/api/v1/tasks", json=body)).json())["id"])
    store = hub.running.store
    await store.commit(Claim(at_ms=1, task=task, agent=agent, host="h", boot=1, placement=PLACEMENT))
    pieces = [
        AppendLog(at_ms=2, task=task, epoch=1, offset=place, stream="stdout", text=text)
        for place, text in enumerate(texts)
    ]
    await asyncio.gather(*map(store.commit, pieces))
    return task


async def test_a_log_is_told_from_its_end(hub: RunningHub) -> None:
    task = await wrote(hub, "x", "One", *(f"{number}\n" for number in range(50)))
    path = f"/api/v1/tasks/{task}/logs"

    last = (await (await hub.ask("GET", f"{path}?tail=3")).json())["logs"]
    before = (await (await hub.ask("GET", f"{path}?before={last[0]['seq']}&limit=40")).json())["logs"]
    assert [piece["text"] for piece in before + last] == [f"{number}\n" for number in range(7, 50)]
    async with hub.stream(f"{path}?follow=true&tail=2") as log:
        assert [(await log.next())["data"]["text"] for _ in range(2)] == ["48\n", "49\n"]
    async with hub.stream(f"{path}?follow=true&tail=2", headers={"Last-Event-ID": str(last[0]["seq"] - 1)}) as log:
        assert (await log.next())["data"]["text"] == "47\n"  # where a reader was counts more than where it began


async def test_output_of_all_tasks_is_one_stream_with_filters(hub: RunningHub) -> None:
    first = await wrote(hub, "first", "One", "Grüße\n")
    await wrote(hub, "second", "Two", "other\n")
    json_page = {"Accept": "application/json"}

    async def texts(query: str) -> list[str]:
        page = await (await hub.ask("GET", f"/api/v1/logs?after=0&{query}", headers=json_page)).json()
        return [piece["text"] for piece in page["logs"]]

    assert await texts("") == ["Grüße\n", "other\n"]
    assert await texts("agent=Two") == await texts("label=of:Two") == await texts("q=OTHER") == ["other\n"]
    assert await texts(f"task={first}") == await texts("q=GRÜSSE") == ["Grüße\n"]
    assert await texts("stream=stderr") == []
    assert (await hub.ask("GET", "/api/v1/logs?task=x")).status == 422
    async with hub.stream("/api/v1/logs?tail=1") as output:
        told = (await output.next())["data"]
        assert (told["text"], told["title"], told["agent"], told["epoch"]) == ("other\n", "second", "Two", 1)
        await wrote(hub, "third", "One", "later\n")
        assert (await output.next())["data"]["text"] == "later\n"


async def test_who_is_far_behind_the_output_of_all_tasks_is_told_what_is_left_out(hub: RunningHub) -> None:
    await wrote(hub, "much", "One", *(f"{number}\n" for number in range(MOST_BEHIND + 51)))

    async with hub.stream("/api/v1/logs", headers={"Last-Event-ID": "0"}) as output:
        dropped, first = await output.next(), await output.next()

    assert (dropped["event"], dropped["data"]) == ("dropped", {"pieces": MOST_BEHIND + 51 - KEPT_BEHIND})
    assert first["data"]["text"] == f"{MOST_BEHIND + 51 - KEPT_BEHIND}\n"


async def test_a_log_is_a_page_unless_it_is_followed(hub: RunningHub) -> None:
    [task] = await submit(hub, "x")

    assert await (await hub.ask("GET", f"/api/v1/tasks/{task}/logs")).json() == {"logs": [], "next_cursor": None}
    assert (await hub.ask("GET", f"/api/v1/tasks/{task}/logs?follow=maybe")).status == 422


async def test_the_metrics_stream_tells_when_the_queue_changes(hub: RunningHub) -> None:
    async with hub.stream("/api/v1/metrics/stream") as numbers:
        before = (await numbers.next())["data"]
        await submit(hub, "a", "b")
        after = (await numbers.next())["data"]

    assert before["queue"]["queued"] == 0
    assert after["queue"]["queued"] == 2


async def test_the_page_gets_everything_first_and_then_what_changed(hub: RunningHub) -> None:
    [old] = await submit(hub, "old")
    async with hub.stream("/dashboard/live") as page:
        me = (await page.next())["data"]
        first = (await told(page))["data"]
        [new] = await submit(hub, "new")
        events: list[dict[str, Any]] = []
        rows: dict[str, Any] = {}
        while not (events and "lists" in rows):  # events come first: their rows are read from the store
            second = (await told(page))["data"]
            events, rows = events + second["events"], rows | second["rows"]

    assert me["role"] == "admin"
    assert "tasks:control" in me["may"]
    assert first["whole"]
    assert first["rows"]["lists"]["newest"]["ids"] == [old]
    assert {event["kind"] for event in first["events"]} >= {"hub_started", "task_queued"}
    assert not second["whole"]
    assert rows["lists"]["newest"]["ids"] == [new, old]
    assert set(rows["tasks"]) == {new}
    assert [event["task"] for event in events] == [new]


async def test_a_page_that_asks_for_columns_gets_rows_that_differ_alike_as_such(hub: RunningHub) -> None:
    tasks = await submit(hub, "a", "b", "c", "d")
    async with hub.stream("/dashboard/live?packed=true") as page:
        first = (await told(page))["data"]

    [group] = first["packed"]["tasks"]
    title = group["fields"].index("title")
    assert {task: row[title] for task, row in group["rows"].items()} == dict(zip(tasks, "abcd", strict=True))
    assert "tasks" not in first["rows"]


async def test_a_page_that_comes_back_is_told_what_it_has_missed(hub: RunningHub) -> None:
    await submit(hub, "old")
    async with hub.stream("/dashboard/live") as page:
        heard = (await told(page))["id"]
    [new] = await submit(hub, "new")
    async with hub.stream("/dashboard/live", headers={"Last-Event-ID": heard}) as page:
        missed = (await told(page))["data"]
    async with hub.stream("/dashboard/live", headers={"Last-Event-ID": "of-another-hub-7"}) as page:
        everything = (await told(page))["data"]

    assert not missed["whole"]
    assert [event["task"] for event in missed["events"]] == [new]
    assert everything["whole"]


async def news(page: Reader, name: str) -> dict[str, Any]:
    """The next of this name; what else the page shows comes in between."""
    while (found := await page.next())["event"] != name:
        pass
    return found


async def test_a_page_is_told_the_log_of_a_task_beside_what_it_shows(hub: RunningHub) -> None:
    task = await wrote(hub, "x", "One", *(f"{number}\n" for number in range(5)))
    async with hub.stream(f"/dashboard/live?log=task&task={task}&tail=2") as page:
        said = [(await news(page, "log"))["data"]["text"] for _ in range(2)]
        await submit(hub, "while it runs")
        while "lists" not in (shown := await told(page))["data"]["rows"]:
            pass
        await hub.ask("POST", f"/api/v1/tasks/{task}/cancel")
        while (await told(page))["data"]["rows"].get("tasks", {}).get(task, {}).get("state") != "cancelled":
            pass  # the board goes on

    board, _, log = shown["id"].partition(".")
    assert said == ["3\n", "4\n"]
    assert board
    assert int(log) > 0


async def test_a_page_hears_the_end_of_a_log_and_goes_on(hub: RunningHub) -> None:
    [task] = await submit(hub, "x")
    async with hub.stream(f"/dashboard/live?log=task&task={task}&tail=2") as page:
        await hub.ask("POST", f"/api/v1/tasks/{task}/cancel")
        end = await news(page, "log-end")
        [later] = await submit(hub, "later")
        while later not in (await told(page))["data"]["rows"].get("tasks", {}):
            pass

    assert end["data"] == {"state": "cancelled"}


@pytest.mark.parametrize("way", ["header", "query"])
async def test_one_id_resumes_both_over_a_cut(hub: RunningHub, way: str) -> None:
    task = await wrote(hub, "x", "One", "a\n", "b\n")
    path = f"/dashboard/live?log=task&task={task}&tail=1000"
    async with hub.stream(path) as page:
        for _ in range(2):
            await news(page, "log")
        while "." not in page.last_id.lstrip("."):  # of both something has been heard
            await page.next()
        heard = page.last_id
    store = hub.running.store
    await store.commit(AppendLog(at_ms=3, task=task, epoch=1, offset=2, stream="stdout", text="c\n"))
    [new] = await submit(hub, "new")
    more = f"&after={heard}" if way == "query" else ""
    header = {"Last-Event-ID": heard} if way == "header" else {}
    async with hub.stream(path + more, headers=header) as page:
        found = [await page.next() for _ in range(3)]

    assert {one["event"] for one in found} == {"me", "message", "log"}
    by_name = {one["event"]: one["data"] for one in found}
    assert by_name["log"]["text"] == "c\n"
    assert not by_name["message"]["whole"]
    assert [event["task"] for event in by_name["message"]["events"]] == [new]


async def test_a_page_that_follows_another_log_keeps_its_place_on_the_board(hub: RunningHub) -> None:
    await wrote(hub, "x", "One", "a\n", "b\n")
    async with hub.stream("/dashboard/live") as page:
        heard = (await told(page))["id"]
    await submit(hub, "new")
    async with hub.stream(f"/dashboard/live?log=all&agent=One&tail=1&after={heard}") as page:
        found = {one["event"]: one["data"] for one in [await page.next() for _ in range(3)]}
        later = await wrote(hub, "later", "One", "c\n")
        await wrote(hub, "other", "Two", "d\n")
        last = (await news(page, "log"))["data"]
        await wrote(hub, "much", "One", *(f"{number}\n" for number in range(MOST_BEHIND + 51)))
    async with hub.stream("/dashboard/live?log=all", headers={"Last-Event-ID": ".1"}) as page:
        dropped = await news(page, "log-dropped")
        after = await news(page, "log")

    assert "." not in heard
    assert found["log"]["text"] == "b\n"
    assert not found["message"]["whole"]
    assert (last["task"], last["text"]) == (later, "c\n")
    assert dropped["data"]["pieces"] > 0
    assert after["data"]["text"] == f"{MOST_BEHIND + 51 - KEPT_BEHIND}\n"


@pytest.mark.parametrize("task", ["x", "tsk_01K0000000000000000000000Z", ""])
async def test_a_log_that_there_is_not_ends_no_page(hub: RunningHub, task: str) -> None:
    async with hub.stream(f"/dashboard/live?log=task&task={task}") as page:
        refused = await news(page, "log-refused")
        [new] = await submit(hub, "new")
        while new not in (await told(page))["data"]["rows"].get("tasks", {}):
            pass

    assert refused["data"]["code"] in {"bad_input", "not_found"}
    assert refused["data"]["detail"]


async def test_a_token_of_one_project_sees_no_log_by_way_of_the_page(hub: RunningHub) -> None:
    tasks = {}
    for name in ("web", "api"):
        body = {"name": name, "repository": f"https://git.example/{name}.git"}
        assert (await hub.ask("POST", "/api/v1/projects", json=body)).status == 201
        made = await hub.ask("POST", "/api/v1/tasks", json={"title": name, "command": "true", "project": name})
        tasks[name] = (await made.json())["id"]
    made = await (await hub.ask("POST", "/api/v1/tokens", json={"role": "viewer", "projects": ["web"]})).json()
    hub.tokens["bound"] = made["token"]
    statuses = [
        (await hub.ask("GET", path, role="bound")).status
        for path in (
            *(f"/dashboard/live?log=task&task={tasks[name]}" for name in tasks),
            "/dashboard/live?log=all",
            *(f"/api/v1/tasks/{tasks[name]}/logs" for name in tasks),
        )
    ]

    assert statuses == [403, 403, 403, 200, 404]


async def test_pages_that_never_read_their_log_keep_nobody_waiting(hub: RunningHub) -> None:
    task = await wrote(hub, "x", "One", *(f"{'x' * 30_000}{number}\n" for number in range(100)))
    host, port = hub.url.removeprefix("http://").split(":")
    stuck = []
    for _ in range(10):
        reader = socket.create_connection((host, int(port)))
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lines = [f"GET /dashboard/live?packed=true&log=task&task={task} HTTP/1.1", f"Host: {host}:{port}"]
        reader.sendall("\r\n".join([*lines, f"Authorization: Bearer {hub.tokens['viewer']}", "", ""]).encode())
        stuck.append(reader)
    async with hub.stream(f"/dashboard/live?log=task&task={task}") as page:
        said = [(await news(page, "log"))["data"]["text"] for _ in range(100)]
        [new] = await submit(hub, "new")
        while new not in (await told(page))["data"]["rows"].get("tasks", {}):
            pass
    for reader in stuck:
        reader.close()

    assert [text[30_000:] for text in said] == [f"{number}\n" for number in range(100)]


async def test_a_stream_ends_when_its_token_is_revoked(hub: RunningHub) -> None:
    made = await (await hub.ask("POST", "/api/v1/tokens", json={"role": "viewer"})).json()
    hub.tokens["ci"] = made["token"]
    async with hub.stream("/api/v1/metrics/stream", role="ci") as numbers:
        await numbers.next()
        await hub.ask("DELETE", f"/api/v1/tokens/{made['id']}")

        with pytest.raises((EOFError, aiohttp.ClientError)):
            await numbers.until("nothing of this kind")


async def test_stopping_the_hub_ends_open_streams_at_once(tmp_path: Path) -> None:
    async with running_hub(tmp_path / "other") as hub, hub.stream("/api/v1/events") as events:
        async with asyncio.timeout(PATIENCE_S):
            await hub.running.stop()

        with pytest.raises((EOFError, aiohttp.ClientError)):
            await events.next()


async def test_readers_that_never_read_cost_the_hub_nothing(hub: RunningHub) -> None:
    host, port = hub.url.removeprefix("http://").split(":")
    stuck = []
    for _ in range(20):
        reader = socket.create_connection((host, int(port)))
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lines = ["GET /api/v1/events?after=0 HTTP/1.1", f"Host: {host}:{port}"]
        lines += [f"Authorization: Bearer {hub.tokens['viewer']}", "", ""]
        reader.sendall("\r\n".join(lines).encode())
        stuck.append(reader)

    tasks = await submit(hub, *(f"title {'x' * 150} {number}" for number in range(1000)))
    async with hub.stream("/api/v1/events?after=0") as events:
        seen = [await events.until("task_queued") for _ in range(1000)]
    for reader in stuck:
        reader.close()

    assert [event["task"] for event in seen] == tasks
