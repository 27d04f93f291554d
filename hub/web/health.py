"""Health: alive (no token), ready (no token), and the hub's own view of its parts."""

from typing import Final

from aiohttp import web
from msgspec import Struct

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Route
from hub.web.services import SERVICES
from protocol.api import PREFIX, Health
from protocol.errors import Unavailable


class Alive(Struct, kw_only=True):
    """The process answers."""

    status: str = "ok"


async def alive(_request: web.Request) -> web.StreamResponse:
    """Whether the process answers; says nothing about its parts."""
    return json_reply(Alive())


async def ready(request: web.Request) -> web.StreamResponse:
    """Whether work can be submitted now; 503 with the reason if not."""
    why_not = await request.app[SERVICES].insight.is_ready()
    if why_not:
        raise Unavailable(f"the hub is not ready: {why_not}")
    return json_reply(Alive())


async def show(request: web.Request) -> web.StreamResponse:
    """Each part of the hub: ok, degraded or down, and why."""
    requests.query(request)
    return json_reply(await request.app[SERVICES].insight.health())


ROUTES: Final = (
    Route("GET", "/healthz", alive, None, "Whether the process answers", None, Alive),
    Route("GET", "/readyz", ready, None, "Whether work can be submitted now", None, Alive),
    Route("GET", f"{PREFIX}/health", show, "health:read", "State of each part of the hub", None, Health),
)
