"""Output: of one task page by page, or live until it is final; and of all tasks, live.

The stream of all tasks is for people who look: it is bounded. A reader that cannot keep up is told how much it has
missed and goes on at the end; the output of a task itself misses nothing.
"""

from typing import Any, Final

from aiohttp import web

from hub.core.output import Wanted
from hub.services.insight import Insight
from hub.web import requests
from hub.web.events import POSITION, position
from hub.web.replies import encode, json_reply, wants_stream
from hub.web.routing import JSON, SSE, Param, Route
from hub.web.services import SERVICES, Services
from hub.web.stream import Framed, Stream, frame, opened
from protocol.api import PREFIX, LogList, OutputList
from protocol.errors import BadInput, Problem
from protocol.ids import TASK_ID
from protocol.model import FINAL_STATES

PERMISSION: Final = "tasks:read"
_PAGE: Final = 200
_READ: Final = 32  # pieces of at most 32 Ki characters: what a stream holds in memory
_LOOK_S: Final = 0.5
"""A task may end without a last piece of output, and a wake-up may be lost: look again this often."""
MOST_BEHIND: Final = 1_000
"""Pieces of all tasks that a reader may be behind; then it goes on near the end."""
KEPT_BEHIND: Final = 100
_GATHER_S: Final = 0.1
_MAX_WORDS: Final = 200


async def show(request: web.Request) -> web.StreamResponse:
    """Pieces of output, oldest first."""
    asked = requests.query(request)
    task = requests.task_id(request)
    services = request.app[SERVICES]
    after = position(request, asked)
    tail = asked.get("tail")
    follows = asked.get("follow", wants_stream(request, unless_asked=False))
    if not follows and ("before" in asked or tail is not None):
        last = await services.insight.logs_before(task, asked.get("before"), limit=tail or asked.get("limit", _PAGE))
        return json_reply(LogList(logs=last, next_cursor=None))
    if not follows:
        return json_reply(await services.insight.logs(task, after=after or 0, limit=asked.get("limit", _PAGE)))
    after = await start_of_task(services.insight, task, after, tail)
    async with opened(request, after) as stream:
        await follow_task(stream, services, task, after)
    return stream.response


async def start_of_task(insight: Insight, task: str, after: int | None, tail: int | None) -> int:
    """Where a stream of a task's output begins: behind ``after``, else with the last ``tail`` pieces, else with all.

    Raises:
        NotFound: there is no such task.
    """
    await insight.task(task)
    if after is None and tail is not None:
        last = await insight.logs_before(task, limit=tail)
        return last[0].seq - 1 if last else 0
    return after or 0


async def follow_task(stream: Stream, services: Services, task: str, after: int, framed: Framed = frame) -> None:
    """Send what a task has written behind ``after`` and writes, until it is final."""
    while True:
        # The state comes first: if it was final before the read, then the read has seen all output there will be.
        view = await services.insight.task(task)
        page = await services.insight.logs(task, after=after, limit=_READ)
        await stream.send(framed(encode(piece), seq=piece.seq) for piece in page.logs)
        if page.logs:
            after = page.logs[-1].seq
        if len(page.logs) == _READ:
            continue
        if view.state in FINAL_STATES:
            await stream.send([framed(encode({"state": view.state}), name="end")])
            return
        await services.feed.wait_logs(task, min(_LOOK_S, stream.keepalive_s))
        await stream.rest()


async def of_all(request: web.Request) -> web.StreamResponse:
    """Output of all tasks: what comes, with the last ``tail`` pieces before it."""
    asked = requests.query(request)
    wanted = wanted_of(asked)
    insight = request.app[SERVICES].insight
    after = await start_of_all(insight, position(request, asked), asked.get("tail", 0))
    if not wants_stream(request, unless_asked=True):
        return json_reply(await insight.output(after, wanted, asked.get("limit", _PAGE)))
    async with opened(request, after) as stream:
        await follow_all(stream, request.app[SERVICES], wanted, after)
    return stream.response


async def start_of_all(insight: Insight, after: int | None, tail: int) -> int:
    """Where a stream of all output begins: behind ``after``, else with the last ``tail`` pieces."""
    return max(0, await insight.newest_output() - tail) if after is None else after


def wanted_of(asked: Any) -> Wanted:  # noqa: ANN401 - parameters of several kinds
    """The filters that a caller has set.

    Raises:
        BadInput: ``task`` is no task's id.
    """
    task = asked.get("task", "")
    if task and not TASK_ID.fullmatch(task):
        raise BadInput([Problem("query task", f"not a task id: {task[:60]!r}")], "query")
    return Wanted(
        task=task,
        agent=asked.get("agent", ""),
        label=asked.get("label"),
        stream=asked.get("stream", ""),
        words=asked.get("q", ""),
    )


async def follow_all(stream: Stream, services: Services, wanted: Wanted, after: int, framed: Framed = frame) -> None:
    """Send what is wanted of all output behind ``after``, as it comes; a reader too far behind goes on near the end."""
    while True:
        newest = await services.insight.newest_output()
        after = min(after, newest)  # in a restored backup numbers begin again
        if newest - after > MOST_BEHIND:
            missed = encode({"pieces": newest - KEPT_BEHIND - after})
            after = newest - KEPT_BEHIND
            await stream.send(framed(data, seq=after, name="dropped") for data in (missed,))
        page = await services.insight.output(after, wanted, _READ)
        await stream.send(framed(encode(piece), seq=piece.seq) for piece in page.logs)
        if (read := int(page.next_cursor)) > after:
            after = read
            await stream.pause(0)  # others come in between
            continue
        await services.feed.wait_output(stream.keepalive_s)
        await stream.pause(_GATHER_S)


_FROM_END: Final = Param("tail", "Begin with the last so many pieces (at most 256 Ki characters)", "count", 1, 1_000)
FILTERS: Final = (
    Param("task", "Only output of this task"),
    Param("agent", "Only output of this agent"),
    Param("label", "Only output of tasks with this label, as key:value", "pair"),
    Param("stream", "Only this stream: stdout, stderr, ..."),
    Param("q", "Only pieces with these words", most=_MAX_WORDS),
    Param("tail", "Begin with the last so many pieces of all tasks", "count", most=MOST_BEHIND),
)
"""What :func:`wanted_of` reads, and where a stream of all output begins."""
ROUTES: Final = (
    Route(
        "GET",
        f"{PREFIX}/tasks/{{id}}/logs",
        show,
        PERMISSION,
        "Output of a task: a page, or a stream until it is final",
        None,
        LogList,
        (
            *POSITION,
            Param("follow", "Stream until the task is final", "flag"),
            _FROM_END,
            Param("before", "The pieces before this sequence number", "count"),
        ),
        produces=(JSON, SSE),
    ),
    Route(
        "GET",
        f"{PREFIX}/logs",
        of_all,
        PERMISSION,
        "Output of all tasks as it comes; event dropped tells what a slow reader has missed",
        None,
        OutputList,
        (*POSITION, *FILTERS),
        produces=(SSE, JSON),
    ),
)
