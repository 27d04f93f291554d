"""Why a task stands where it stands."""

from typing import Final

from aiohttp import web

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Route
from hub.web.services import SERVICES
from protocol.api import PREFIX, Explanation


async def show(request: web.Request) -> web.StreamResponse:
    """Why the task waits or how it was routed, agent by agent, and what would move it."""
    requests.query(request)
    return json_reply(await request.app[SERVICES].insight.explain(requests.task_id(request)))


ROUTES: Final = (
    Route(
        "GET",
        f"{PREFIX}/tasks/{{id}}/explain",
        show,
        "tasks:read",
        "Why a task waits, and what would move it",
        None,
        Explanation,
    ),
)
