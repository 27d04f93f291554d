"""The promise of the passage at the end of an attempt: nothing that waited is asked any more. A real server answers."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
import pytest
from aiohttp import web

from protocol.endpoints import EndpointKind
from protocol.model import AttemptId
from sidecar.llm.config import EndpointSettings
from sidecar.llm.passage import Passages
from tests.support.serving import served

ATTEMPT: Final = AttemptId("box", 1, "01jd0000000000000000000000", 1)
AT_ONCE: Final = 16
WAITING: Final = 8
PATIENCE_S: Final = 60.0


class Slow:
    """An endpoint that thinks until the test is over."""

    def __init__(self) -> None:
        self.url, self.heard, self.is_over = "", 0, asyncio.Event()
        self._news = asyncio.Event()

    async def answer(self, _request: web.Request) -> web.Response:
        """Think."""
        self.heard += 1
        self._news.set()
        await self.is_over.wait()
        return web.json_response({})

    async def until(self, heard: int) -> None:
        """Wait until so many have asked."""
        async with asyncio.timeout(PATIENCE_S):
            while self.heard < heard:
                self._news.clear()
                await self._news.wait()


@pytest.fixture
async def slow() -> AsyncIterator[Slow]:
    made = Slow()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", made.answer)
    async with served(app) as url:
        made.url = f"{url}/v1"
        yield made
        made.is_over.set()


async def test_a_question_that_waits_for_its_turn_is_not_asked_after_the_end_of_the_attempt(slow: Slow) -> None:
    passages = Passages((EndpointSettings("gpt", EndpointKind.OPENAI, slow.url, api_key="key-0123456789"),), ("gpt",))
    (passage,) = passages.open(ATTEMPT, ("llm",))
    own = {"Authorization": f"Bearer {passage.variables['OPENAI_API_KEY']}"}
    path = "/" + passage.variables["OPENAI_BASE_URL"].split("/", 3)[3]
    with socket.create_server(("127.0.0.1", 0)) as door:
        url = f"http://127.0.0.1:{door.getsockname()[1]}{path}/chat/completions"
        connector = aiohttp.TCPConnector(limit=0)
        async with passage.line() as line, aiohttp.ClientSession(connector=connector) as session:
            with socket.socket(fileno=os.dup(line)) as launcher:
                socket.send_fds(launcher, [b"x"], [door.fileno()])

            async def ask(fields: dict[str, str]) -> int:
                async with session.post(url, json={"model": "m"}, headers=fields) as answer:
                    return answer.status

            asking = [asyncio.create_task(ask(own)) for _ in range(AT_ONCE + WAITING)]
            await slow.until(AT_ONCE)
            assert await ask({}) == 401  # so the others, which came before it, wait for their turns
            await passages.close(ATTEMPT)
            async with asyncio.timeout(PATIENCE_S):
                statuses = await asyncio.gather(*asking)

    assert sorted(statuses) == [401] * WAITING + [502] * AT_ONCE
    assert slow.heard == AT_ONCE
