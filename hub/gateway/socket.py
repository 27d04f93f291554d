"""``/mesh``: the WebSockets that sidecars open. Carries frames; what they mean is ``server.py``.

The route has checked the token of the request; whether it still counts is looked at again for as long as the socket
stands. The socket outlives its request (``websocket.py``), in a task of its own.
"""

import asyncio
import base64
import hashlib
from collections.abc import Callable
from typing import Final

import structlog
from aiohttp import hdrs, web
from aiohttp.http import WS_KEY

from hub.core.access import Principal
from hub.gateway.arrivals import Arrivals
from hub.gateway.server import Gateway
from hub.gateway.websocket import WebSocket, take_over
from protocol.clock import Clock
from protocol.errors import Overloaded, Unavailable
from protocol.model import Role

RETRY_AFTER_S: Final = 2.0
ANYBODY: Final = Principal("", Role.AGENT)
log = structlog.get_logger(__name__)


class Door:
    """Lets sidecars in to the gateway."""

    def __init__(
        self,
        gateway: Gateway,
        is_welcome: Callable[[Principal], bool],
        *,
        clock: Clock,
        fleet: Callable[[], int] = lambda: 0,
        why_closed: Callable[[], str] = str,
        who: Callable[[web.Request], Principal] = lambda _request: ANYBODY,
        channels: Callable[[web.Request], frozenset[str]] = lambda _request: frozenset(),
    ) -> None:
        """Prepare a door.

        Args:
            gateway: serves what comes in.
            is_welcome: whether the token of a caller still lets it in.
            clock: the time.
            fleet: how many sidecars are known.
            why_closed: why nobody is let in for the moment; empty: all are.
            who: whose token a request has shown.
            channels: certificates that this hub shows to whoever has sent a request, if it knows.
        """
        self._who, self._channels = who, channels
        self._gateway, self._is_welcome = gateway, is_welcome
        self._clock, self._fleet, self._why_closed = clock, fleet, why_closed
        self._arrivals = Arrivals(clock.monotonic())
        self._serving: set[asyncio.Task[None]] = set()
        self._is_shut = False

    async def accept(self, request: web.Request) -> web.StreamResponse:
        """Open a socket; it is served from then on until it closes, whatever becomes of the request.

        Raises:
            Unavailable: nobody is let in for the moment.
            Overloaded: too many have come at once; it says when to come back.
        """
        if why := "this hub is ending" if self._is_shut else self._why_closed():
            raise Unavailable(why, RETRY_AFTER_S)
        if wait_s := self._arrivals.ask(self._clock.monotonic(), self._fleet()):
            raise Overloaded("too many sidecars come in at once", wait_s)
        if not web.WebSocketResponse(compress=False).can_prepare(request):
            raise web.HTTPBadRequest(text="this is the door for WebSockets of sidecars")
        answer = _Agreed(request.headers[hdrs.SEC_WEBSOCKET_KEY])
        await answer.prepare(request)
        socket = take_over(
            request, who=self._who(request), is_welcome=self._is_welcome, channels=self._channels(request)
        )
        task = asyncio.create_task(self._serve(socket))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        return answer

    async def _serve(self, socket: WebSocket) -> None:
        try:
            await self._gateway.serve(socket)
        except (ConnectionError, TimeoutError):
            pass  # it is gone: there is nobody to tell
        except BaseException as exc:
            socket.cut_off()
            if not isinstance(exc, Exception):
                raise
            log.exception("link_failed", next="its sidecar comes again")  # a bug in one link ends no other

    async def shut(self, seconds: float) -> None:
        """Close all sockets, wait until they are, at most so long, and let nobody in any more."""
        self._is_shut = True
        self._gateway.cut_all()
        if not self._serving:
            return
        _, left = await asyncio.wait(self._serving, timeout=seconds)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


class _Agreed(web.StreamResponse):
    """Says that from now on the connection is a WebSocket."""

    def __init__(self, key: str) -> None:
        proof = base64.b64encode(hashlib.sha1(key.encode() + WS_KEY, usedforsecurity=False).digest()).decode()
        headers = {hdrs.UPGRADE: "websocket", hdrs.CONNECTION: "upgrade", hdrs.SEC_WEBSOCKET_ACCEPT: proof}
        super().__init__(status=101, headers=headers)

    async def write_eof(self, data: bytes = b"") -> None:
        """What comes behind it is not the HTTP server's."""
