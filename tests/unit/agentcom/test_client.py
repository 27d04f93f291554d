"""Promises of :mod:`agentcom.client`."""

import asyncio
import inspect

import pytest

from agentcom import AsyncClient, Client
from protocol.errors import BadInput, NotFound
from tests.unit.agentcom.conftest import Script, refuses, replies, summary, view


def public(kind: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


def test_it_has_every_method_of_the_asynchronous_client_with_the_same_arguments() -> None:
    assert public(Client) == public(AsyncClient)
    for name in public(Client):
        ours, theirs = (inspect.signature(getattr(kind, name)).parameters for kind in (Client, AsyncClient))
        assert list(ours.values()) == list(theirs.values()), name


async def test_it_works_inside_a_program_with_a_running_loop(script: Script) -> None:
    script.then(replies(summary(), status=201), replies(view(state="completed")))

    def use() -> str:
        with Client(script.url, "acm_x") as hub:
            return hub.wait(hub.submit({"command": "true"}).id).state

    assert await asyncio.to_thread(use) == "completed"


async def test_a_task_can_be_given_field_by_field_and_waited_for_as_it_came_back(script: Script) -> None:
    script.then(replies(summary(), status=201), replies(view(state="completed")))

    def use() -> str:
        with Client(script.url, "acm_x") as client:
            task = client.wait(
                client.submit(
                    prompt="Say hello",
                    save_as="hello.txt",
                    verification=[{"type": "file_exists", "path": "hello.txt"}],
                )
            )
            return task.state

    assert await asyncio.to_thread(use) == "completed"
    assert script.bodies[0] == {
        "prompt": "Say hello",
        "save_as": "hello.txt",
        "verification": [{"type": "file_exists", "path": "hello.txt"}],
    }
    assert script.requests[1].path == f"/api/v1/tasks/{summary()['id']}"


async def test_every_question_about_a_task_takes_what_the_hub_told_of_it(script: Script) -> None:
    tier = view()["routing"]
    reason = {
        "task": "x",
        "state": "queued",
        "summary": "",
        "unblock": [],
        "position": 0,
        "agents": [],
        "routing": tier,
    }
    script.then(
        replies(summary(), status=201),
        replies(view()),
        replies(reason),
        replies({"logs": [], "next_cursor": None}),
        replies({"events": [], "next_cursor": None}),
        replies(view(state="cancelled")),
        replies(view()),
    )

    def use() -> None:
        with Client(script.url, "acm_x") as hub:
            whole = hub.task(hub.submit(command="true"))
            hub.explain(whole)
            assert not [*hub.logs(whole), *hub.events(task=whole)]
            hub.cancel(whole)
            hub.retry(whole)

    await asyncio.to_thread(use)
    place = f"/api/v1/tasks/{summary()['id']}"
    asked = [request.path.removeprefix(place) for request in script.requests[1:]]
    assert asked == ["", "/explain", "/logs", "/events", "/cancel", "/retry"]


async def test_a_stream_that_is_left_early_is_closed(script: Script) -> None:
    script.then(replies({"tasks": [summary(title="1"), summary(title="2")], "next_cursor": "x"}))

    def use() -> str:
        with Client(script.url, "acm_x") as hub:
            for task in hub.tasks():
                return task.title
        return ""

    assert await asyncio.to_thread(use) == "1"
    assert len(script.requests) == 1


async def test_errors_arrive_as_they_are(script: Script) -> None:
    script.then(refuses(404, "not_found", "no task 'x'"))

    def use() -> None:
        with Client(script.url, "acm_x") as hub:
            hub.task("x")

    with pytest.raises(NotFound, match="no task 'x'"):
        await asyncio.to_thread(use)


def test_closing_twice_does_nothing() -> None:
    client = Client("http://127.0.0.1:9", "acm_x")
    client.close()
    client.close()


def test_wrong_settings_are_told_before_anything_starts() -> None:
    with pytest.raises(BadInput, match="not an address"):
        Client("nonsense")
