"""What programs of work may take of us before they ask anything: so many connections, each silent for so long.

A connection is a descriptor of the sidecar, which needs them for its own children, its journal and its hub. Needs
aiohttp, so it is imported when work asks for the first time. Caller: ``sidecar/llm/passage.py``.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

MOST: Final = 64
"""Connections of one program at a time."""
SILENT_S: Final = 30.0
"""How long a connection may be without a whole request."""


class Porch(web.Server):
    """A server that closes at once what is too much, and in time what says nothing.

    Args:
        answer: answers a request.
        most, silent_s: connections at a time, and the seconds that each of them may go without a request.
    """

    def __init__(
        self,
        answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        most: int = MOST,
        silent_s: float = SILENT_S,
    ) -> None:
        super().__init__(self._hear, access_log=None)
        self._answer, self._most, self._silent_s = answer, most, silent_s
        self._silent: dict[RequestHandler, asyncio.TimerHandle] = {}

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Somebody has come."""
        super().connection_made(handler, transport)
        if len(self.connections) > self._most:
            # Not at once: the handler that aiohttp is about to start takes it that there is somebody.
            asyncio.get_running_loop().call_soon(transport.abort)
        else:
            self._wait(handler, transport)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Somebody has gone."""
        self._hush(handler)
        super().connection_lost(handler, exc)

    async def _hear(self, request: web.BaseRequest) -> web.StreamResponse:
        self._hush(request.protocol)
        try:
            return await self._answer(request)
        finally:
            if request.transport is not None:
                self._wait(request.protocol, request.transport)

    def _wait(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        self._hush(handler)
        loop = asyncio.get_running_loop()
        self._silent[handler] = loop.call_later(self._silent_s, transport.abort)

    def _hush(self, handler: RequestHandler) -> None:
        if (timer := self._silent.pop(handler, None)) is not None:
            timer.cancel()
