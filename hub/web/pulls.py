"""Pull requests: list, let one go on, try one again."""

from typing import Final

from aiohttp import web

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Param, Route
from hub.web.services import PRINCIPAL, SERVICES
from protocol.api import PREFIX
from protocol.pulls import PullList, PullState, PullView


async def index(request: web.Request) -> web.StreamResponse:
    """A page of pull requests, those of the newest tasks first."""
    asked = requests.query(request)
    page = await request.app[SERVICES].pulls.list(
        state=asked.get("state", ""),
        project=asked.get("project", ""),
        cursor=asked.get("cursor"),
        limit=asked.get("limit", 50),
    )
    if bound := request[PRINCIPAL].scope.projects:
        page.pulls = tuple(pull for pull in page.pulls if pull.project in bound)
    return json_reply(page)


async def show(request: web.Request) -> web.StreamResponse:
    """The pull request of a task."""
    requests.query(request)
    return json_reply(await request.app[SERVICES].pulls.show(requests.task_id(request)))


async def approve(request: web.Request) -> web.StreamResponse:
    """Let a draft go on."""
    return json_reply(await request.app[SERVICES].pulls.approve(requests.task_id(request), request[PRINCIPAL].token))


async def retry(request: web.Request) -> web.StreamResponse:
    """Try now what the forge has refused, or is to be tried later."""
    services, task = request.app[SERVICES], requests.task_id(request)
    found = await services.pulls.retry(task)
    services.audit.record("pull.retry", request[PRINCIPAL], subject=task)
    return json_reply(found)


_PLACE: Final = f"{PREFIX}/pulls"
_ONE: Final = f"{_PLACE}/{{id}}"
_LIST: Final = (
    Param("state", "Only those in this state", "one", choices=tuple(state.value for state in PullState)),
    Param("project", "Only those of this project"),
    Param("limit", "Requests on a page", "count", least=1, most=500),
    Param("cursor", "The next_cursor of the page before"),
)
ROUTES: Final = (
    Route("GET", _PLACE, index, "pulls:read", "List pull requests", None, PullList, _LIST),
    Route("GET", _ONE, show, "pulls:read", "The pull request of a task", None, PullView),
    Route("POST", f"{_ONE}/approve", approve, "pulls:review", "Let a pull request go on", None, PullView),
    Route("POST", f"{_ONE}/retry", retry, "pulls:review", "Try a pull request again now", None, PullView),
)
