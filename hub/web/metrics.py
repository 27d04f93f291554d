"""Numbers: for Prometheus, over time for charts, and a small live snapshot for people."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from aiohttp import hdrs, web
from prometheus_client.exposition import choose_encoder

from hub.core.series import FIGURES
from hub.exposition import END, OPEN_METRICS
from hub.web import requests
from hub.web.replies import encode, json_reply
from hub.web.routing import SSE, Param, Route
from hub.web.services import LIVE, SERVICES, Services
from hub.web.stream import Stream, frame, opened
from protocol.api import PREFIX
from protocol.bounds import MAX_WORD_CHARS
from protocol.events import EventKind
from protocol.metrics import MetricsHistory, MetricsSnapshot

_EVERY_S: Final = 2.0
_LEAST_S: Final = 0.2
"""Under load something changes all the time; nobody reads faster than this."""


async def exposition(request: web.Request) -> web.StreamResponse:
    """All metrics in the Prometheus text format (or OpenMetrics, if asked for)."""
    _, content_type = choose_encoder(request.headers.get(hdrs.ACCEPT, ""))
    is_open, live = content_type.startswith(OPEN_METRICS), request.app[LIVE]
    end = END if is_open else b""
    body = b"".join((*live.metrics.written(is_open=is_open), door(len(live.streams), live.refused).encode(), end))
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})


def door(streams: int, refused: Mapping[str, int]) -> str:
    """What the HTTP side counts itself: streams that are open, and requests by the limit that they have hit."""
    lines = "".join(f'agentcom_refused{{code="{code}"}} {count}\n' for code, count in sorted(refused.items()))
    return (
        "# HELP agentcom_streams_open Streams of events that people and programs follow\n"
        f"# TYPE agentcom_streams_open gauge\nagentcom_streams_open {streams}\n"
        "# HELP agentcom_refused Requests refused since the start because a limit was hit\n"
        f"# TYPE agentcom_refused gauge\n{lines}"
    )


async def snapshot(services: Services) -> MetricsSnapshot:
    """The numbers as they are now."""
    event = services.insight.newest_event
    queue = (await services.insight.health()).queue
    agents = Counter(agent.state.value for agent in services.presence.agents().agents)
    lately, tally = services.recording.lately(), services.recording.tally
    return MetricsSnapshot(
        event=event,
        queue=queue,
        agents=dict(agents),
        running=queue.get("running", 0),
        tasks=tally.submitted,
        completed=tally.happened(EventKind.TASK_COMPLETED),
        failed=tally.happened(EventKind.TASK_FAILED, EventKind.TASK_DEAD),
        active_workers=services.recording.busy,
        mean_latency_s=lately.mean_latency_s,
        success_rate=lately.success_rate,
    )


async def history(request: web.Request) -> web.StreamResponse:
    """Figures over time, as the hub has kept them."""
    asked = requests.query(request)
    since_s, until_s = requests.moments(asked, "since", "until")
    names = frozenset(name for name in asked.get("names", "").split(",") if name)
    return json_reply(await request.app[SERVICES].recording.history(names, since_s, until_s, asked.get("step_s", 0)))


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
    Route(
        "GET",
        f"{PREFIX}/metrics",
        history,
        "metrics:read",
        "Figures over time",
        None,
        MetricsHistory,
        (
            Param(
                "names", f"Which figures, separated by commas: {', '.join(FIGURES)}; left out: all", most=MAX_WORD_CHARS
            ),
            Param("since", "From when; left out: an hour before `until`"),
            Param("until", "Until when; left out: now"),
            Param("step_s", "Seconds of a point; left out: the finest that is kept", "count", most=86_400 * 30),
        ),
    ),
)
