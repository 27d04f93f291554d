"""A task from its log, and its routing decided again."""

from typing import Final

from aiohttp import web

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Route
from hub.web.services import SERVICES
from protocol.api import PREFIX
from protocol.replay import Replay


async def show(request: web.Request) -> web.StreamResponse:
    """What happened to the task step by step, and whether it would be routed so again."""
    requests.query(request)
    return json_reply(await request.app[SERVICES].replaying.replay(requests.task_id(request)))


_PLACE: Final = f"{PREFIX}/tasks/{{id}}/replay"
ROUTES: Final = (Route("GET", _PLACE, show, "tasks:read", "A task from its log, routed again", None, Replay),)
