"""Somebody who is told: a web server that answers as the test says, and writes down what it was told."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from tests.support.running_hub import PATIENCE_S
from tests.support.serving import served


class Pager:
    """What was told, in order; :attr:`status` is what it answers."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status = 200
        self.url = ""
        self._rang = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        """One request; what is refused is not written down."""
        if self.status == 200:
            self.got.append((dict(request.headers), await request.read()))
            self._rang.set()
        return web.Response(status=self.status, headers={"Location": f"{self.url}/elsewhere"})

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was told, as JSON."""
        return [json.loads(body) for _, body in self.got]

    async def until(self, fact: Callable[[], object]) -> None:
        """Wait until what was told makes this true.

        Raises:
            TimeoutError: it does not.
        """
        async with asyncio.timeout(PATIENCE_S):
            while not fact():
                self._rang.clear()
                await self._rang.wait()


@contextlib.asynccontextmanager
async def pager_at_work() -> AsyncIterator[Pager]:
    """A pager that answers at its ``url``, on any path."""
    pager, app = Pager(), web.Application()
    app.router.add_route("*", "/{path:.*}", pager.answer)
    async with served(app) as pager.url:
        yield pager
