"""Health: alive (no token), ready (no token), and the hub's own view of its parts."""

from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta, Struct

from hub.services.readiness import DOWN
from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Param, Route
from hub.web.services import SERVICES
from protocol.api import PREFIX, ComponentHealth, Health
from protocol.errors import Unavailable
from protocol.version import NEWEST, OLDEST


class Alive(Struct, kw_only=True):
    """The process answers.

    Attributes:
        protocol: the oldest and the newest version of the wire protocol that it speaks: a machine that is to join looks
            before it shows its token.
    """

    status: str = "ok"
    protocol: Annotated[tuple[int, ...], Meta(min_length=2, max_length=2)] = (OLDEST, NEWEST)


class Ready(Struct, kw_only=True, omit_defaults=True):
    """``ok`` or ``unready``; with ``?verbose`` each part that is looked at, in the words of the health."""

    status: str
    parts: dict[str, ComponentHealth] = {}


async def alive(_request: web.Request) -> web.StreamResponse:
    """Whether the process answers; says nothing about its parts."""
    return json_reply(Alive())


async def ready(request: web.Request) -> web.StreamResponse:
    """Whether work can be submitted now; 503 with the reason if not. ``?verbose`` tells part by part."""
    readiness = request.app[SERVICES].readiness
    if "verbose" in request.query:
        parts = await readiness.parts()
        is_ready = all(part.state != DOWN for part in parts.values())
        return json_reply(Ready(status="ok" if is_ready else "unready", parts=parts), 200 if is_ready else 503)
    if why_not := await readiness.why_not():
        raise Unavailable(f"the hub is not ready: {why_not}")
    return json_reply(Ready(status="ok"))


async def show(request: web.Request) -> web.StreamResponse:
    """Each part of the hub: ok, degraded or down, and why."""
    requests.query(request)
    return json_reply(await request.app[SERVICES].insight.health())


_READY: Final = (Param("verbose", "Tell part by part"),)
ROUTES: Final = (
    Route("GET", "/healthz", alive, None, "Whether the process answers", None, Alive),
    Route("GET", "/readyz", ready, None, "Whether work can be submitted now", None, Ready, _READY),
    Route("GET", f"{PREFIX}/health", show, "health:read", "State of each part of the hub", None, Health),
)
