"""The live page in the browser: its files, and the stream that keeps it true.

What the page shows is folded by ``dashboard/view.py``; here it is fed with rows and sent.
"""

from typing import Final

from aiohttp import hdrs, web

from dashboard import view as page_view
from dashboard.routes import PAGE, File, files
from dashboard.view import EVENTS_KEPT, TASKS_SHOWN, View
from hub.web import requests
from hub.web.replies import encode
from hub.web.routing import SSE, Route
from hub.web.services import SERVICES, Services
from hub.web.stream import frame, opened
from protocol.errors import NotFound

_FILES: Final = files()
_LEAST_S: Final = 0.2
"""Under load something changes all the time; nobody reads faster than this."""


async def page(request: web.Request) -> web.StreamResponse:
    """The page."""
    return _send(request, _FILES[PAGE])


async def file(request: web.Request) -> web.StreamResponse:
    """A part of the page."""
    name = request.match_info["name"]
    if name not in _FILES:
        raise NotFound("file", name[:100])
    return _send(request, _FILES[name])


def _send(request: web.Request, found: File) -> web.Response:
    # `no-cache`: keep it, but ask each time; a new release shows at once and an old one costs 304 and no body.
    headers = {hdrs.ETAG: f'"{found.etag}"', hdrs.CACHE_CONTROL: "private, no-cache", hdrs.VARY: "Accept-Encoding, Cookie"}
    if any(tag.value in {found.etag, "*"} for tag in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
        headers[hdrs.CONTENT_ENCODING] = "gzip"
        return web.Response(body=found.packed, headers=headers, content_type=found.content_type, charset="utf-8")
    return web.Response(body=found.body, headers=headers, content_type=found.content_type, charset="utf-8")


async def live(request: web.Request) -> web.StreamResponse:
    """First everything the page shows, then what changes. After a break it simply begins again with everything."""
    requests.query(request)
    services = request.app[SERVICES]
    async with opened(request) as stream:
        shown = page_view.EMPTY
        while True:
            now = await _look(services, shown)
            told = page_view.changes(shown, now)
            if told or shown is page_view.EMPTY:
                told["seq"] = now.seq
                await stream.send([frame(encode(told))])
            shown = now
            await stream.pause(_LEAST_S)
            await services.feed.wait(shown.seq, stream.keepalive_s)
            await stream.rest()
    return stream.response


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
    Route("GET", "/", page, "dashboard:read", "The live page", produces=("text/html",), is_listed=False),
    Route("GET", "/dashboard/live", live, "dashboard:read", "What the live page shows", produces=(SSE,), is_listed=False),
    Route("GET", "/dashboard/{name}", file, "dashboard:read", "A part of the page", produces=("text/javascript",), is_listed=False),
)
