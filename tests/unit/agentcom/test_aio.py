"""Promises of :mod:`agentcom.aio`."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from agentcom import AsyncClient, TaskSpec
from protocol.endpoint_views import EndpointPatch
from protocol.errors import BadInput, NotFound
from protocol.model import TaskState
from tests.unit.agentcom.conftest import Script, breaks, refuses, replies, streams, summary, view

TASK = "01m7ychhzmsefnyay68aqh999n"


@pytest.fixture
async def client(script: Script) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(script.url, "acm_x") as found:
        yield found


async def test_submit_sends_the_spec_with_a_key_of_its_own(script: Script, client: AsyncClient) -> None:
    script.then(replies(summary(), status=201))

    first = await client.submit({"command": "true", "budget": {"seconds": 5}})
    await client.submit(TaskSpec(command="true"))

    assert first.id == TASK
    assert script.bodies == [{"command": "true", "budget": {"seconds": 5.0}}, {"command": "true"}]
    keys = [request.headers["Idempotency-Key"] for request in script.requests]
    assert len(set(keys)) == 2


async def test_submit_takes_a_task_or_its_fields(script: Script, client: AsyncClient) -> None:
    script.then(replies(summary(), status=201))

    await client.submit(command="true", title="t", key="mine")
    with pytest.raises(TypeError, match="a task or fields, not both: title came beside a task"):
        await client.submit({"command": "true"}, title="t")
    with pytest.raises(TypeError, match="needs a task"):
        await client.submit()
    with pytest.raises(BadInput, match="comand"):
        await client.submit(comand="true")

    assert script.bodies == [{"command": "true", "title": "t"}]
    assert script.requests[0].headers["Idempotency-Key"] == "mine"


async def test_waiting_takes_what_submit_gave_back(script: Script, client: AsyncClient) -> None:
    script.then(replies(summary(), status=201), replies(view(state="completed")))

    ended = await client.wait(await client.submit(command="true"))

    assert ended.state is TaskState.COMPLETED


async def test_a_repeated_submit_uses_one_key(script: Script, client: AsyncClient) -> None:
    script.then(breaks, replies(summary(), status=201))

    await client.submit({"command": "true"})

    assert len({request.headers["Idempotency-Key"] for request in script.requests}) == 1
    assert len(script.requests) == 2


async def test_bad_tasks_are_refused_with_all_problems_before_anything_is_sent(
    script: Script, client: AsyncClient
) -> None:
    with pytest.raises(BadInput) as one:
        await client.submit({"comand": "true", "priority": "soon"})
    with pytest.raises(BadInput) as many:
        await client.submit_many([{"command": "true"}, {"title": 3}, {}])

    assert len(one.value.problems) == 2
    assert [p.path for p in many.value.problems] == ["tasks[1].title", "tasks[2]"]
    assert script.requests == []


async def test_many_tasks_go_in_one_request(script: Script, client: AsyncClient) -> None:
    script.then(replies({"tasks": [summary(), summary()]}, status=201))

    found = await client.submit_many([{"command": "a"}, {"command": "b"}], key="mine")

    assert len(found.tasks) == 2
    assert script.bodies == [{"tasks": [{"command": "a"}, {"command": "b"}]}]
    assert script.requests[0].headers["Idempotency-Key"] == "mine"


async def test_tasks_are_fetched_page_by_page(script: Script, client: AsyncClient) -> None:
    script.then(
        replies({"tasks": [summary(title="1")], "next_cursor": "c"}),
        replies({"tasks": [summary(title="2")], "next_cursor": None}),
    )

    found = [task.title async for task in client.tasks(states=("queued", "running"), label="a:b")]

    assert found == ["1", "2"]
    assert script.requests[0].query == {"state": "queued,running", "label": "a:b", "limit": "200"}
    assert script.requests[1].query["cursor"] == "c"


async def test_wait_returns_a_task_that_is_final_already(script: Script, client: AsyncClient) -> None:
    script.then(replies(view(state="completed")))

    assert (await client.wait(TASK)).state is TaskState.COMPLETED
    assert len(script.requests) == 1


async def test_wait_sees_the_end_on_the_event_stream(script: Script, client: AsyncClient) -> None:
    script.then(
        replies(view(state="running")),
        streams("id: 1\ndata: {}\n\n", "event: end\ndata: {}\n\n"),
        replies(view(state="failed")),
    )

    assert (await client.wait(TASK)).state is TaskState.FAILED
    assert script.requests[1].path == f"/api/v1/tasks/{TASK}/events"


async def test_wait_lives_through_a_hub_that_goes_away(script: Script, client: AsyncClient) -> None:
    script.then(
        breaks,
        replies(view(state="running")),
        breaks,
        streams("event: end\ndata: {}\n\n"),
        breaks,
        replies(view(state="completed")),
    )

    assert (await client.wait(TASK)).state is TaskState.COMPLETED


async def test_wait_gives_up_when_asked_to(script: Script, client: AsyncClient) -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/events"):
            return await streams(": nothing\n\n")(request)
        return web.json_response(view(state="running"))

    script.then(hang)

    with pytest.raises(TimeoutError):
        await client.wait(TASK, timeout_s=0.2)


async def test_waiting_for_nothing_is_an_error(script: Script, client: AsyncClient) -> None:
    script.then(refuses(404, "not_found", "no task 'x'"))

    with pytest.raises(NotFound, match="no task 'x'"):
        await client.wait("x")


async def test_logs_come_as_pages_and_as_a_stream(script: Script, client: AsyncClient) -> None:
    piece = {"seq": 1, "at": "2026-01-01T00:00:00Z", "epoch": 1, "stream": "stdout", "text": "hi"}
    raw = '{"seq":1,"at":"2026-01-01T00:00:00Z","epoch":1,"stream":"stdout","text":"hi"}'
    script.then(
        replies({"logs": [piece], "next_cursor": "1"}),
        replies({"logs": [], "next_cursor": None}),
        streams(f"id: 1\ndata: {raw}\n\n", 'event: end\ndata: {"state":"completed"}\n\n'),
    )

    assert [p.text async for p in client.logs(TASK)] == ["hi"]
    assert [p.text async for p in client.logs(TASK, follow=True)] == ["hi"]


async def test_events_are_followed_from_now_or_from_a_place(script: Script, client: AsyncClient) -> None:
    raw = '{"seq":9,"at":"2026-01-01T00:00:00Z","kind":"task_queued","task":null,"agent":null,"epoch":null,"facts":{}}'
    script.then(streams(f"id: 9\ndata: {raw}\n\n", "event: other\ndata: {}\n\nevent: end\ndata: {}\n\n"))

    assert [e.seq async for e in client.events(after=None, follow=True)] == [9]
    assert [e.seq async for e in client.events(after=4, follow=True)] == [9]
    assert "Last-Event-ID" not in script.requests[0].headers
    assert script.requests[1].headers["Last-Event-ID"] == "4"


async def test_a_gap_among_events_is_told_and_never_silent(script: Script, client: AsyncClient) -> None:
    event = {"seq": 9, "at": "2026-01-01T00:00:00Z", "kind": "task_queued", "task": None, "agent": None, "epoch": None}
    raw = '{"seq":9,"at":"2026-01-01T00:00:00Z","kind":"task_queued","task":null,"agent":null,"epoch":null,"facts":{}}'
    gap = 'id: 8\nevent: reset\ndata: {"floor":8,"newest":9}\n\n'
    script.then(
        streams(gap, f"id: 9\ndata: {raw}\n\n", "event: end\ndata: {}\n\n"),
        replies({"events": [event | {"facts": {}}], "next_cursor": None, "reset": True, "floor": 8, "newest": 9}),
    )
    for follow in (True, False):
        found = [(e.seq, e.kind, e.facts) async for e in client.events(after=4, follow=follow)]

        assert found == [(8, "cursor_reset", {"floor": 8, "newest": 9}), (9, "task_queued", {})]


async def test_names_are_escaped_in_paths(script: Script, client: AsyncClient) -> None:
    script.then(refuses(404, "not_found", "no agent"))

    with pytest.raises(NotFound):
        await client.drain("a/../b c?")
    assert script.requests[0].raw_path == "/api/v1/agents/a%2F..%2Fb%20c%3F/drain"


async def test_a_token_of_an_unknown_role_is_not_asked_for(script: Script, client: AsyncClient) -> None:
    with pytest.raises(BadInput, match="expected one of admin"):
        await client.create_token("root")
    assert script.requests == []


async def test_what_is_removed_answers_nothing(script: Script, client: AsyncClient) -> None:
    async def gone(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    script.then(gone)

    await client.remove_endpoint("x")
    await client.revoke_token("y")
    assert [request.method for request in script.requests] == ["DELETE", "DELETE"]


async def test_a_patch_sends_only_what_changes(script: Script, client: AsyncClient) -> None:
    script.then(refuses(404, "not_found", "none"))

    with pytest.raises(NotFound):
        await client.change_endpoint("x", EndpointPatch(local=False))
    assert script.bodies == [{"local": False}]


async def test_readiness_is_asked_for_once(script: Script, client: AsyncClient) -> None:
    script.then(refuses(503, "unavailable", "starting"), replies({"state": "ok"}))

    assert not await client.is_ready()
    assert await client.is_ready()
