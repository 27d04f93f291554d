"""Events: the one log of facts, as a live stream or page by page.

Rows are the truth: a stream reads them by sequence number and lets the feed wake it, so a lost wake-up costs time and
never an event. An event's id is its sequence number, from which a reader resumes (``Last-Event-ID``).
"""

from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from hub.web import requests
from hub.web.following import TOLD, Follower
from hub.web.replies import encode, encode_each, json_reply, wants_stream
from hub.web.routing import JSON, SSE, Param, Route
from hub.web.services import SERVICES
from hub.web.stream import Stream, frame, opened
from protocol.api import PREFIX, EventList, EventView
from protocol.errors import BadInput, Problem
from protocol.events import EventKind
from protocol.ids import TASK_ID
from protocol.model import FINAL_STATES

_PAGE: Final = 500
_MAX_SEQ: Final = 2**63 - 1
POSITION: Final = (
    Param("after", "Only what comes after this sequence number", "count", most=_MAX_SEQ),
    Param("cursor", "The next_cursor of the page before (the same as after)", "count", most=_MAX_SEQ),
    Param("limit", "Entries on a page", "count", least=1, most=_PAGE),
    Param("Last-Event-ID", "Where a stream resumes; counts more than after", "count", most=_MAX_SEQ, where="header"),
)


def position(request: web.Request, asked: dict[str, Any] | Any) -> int | None:  # noqa: ANN401 - parameters of several kinds
    """The sequence number after which to go on; ``None``: the caller did not say.

    Raises:
        BadInput: ``Last-Event-ID`` is not one.
    """
    header = request.headers.get("Last-Event-ID", "").strip()
    if header:
        if not header.isascii() or not header.isdecimal() or int(header[:20]) > _MAX_SEQ:
            raise BadInput(
                [Problem("header Last-Event-ID", f"expected a sequence number, found {header[:60]!r}")], "request"
            )
        return int(header)
    found = asked.get("cursor", asked.get("after"))
    return None if found is None else int(found)


async def index(request: web.Request) -> web.StreamResponse:
    """All events. A stream without a position begins with what happens next; a page with the oldest event."""
    asked = requests.query(request)
    task = asked.get("task")
    if task is not None and not TASK_ID.fullmatch(task):
        raise BadInput([Problem("query task", f"not a task id: {task[:60]!r}")], "query")
    services = request.app[SERVICES]
    after = position(request, asked)
    kinds = asked.get("kind", frozenset())
    if not wants_stream(request, unless_asked=True):
        limit = asked.get("limit", _PAGE)
        return json_reply(await services.insight.events(after=after or 0, limit=limit, task=task, kinds=kinds))
    newest = services.insight.newest_event
    start = newest if after is None else after
    async with opened(request, start) as stream:
        if start > newest:
            # The log is shorter than the reader remembers (a restored backup): say so rather than wait in silence.
            await stream.send([frame(encode({"newest": newest}), seq=newest, name="reset")])
            start = newest
        await _follow(stream, request, start, task, kinds, to_the_end=False)
    return stream.response


async def of_task(request: web.Request) -> web.StreamResponse:
    """Events of one task, oldest first; as a stream, until the task is final."""
    asked = requests.query(request)
    task = requests.task_id(request)
    services = request.app[SERVICES]
    await services.insight.task(task)
    after = position(request, asked) or 0
    if not wants_stream(request, unless_asked=False):
        return json_reply(await services.insight.events(after=after, limit=asked.get("limit", _PAGE), task=task))
    async with opened(request, after) as stream:
        await _follow(stream, request, after, task, frozenset(), to_the_end=True)
    return stream.response


def _frames(events: Sequence[EventView]) -> list[bytes]:
    """As :func:`frame` makes them."""
    told = zip(events, encode_each(events), strict=True)
    return [b"id: %d\ndata: %s\n\n" % (event.seq, data) for event, data in told]


async def _follow(
    stream: Stream, request: web.Request, after: int, task: str | None, kinds: frozenset[str], *, to_the_end: bool
) -> None:
    services = request.app[SERVICES]
    while True:
        # Read before the page: whatever is committed by now is in the page, so the wait may begin behind it even if
        # none of it was this task's. Behind what is in the page, too: there may have been commits while it was read.
        newest = services.insight.newest_event
        state = (await services.insight.task(task)).state if to_the_end and task else None
        page = await services.insight.events(after=after, limit=_PAGE, task=task, kinds=kinds)
        if page.reset:
            # What the reader has not seen is gone, or it comes from another history: said rather than left out.
            after = page.newest if after > page.newest else max(after, page.floor)
            gap = encode({"floor": page.floor, "newest": page.newest})
            await stream.send([frame(gap, seq=after, name="reset")])
        await stream.send(_frames(page.events))
        if page.next_cursor is not None:
            after = int(page.next_cursor)
            continue
        if state in FINAL_STATES:
            await stream.send([frame(encode({"state": state}), name="end")])
            return
        after = max(after, newest, *(event.seq for event in page.events[-1:]))
        if task is None:
            after = await Follower(stream, services.insight, services.feed, request.app[TOLD], kinds, after).follow()
        else:
            after = await services.feed.wait_for(kinds, after, stream.keepalive_s)


ROUTES: Final = (
    Route(
        "GET",
        f"{PREFIX}/events",
        index,
        "events:read",
        "All events: a stream, or a page for Accept: application/json",
        None,
        EventList,
        (
            *POSITION,
            Param("task", "Only events of this task"),
            Param("kind", "Only events of these kinds", "choice", choices=tuple(EventKind)),
        ),
        produces=(SSE, JSON),
    ),
    Route(
        "GET",
        f"{PREFIX}/tasks/{{id}}/events",
        of_task,
        "tasks:read",
        "Events of a task: a page, or a stream until it is final",
        None,
        EventList,
        POSITION,
        produces=(JSON, SSE),
    ),
)
