"""Numbers: for Prometheus, and a small live snapshot for people."""

from collections import Counter
from typing import Final

from aiohttp import hdrs, web
from msgspec import Struct
from prometheus_client.exposition import choose_encoder

from hub.web import requests
from hub.web.replies import encode
from hub.web.routing import SSE, Route
from hub.web.services import LIVE, SERVICES, Services
from hub.web.stream import Stream, frame, opened
from protocol.api import PREFIX

_EVERY_S: Final = 2.0
_LEAST_S: Final = 0.2
"""Under load something changes all the time; nobody reads faster than this."""


class MetricsSnapshot(Struct, kw_only=True):
    """The hub in a few numbers; ``event`` is the newest event it takes into account."""

    event: int
    queue: dict[str, int]
    agents: dict[str, int]
    running: int


async def exposition(request: web.Request) -> web.StreamResponse:
    """All metrics in the Prometheus text format (or OpenMetrics, if asked for)."""
    encoder, content_type = choose_encoder(request.headers.get(hdrs.ACCEPT, ""))
    return web.Response(body=encoder(request.app[LIVE].metrics), headers={hdrs.CONTENT_TYPE: content_type})


async def snapshot(services: Services) -> MetricsSnapshot:
    """The numbers as they are now."""
    event = services.insight.newest_event
    queue = (await services.insight.health()).queue
    agents = Counter(agent.state.value for agent in services.presence.agents().agents)
    return MetricsSnapshot(event=event, queue=queue, agents=dict(agents), running=queue.get("running", 0))


async def live(request: web.Request) -> web.StreamResponse:
    """The snapshot, whenever something happened, and every 2 seconds."""
    requests.query(request)
    services = request.app[SERVICES]
    async with opened(request) as stream:
        await _tell(stream, services)
    return stream.response


async def _tell(stream: Stream, services: Services) -> None:
    while True:
        now = await snapshot(services)
        await stream.send([frame(encode(now))])
        await stream.pause(_LEAST_S)
        await services.feed.wait(now.event, _EVERY_S - _LEAST_S)


ROUTES: Final = (
    Route("GET", "/metrics", exposition, "metrics:read", "All metrics for Prometheus", produces=("text/plain",)),
    Route(
        "GET",
        f"{PREFIX}/metrics/stream",
        live,
        "metrics:read",
        "A few numbers, live",
        None,
        MetricsSnapshot,
        produces=(SSE,),
    ),
)
