"""Output of a task: page by page, or live until the task is final and everything was sent."""

from typing import Final

from aiohttp import web

from hub.web import requests
from hub.web.events import POSITION, position
from hub.web.replies import encode, json_reply, wants_stream
from hub.web.routing import JSON, SSE, Param, Route
from hub.web.services import SERVICES, Services
from hub.web.stream import Stream, frame, opened
from protocol.api import PREFIX, LogList
from protocol.model import FINAL_STATES

_PAGE: Final = 200
_READ: Final = 32  # pieces of at most 32 Ki characters: what a stream holds in memory
_LOOK_S: Final = 0.5
"""A task may end without a last piece of output, and a wake-up may be lost: look again this often."""


async def show(request: web.Request) -> web.StreamResponse:
    """Pieces of output, oldest first."""
    asked = requests.query(request)
    task = requests.task_id(request)
    services = request.app[SERVICES]
    after = position(request, asked) or 0
    if not asked.get("follow", wants_stream(request, unless_asked=False)):
        return json_reply(await services.insight.logs(task, after=after, limit=asked.get("limit", _PAGE)))
    await services.insight.task(task)
    async with opened(request, after) as stream:
        await _follow(stream, services, task, after)
    return stream.response


async def _follow(stream: Stream, services: Services, task: str, after: int) -> None:
    while True:
        # The state comes first: if it was final before the read, then the read has seen all output there will be.
        view = await services.insight.task(task)
        page = await services.insight.logs(task, after=after, limit=_READ)
        await stream.send(frame(encode(piece), seq=piece.seq) for piece in page.logs)
        if page.logs:
            after = page.logs[-1].seq
        if len(page.logs) == _READ:
            continue
        if view.state in FINAL_STATES:
            await stream.send([frame(encode({"state": view.state}), name="end")])
            return
        await services.feed.wait_logs(task, min(_LOOK_S, stream.keepalive_s))
        await stream.rest()


ROUTES: Final = (
    Route(
        "GET",
        f"{PREFIX}/tasks/{{id}}/logs",
        show,
        "tasks:read",
        "Output of a task: a page, or a stream until it is final",
        None,
        LogList,
        (*POSITION, Param("follow", "Stream until the task is final", "flag")),
        produces=(JSON, SSE),
    ),
)
