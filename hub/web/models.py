"""Models: what can be asked where."""

from typing import Final

from aiohttp import web

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Route
from hub.web.services import SERVICES
from protocol.api import PREFIX, ModelList


async def index(request: web.Request) -> web.StreamResponse:
    """All models on all endpoints."""
    requests.query(request)
    return json_reply(request.app[SERVICES].registry.models())


ROUTES: Final = (
    Route("GET", f"{PREFIX}/models", index, "endpoints:read", "List models on all endpoints", None, ModelList),
)
