"""What people decide about work that waits for them."""

from typing import Final

from aiohttp import web

from hub.store.review_changes import AGAIN, APPROVED, REJECTED
from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Route
from hub.web.services import PRINCIPAL, SERVICES
from protocol.api import PREFIX, TaskView
from protocol.reviews import ApproveBody, RejectBody


async def approve(request: web.Request) -> web.StreamResponse:
    """Let work count that waits for a person; what its checks said stays as it is."""
    body = await requests.optional_body(request, ApproveBody, "approval")
    return await _decided(request, APPROVED, body.reason, body.epoch)


async def reject(request: web.Request) -> web.StreamResponse:
    """Fail work that waits for a person, or send it back with the reason."""
    body = await requests.optional_body(request, RejectBody, "rejection")
    return await _decided(request, AGAIN if body.again else REJECTED, body.reason, body.epoch)


async def _decided(request: web.Request, verdict: str, reason: str, epoch: int | None) -> web.StreamResponse:
    task = requests.task_id(request)
    services = request.app[SERVICES]
    await services.intake.review(task, verdict, request[PRINCIPAL].token, reason=reason[:2_000], epoch=epoch)
    return json_reply(await services.insight.task(task))


ROUTES: Final = (
    Route(
        "POST",
        f"{PREFIX}/tasks/{{id}}/approve",
        approve,
        "tasks:review",
        "Let work count that waits for a person",
        ApproveBody,
        TaskView,
    ),
    Route(
        "POST",
        f"{PREFIX}/tasks/{{id}}/reject",
        reject,
        "tasks:review",
        "Fail work that waits for a person, or send it back",
        RejectBody,
        TaskView,
    ),
)
