"""The live page: its files and the stream that keeps it true.

What the page shows is folded by ``dashboard/view.py``; here it is fed with rows and sent. The files of the page are
``dashboard/routes.py``.
"""

from typing import Final

from aiohttp import web

from dashboard import routes as page
from dashboard import view as page_view
from dashboard.view import EVENTS_KEPT, TASKS_SHOWN, View
from hub.web import requests
from hub.web.replies import encode
from hub.web.routing import SSE, Route
from hub.web.services import SERVICES, Services
from hub.web.stream import Stream, frame, opened

_LEAST_S: Final = 0.2
"""Under load something changes all the time; nobody reads faster than this."""


async def live(request: web.Request) -> web.StreamResponse:
    """First everything the page shows, then what changes. After a break it simply begins again with everything."""
    requests.query(request)
    services = request.app[SERVICES]
    async with opened(request) as stream:
        await _tell(stream, services)
    return stream.response


async def _tell(stream: Stream, services: Services) -> None:
    shown = page_view.EMPTY
    while True:
        now = await _look(services, shown)
        told = page_view.changes(shown, now)
        # Sent even if nothing changed: the page sees no comments, and silence has to mean that the line is dead.
        await stream.send([frame(encode({"seq": now.seq, **told}))])
        shown = now
        await stream.pause(_LEAST_S)
        await services.feed.wait(shown.seq, stream.keepalive_s)


async def _look(services: Services, shown: View) -> View:
    seq = services.insight.newest_event
    events = await services.insight.events(after=max(shown.seq, seq - EVENTS_KEPT), limit=EVENTS_KEPT)
    return page_view.fold(
        shown,
        seq=seq,
        events=events.events,
        queue=(await services.insight.health()).queue,
        agents=services.presence.agents().agents,
        tasks=(await services.insight.tasks(limit=TASKS_SHOWN)).tasks,
    )


ROUTES: Final = (
    Route(
        "GET", "/dashboard/live", live, "dashboard:read", "What the live page shows", produces=(SSE,), is_listed=False
    ),
    Route("GET", "/", page.page, "dashboard:read", "The live page", produces=("text/html",), is_listed=False),
    Route(
        "GET",
        "/dashboard/{name}",
        page.file,
        "dashboard:read",
        "A part of the page",
        produces=("text/css",),
        is_listed=False,
    ),
)
