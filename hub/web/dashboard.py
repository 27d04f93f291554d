"""The live page: its files and the stream that keeps it true.

What pages show is folded by ``dashboard/view.py``; here it is fed with rows and sent. Nobody works for pages while
nobody watches: whoever watches looks, and what one has seen the others need not look at again. The files of the page
are ``dashboard/routes.py``.
"""

import asyncio
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec import Struct

from dashboard import routes as page
from dashboard.view import EVENTS_KEPT, Board, Change, Row
from hub.core.access import PERMISSIONS, may
from hub.store.store import TaskQuery
from hub.web import requests
from hub.web.replies import encode
from hub.web.routing import SSE, Route
from hub.web.services import PRINCIPAL, SERVICES, SETTINGS, Services
from hub.web.stream import Stream, frame, opened
from protocol.host_views import HostView
from protocol.machine import GpuReport
from protocol.model import TaskState

_LEAST_S: Final = 0.2
"""Under load something changes all the time; nobody reads faster than this."""
_LOOK_S: Final = 1.0
"""Readings of machines come without an event."""
_SLOW_S: Final = 5.0
"""Budgets are counted from rows, so they are looked at less often."""
NEWEST_SHOWN: Final = 50
BUSY_SHOWN: Final = 200
TROUBLED_SHOWN: Final = 20


