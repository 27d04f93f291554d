"""The promises of the client that asks about tasks alone: it answers like the whole one, and needs little to start."""

import asyncio
import subprocess
import sys
from inspect import getmembers, isfunction

from agentcom.blocking_tasks import BlockingTasks, TaskClient
from agentcom.client import Client
from tests.unit.agentcom.test_brief import OK, says

PAGE = b'{"tasks":[],"next_cursor":null,"total":0}'
IMPORTED = (
    "import sys; from agentcom.blocking_tasks import TaskClient; print(sorted({'aiohttp', 'ssl'} & set(sys.modules)))"
)


async def test_it_asks_as_the_whole_client_does() -> None:
    asked: list[bytes] = []
    for kind in (TaskClient, Client):
        async with says(OK + b"Content-Length: %d\r\n\r\n" % len(PAGE) + PAGE) as server:

            def ask(url: str = server.url, kind: type[BlockingTasks] = kind) -> object:
                with kind(url, token="acm_t", is_brief=True) as client:
                    return client.task_page(states=["queued"], label="a:b").tasks

            assert await asyncio.to_thread(ask) == ()
            asked.append(server.asked[0].splitlines()[0])

    assert asked[0] == asked[1]
    assert asked[0].startswith(b"GET /api/v1/tasks?")
    assert b"label=a%3Ab" in asked[0]


def test_all_that_it_asks_the_whole_client_asks_too() -> None:
    named = {name for name, _ in getmembers(BlockingTasks, isfunction)}

    assert named <= {name for name, _ in getmembers(Client, isfunction)}


def test_it_starts_without_what_short_calls_do_not_need() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout == "[]\n"
