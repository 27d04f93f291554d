"""From which level on the parts of the mesh log: see it, and set it while they run."""

from typing import Final

from aiohttp import web

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Route
from hub.web.services import PRINCIPAL, SERVICES
from protocol.api import PREFIX
from protocol.log_levels import LevelList, LevelsBody


async def index(request: web.Request) -> web.StreamResponse:
    """What is set, and for what a level can be set."""
    requests.query(request)
    return json_reply(request.app[SERVICES].log_levels.show())


async def change(request: web.Request) -> web.StreamResponse:
    """Set levels, or take them back."""
    body = await requests.body(request, LevelsBody, "log levels")
    return json_reply(await request.app[SERVICES].log_levels.put(body, request[PRINCIPAL].token))


_PLACE: Final = f"{PREFIX}/log-levels"
ROUTES: Final = (
    Route("GET", _PLACE, index, "log_levels:read", "From which level on which part logs", None, LevelList),
    Route("PATCH", _PLACE, change, "log_levels:write", "Set levels by component", LevelsBody, LevelList),
)