class PageBoard:
    """What all open pages show, looked at by whoever watches."""

    def __init__(self) -> None:
        self.board = Board(secrets.token_hex(4))
        self._lock = asyncio.Lock()
        self._seen, self._looked_at, self._slow_at = -1, float("-inf"), float("-inf")
        self._frames: dict[str, bytes] = {}

    async def look(self, services: Services) -> None:
        """Bring the board up to date, unless another page has just done so."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        async with self._lock:
            if self._looked_at >= asked_at - _LEAST_S / 2 and self._seen >= services.insight.newest_event:
                return
            self._looked_at, newest = loop.time(), services.insight.newest_event
            tables: dict[str, Mapping[str, Row]] = _machines(services)
            tables["hub"] = await _hub(services)
            events: list[Row] = []
            if newest != self._seen:
                tables["tasks"], tables["lists"] = await _tasks(services)
                after = max(self.board.newest_event, newest - EVENTS_KEPT)
                found = await services.insight.events(after=after, limit=EVENTS_KEPT)
                events = [_row(event) for event in found.events]
            if loop.time() - self._slow_at >= _SLOW_S:
                self._slow_at = loop.time()
                tables["budgets"] = _keyed((each.id, each) for each in (await services.budgets.list()).budgets)
            if self.board.look(tables, events):
                self._frames.clear()
            self._seen = newest

    def frame(self, position: str) -> bytes | None:
        """What a page at ``position`` is sent; ``None``: it knows everything."""
        if position == self.board.position:
            return None
        known = position if self.board.remembers(position) else ""  # whatever else a page says, it gets everything
        if known not in self._frames:
            change, is_whole = self.board.since(known)
            self._frames[known] = _frame(change, self.board.position, is_whole=is_whole)
        return self._frames[known]


PAGES: Final = web.AppKey("pages", PageBoard)


def _frame(change: Change, position: str, *, is_whole: bool) -> bytes:
    told = encode({"whole": is_whole, "rows": change.rows, "events": change.events})
    return b"id: %s\n" % position.encode() + frame(told)


def _machines(services: Services) -> dict[str, Mapping[str, Row]]:
    hosts = services.hosts.hosts().hosts
    return {
        "agents": _keyed((agent.name, agent) for agent in services.presence.agents().agents),
        "hosts": {host.name: host_row(host) for host in hosts},
        "gpus": {f"{host.name} {place}": gpu_row(host, gpu) for host in hosts for place, gpu in enumerate(host.gpus)},
        "endpoints": _keyed((endpoint.id, endpoint) for endpoint in services.registry.endpoints().endpoints),
    }


def host_row(host: HostView) -> Row:
    """What pages show of a machine: no core by itself, and no figure finer than anybody sees."""
    cpu = host.cpu and {"percent": round(host.cpu.percent), "cores": host.cpu.cores}
    return {**_row(host), "cpu": cpu, "gpus": len(host.gpus)}


def gpu_row(host: HostView, gpu: GpuReport) -> Row:
    """What pages show of a GPU."""
    fine = {name: _rounded(getattr(gpu, name)) for name in ("utilization", "temperature_c", "power_w")}
    return {**_row(gpu), **fine, "host": host.name}


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)


async def _hub(services: Services) -> Mapping[str, Row]:
    health = await services.insight.health()
    counts = await services.insight.counts()
    return {"hub": {**_row(health), "queue": {state.value: counts.get(state, 0) for state in TaskState}}}


async def _tasks(services: Services) -> tuple[Mapping[str, Row], Mapping[str, Row]]:
    """The rows that pages show without being asked, and which of them in which list, newest first."""
    insight, lists, rows = services.insight, dict[str, Row](), dict[str, Row]()
    for name, states, most in (
        ("newest", frozenset[TaskState](), NEWEST_SHOWN),
        ("busy", frozenset({TaskState.ASSIGNED, TaskState.RUNNING}), BUSY_SHOWN),
        ("waiting", frozenset({TaskState.WAITING}), BUSY_SHOWN),
        ("troubled", frozenset({TaskState.FAILED, TaskState.DEAD}), TROUBLED_SHOWN),
    ):
        found = (await insight.tasks(TaskQuery(states=states, limit=most))).tasks
        lists[name] = {"ids": [task.id for task in found]}
        rows.update(_keyed((task.id, task) for task in found))
    return rows, lists


def _keyed(found: Iterable[tuple[str, Struct]]) -> dict[str, Row]:
    return {key: _row(each) for key, each in found}


def _row(view: Struct) -> dict[str, Any]:
    # Field by field: a struct that leaves out its usual values would leave a page with the old ones.
    return {name: msgspec.to_builtins(getattr(view, name)) for name in view.__struct_fields__}


async def live(request: web.Request) -> web.StreamResponse:
    """First everything the page shows, then what changes.

    After a break the page says what it heard last (``Last-Event-ID``) and is told what it has missed, or everything if
    that is too long ago or was told by the hub before its restart.
    """
    requests.query(request)
    async with opened(request) as stream:
        await stream.send([frame(encode(_me(request)), name="me")])
        await _tell(stream, request.app[SERVICES], request.app[PAGES], request.headers.get("Last-Event-ID", "")[:60])
    return stream.response


def _me(request: web.Request) -> dict[str, Any]:
    who = request[PRINCIPAL]
    return {
        "role": who.role,
        "label": who.label,
        "may": sorted(permission for permission in PERMISSIONS if may(who.role, permission)),
        "read_only": bool(request.app[SETTINGS].read_only),
        "now": datetime.now(UTC),
    }


async def _tell(stream: Stream, services: Services, pages: PageBoard, position: str) -> None:
    loop = asyncio.get_running_loop()
    told_at = loop.time()
    while True:
        newest = services.insight.newest_event
        await pages.look(services)
        news = pages.frame(position)
        if news is not None:
            position, told_at = pages.board.position, loop.time()
            await stream.send([news])
        elif loop.time() - told_at >= stream.keepalive_s:
            # The page sees no comments, and silence has to mean that the line is dead.
            told_at = loop.time()
            await stream.send([frame(b"{}", name="beat")])
        await stream.pause(_LEAST_S)
        await services.feed.wait(newest, _LOOK_S)


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
    Route(
        "GET",
        "/dashboard/{folder}/{name}",
        page.file,
        "dashboard:read",
        "A part of the page",
        produces=("text/javascript",),
        is_listed=False,
    ),
)
