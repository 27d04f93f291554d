"""The live page: its files and the one stream that keeps it true, and tells the log that it shows.

What pages show is folded by ``dashboard/view.py``; here it is fed with rows and sent. Nobody works for pages while
nobody watches: whoever watches looks, and what one has seen the others need not look at again. The files of the page
are ``dashboard/routes.py``.
"""

import asyncio
import secrets
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec import Struct

from dashboard import routes as page
from dashboard.view import EVENTS_KEPT, Board, Change, Place, Row, packed
from hub.core.access import PERMISSIONS, may
from hub.store.store import TaskQuery
from hub.web import logs, requests, scopes
from hub.web.replies import encode
from hub.web.routing import SSE, Param, Route
from hub.web.services import PRINCIPAL, SERVICES, SETTINGS, Services
from hub.web.stream import Stream, frame, opened
from protocol.errors import BadInput, Forbidden, NotFound, NotYours, OutOfScope
from protocol.host_views import HostView
from protocol.machine import GpuReport, SpaceReport
from protocol.model import TaskState

_GATHER_S: Final = 0.1
"""Events are told so often: they are in memory. What happens in between goes along."""
_LEAST_S: Final = 0.2
"""Rows change all the time: nobody reads faster than this. Reading them takes a third of the time, at most."""
_LOOK_S: Final = 1.0
"""Readings of machines come without an event."""
_SLOW_S: Final = 5.0
"""Budgets are counted from rows, so they are looked at less often."""
_SHARES: Final = 1000
_MAX_PLACE: Final = 60
NEWEST_SHOWN: Final = 50
BUSY_SHOWN: Final = 200
TROUBLED_SHOWN: Final = 20


class PageBoard:
    """What all open pages show, looked at by whoever watches."""

    def __init__(self) -> None:
        self.board = Board(secrets.token_hex(4))
        self._lock = asyncio.Lock()
        self._seen, self._looked_at, self._slow_at, self._rest_s = -1, float("-inf"), float("-inf"), 0.0
        self._frames: dict[tuple[str, bool], bytes] = {}

    async def look(self, services: Services) -> None:
        """Bring the board up to date, as far as another page has not just done so; rows only when they are due."""
        async with self._lock:
            newest = services.insight.newest_event
            events: list[Row] = []
            if newest != self.board.newest_event:
                after = max(self.board.newest_event, newest - EVENTS_KEPT)
                found = await services.insight.events(after=after, limit=EVENTS_KEPT)
                events = [_row(event) for event in found.events]
            began = asyncio.get_running_loop().time()
            tables = await self._tables(services, newest, began) if began - self._looked_at >= self._rest_s else {}
            if self.board.look(tables, events):
                self._frames.clear()

    async def _tables(self, services: Services, newest: int, began: float) -> dict[str, Mapping[str, Row]]:
        tables: dict[str, Mapping[str, Row]] = _machines(services)
        tables["hub"] = await _hub(services)
        if newest != self._seen:
            tables["tasks"], tables["lists"] = await _tasks(services)
        if began - self._slow_at >= _SLOW_S:
            self._slow_at = began
            tables["budgets"] = _keyed((each.id, each) for each in (await services.budgets.list()).budgets)
        self._seen, self._looked_at = newest, asyncio.get_running_loop().time()
        self._rest_s = max(_LEAST_S, 2 * (self._looked_at - began))
        return tables

    def patience_s(self, newest: int) -> float:
        """How long a page may wait that has heard of all events up to ``newest``: rows may be behind them."""
        if self._seen >= newest:
            return _LOOK_S
        return max(0.0, self._looked_at + self._rest_s - asyncio.get_running_loop().time())

    def frame(self, position: str, *, is_packed: bool) -> bytes | None:
        """What a page at ``position`` is sent, under an id of its own; ``None``: it knows everything.

        ``is_packed``: rows that differ in the same fields come as columns, for readers who ask for that.
        """
        if position == self.board.position:
            return None
        known = position if self.board.remembers(position) else ""  # whatever else a page says, it gets everything
        if (known, is_packed) not in self._frames:
            change, is_whole = self.board.since(known)
            told = _told(change, is_whole=is_whole, is_packed=is_packed)
            self._frames[known, is_packed] = frame(encode(told))
        return self._frames[known, is_packed]


PAGES: Final = web.AppKey("pages", PageBoard)


def _told(change: Change, *, is_whole: bool, is_packed: bool) -> dict[str, Any]:
    if not is_packed:
        return {"whole": is_whole, "rows": change.rows, "events": change.events}
    rows, columns = packed(change.rows)
    return {"whole": is_whole, "rows": rows, "packed": columns, "events": change.events}


def _machines(services: Services) -> dict[str, Mapping[str, Row]]:
    hosts = services.hosts.hosts().hosts
    return {
        "agents": _keyed((agent.name, agent) for agent in services.presence.agents().agents),
        "hosts": {host.name: host_row(host) for host in hosts},
        "gpus": {f"{host.name} {place}": gpu_row(host, gpu) for host in hosts for place, gpu in enumerate(host.gpus)},
        "alerts": _keyed((alert.id, alert) for alert in services.alerting.open),
        # Every machine may have one of the same name.
        "endpoints": _keyed((f"{one.host or ''} {one.id}", one) for one in services.registry.endpoints().endpoints),
    }


