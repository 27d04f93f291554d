"""Models: what can be asked where."""

from typing import Final

from aiohttp import web

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Param, Route
from hub.web.services import SERVICES
from protocol.api import PREFIX
from protocol.endpoint_views import ModelList


async def index(request: web.Request) -> web.StreamResponse:
    """All models on all endpoints."""
    absent = requests.query(request).get("absent", False)
    return json_reply(request.app[SERVICES].registry.models(absent=absent))


_ABSENT: Final = Param("absent", "for every machine also the models that others have and it has not", kind="flag")

ROUTES: Final = (
    Route(
        "GET",
        f"{PREFIX}/models",
        index,
        "endpoints:read",
        "List models on all endpoints",
        None,
        ModelList,
        params=(_ABSENT,),
    ),
)
