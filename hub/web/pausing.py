"""Tasks that people hold up: pause and resume, take over and hand back."""

from typing import Final

from aiohttp import web

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Route
from hub.web.services import PRINCIPAL, SERVICES
from protocol.api import PREFIX, TaskView
from protocol.progress import HandBackBody, HoldKind, PauseBody


async def pause(request: web.Request) -> web.StreamResponse:
    """Stop a task at the end of its turn; it waits until it is resumed."""
    return await _hold(request, HoldKind.PAUSE)


async def take(request: web.Request) -> web.StreamResponse:
    """The same for a person who works on it themselves."""
    return await _hold(request, HoldKind.TAKE)


async def _hold(request: web.Request, kind: HoldKind) -> web.StreamResponse:
    task = requests.task_id(request)
    body = await requests.optional_body(request, PauseBody, "pause")
    services = request.app[SERVICES]
    await services.pausing.hold(task, kind, body.reason, request[PRINCIPAL].token)
    return json_reply(await services.insight.task(task))


async def resume(request: web.Request) -> web.StreamResponse:
    """Let a task go on."""
    task = requests.task_id(request)
    services = request.app[SERVICES]
    await services.pausing.let_go(task, "", request[PRINCIPAL].token)
    return json_reply(await services.insight.task(task))


async def hand_back(request: web.Request) -> web.StreamResponse:
    """Let a task go on, with a word for the model that does."""
    task = requests.task_id(request)
    body = await requests.optional_body(request, HandBackBody, "note")
    services = request.app[SERVICES]
    await services.pausing.let_go(task, body.note, request[PRINCIPAL].token)
    return json_reply(await services.insight.task(task))


_TASK: Final = f"{PREFIX}/tasks/{{id}}"
ROUTES: Final = (
    Route("POST", f"{_TASK}/pause", pause, "tasks:control", "Pause a task at the end of its turn", PauseBody, TaskView),
    Route("POST", f"{_TASK}/resume", resume, "tasks:control", "Let a paused task go on", None, TaskView),
    Route("POST", f"{_TASK}/take", take, "tasks:control", "Take a task over from its agent", PauseBody, TaskView),
    Route("POST", f"{_TASK}/hand-back", hand_back, "tasks:control", "Hand a task back", HandBackBody, TaskView),
)