def host_row(host: HostView) -> Row:
    """What pages show of a machine: no core by itself, and no figure finer than anybody sees."""
    cpu = host.cpu and {"percent": round(host.cpu.percent), "cores": host.cpu.cores}
    spaces = {name: _coarse(getattr(host, name)) for name in ("ram", "disk", "swap", "workspace")}
    at = host.at and host.at.replace(microsecond=0)
    return {**_row(host), **spaces, "at": at, "cpu": cpu, "gpus": len(host.gpus)}


def _coarse(space: SpaceReport | None) -> Row | None:
    """Memory or disk to a thousandth: a bar has no more, and what has not moved by that is not told again."""
    if space is None:
        return None
    step = max(1, space.total_bytes // _SHARES)
    return {"total_bytes": space.total_bytes, "used_bytes": round(space.used_bytes / step) * step}


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
    """First everything the page shows, then what changes; beside it the log that the page shows, if it asks for one.

    After a break the page says what it heard last (``Last-Event-ID``, or ``after`` where it asks for another log) and
    is told what it has missed. Of the board it is told everything if that is too long ago or was told by the hub
    before its restart; a log goes on behind its last piece in any case.
    """
    asked = requests.query(request)
    async with opened(request) as stream:
        await stream.send([frame(encode(_me(request)), name="me")])
        place = Place.read(request.headers.get("Last-Event-ID") or asked.get("after", ""))
        parts = [_tell(stream, request, place, is_packed=bool(asked.get("packed")))]
        if "log" in asked:
            parts.append(_tell_log(stream, request, place, asked))
        else:
            place.log = None
        await _all_of(parts)
    return stream.response


async def _all_of(parts: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run them side by side; where one fails all end, with its error."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None


def _me(request: web.Request) -> dict[str, Any]:
    who = request[PRINCIPAL]
    return {
        "role": who.role,
        "label": who.label,
        "may": sorted(permission for permission in PERMISSIONS if may(who.role, permission)),
        "read_only": bool(request.app[SETTINGS].read_only),
        "now": datetime.now(UTC),
    }


async def _tell(stream: Stream, request: web.Request, place: Place, *, is_packed: bool) -> None:
    services, pages = request.app[SERVICES], request.app[PAGES]
    loop = asyncio.get_running_loop()
    told_at = loop.time()
    while True:
        newest = services.insight.newest_event
        await pages.look(services)
        news = pages.frame(place.board, is_packed=is_packed)
        if news is not None:
            told_at = loop.time()
            await stream.send(_news(place, pages.board.position, news))
        elif loop.time() - told_at >= stream.keepalive_s:
            # The page sees no comments, and silence has to mean that the line is dead.
            told_at = loop.time()
            await stream.send([frame(b"{}", name="beat")])
        await stream.pause(_GATHER_S)
        await services.feed.wait(newest, pages.patience_s(newest))


def _news(place: Place, position: str, news: bytes) -> Iterator[bytes]:
    """The id before what all pages share; made when it is sent, so it tells how far the log is by then."""
    place.board = position
    yield b"id: %s\n" % str(place).encode()
    yield news


async def _tell_log(stream: Stream, request: web.Request, place: Place, asked: Any) -> None:  # noqa: ANN401 - parameters of several kinds
    """The log beside the board: its events are named ``log``, ``log-end`` and ``log-dropped``.

    What is no log, or none for this caller, is told (``log-refused``) and ends nothing: the board goes on.
    """
    services, who = request.app[SERVICES], request[PRINCIPAL]

    def framed(data: bytes, *, seq: int | None = None, name: str = "") -> bytes:
        if seq is not None:
            place.log = seq
        return frame(data, seq=None if seq is None else str(place), name=f"log-{name}" if name else "log")

    try:
        wanted = logs.wanted_of(asked)
        services.access.require(who, logs.PERMISSION)
        if asked["log"] == "task":
            await scopes.check_task(services.insight, who, wanted.task, logs.PERMISSION)
            place.log = await logs.start_of_task(services.insight, wanted.task, place.log, asked.get("tail"))
            await logs.follow_task(stream, services, wanted.task, place.log, framed)
        else:
            scopes.check_whole(who, logs.PERMISSION)
            place.log = await logs.start_of_all(services.insight, place.log, asked.get("tail", 0))
            await logs.follow_all(stream, services, wanted, place.log, framed)
    except (BadInput, Forbidden, NotFound, NotYours, OutOfScope) as exc:
        await stream.send([frame(encode({"code": exc.code, "detail": str(exc)}), name="log-refused")])


ROUTES: Final = (
    Route(
        "GET",
        "/dashboard/live",
        live,
        "dashboard:read",
        "What the live page shows",
        params=(
            Param("packed", "Tell rows that differ in the same fields as columns", "flag"),
            Param("log", "Tell a log too: of one task to its end, or of all", "one", choices=("task", "all")),
            *logs.FILTERS,
            Param("after", "Where both resume: the id of an event", most=_MAX_PLACE),
            Param("Last-Event-ID", "The same; counts more than after", most=_MAX_PLACE, where="header"),
        ),
        produces=(SSE,),
        is_listed=False,
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
