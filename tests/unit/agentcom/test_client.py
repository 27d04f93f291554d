"""Promises of :mod:`agentcom.client`."""

import asyncio
import inspect

import pytest

from agentcom import AsyncClient, Client
from protocol.errors import BadInput, NotFound
from tests.unit.agentcom.conftest import Script, refuses, replies, summary, view


def public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


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
