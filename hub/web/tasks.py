"""Tasks: submit, list, look, cancel, retry."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from hub.store.store import TaskQuery
from hub.web import requests, scopes, short_way
from hub.web.replies import json_reply
from hub.web.routing import Param, Route
from hub.web.services import PRINCIPAL, SERVICES
from protocol import traces
from protocol.api import PREFIX, CancelBody, Submitted, TaskFacets, TaskList, TaskSummary, TaskView
from protocol.bulk import BulkBody, BulkDone, TaskPatch
from protocol.limits import MAX_BATCH_TASKS, MAX_IDEMPOTENCY_KEY_CHARS
from protocol.model import PRIORITY_ORDER, Priority, TaskSpec, TaskState, Tier

MAX_SEARCH_CHARS: Final = 200


class TaskBatch(Struct, kw_only=True, forbid_unknown_fields=True):
    """Many tasks, all accepted or none."""

    tasks: Annotated[list[TaskSpec], Meta(min_length=1, max_length=MAX_BATCH_TASKS)]


async def submit(request: web.Request) -> web.StreamResponse:
    """One spec, or ``{"tasks": [...]}``; answers only when the tasks are stored for good."""
    intake, by = request.app[SERVICES].intake, request[PRINCIPAL].token
    tracing, given = request.app[SERVICES].tracing, request.headers.get(traces.HEADER, "")
    began_ms = tracing.now_ms if tracing is not None else 0
    intake.check(1, by)
    value = await requests.json_body(request)
    is_many = requests.is_batch(value)
    digest = requests.digest_of(value)
    specs = requests.read_specs(request.app[SERVICES].projects.inherit(value))
    if given:
        specs = within(given, specs)
    await scopes.check_specs(request[PRINCIPAL], specs, request.app[SERVICES].insight)
    await request.app[SERVICES].keystore.check(specs, request[PRINCIPAL])
    del value  # what waits for the disk shall cost no more than its stored form
    has_secrets = any(spec.secrets for spec in specs)
    waiting = intake.submit(specs, key=requests.read_key(request.headers), digest=digest, by=by)
    del specs
    done = await waiting
    if tracing is not None and not done.replayed:
        tracing.submitted([task.id for task in done.tasks], given, began_ms)
    if not has_secrets:
        short_way.offer(request)
    return json_reply(*short_way.answer_to(done, is_many=is_many))


def within(given: str, specs: list[TaskSpec]) -> list[TaskSpec]:
    """The specs in the trace that a request says it is in; one that says so itself stays where it is."""
    place = traces.read(given)
    if place is None:
        return specs  # W3C wants it so: what cannot be read is as if it were not there
    known = str(place)  # a later version may say more after it, at any length
    return [spec if spec.traceparent else msgspec.structs.replace(spec, traceparent=known) for spec in specs]


async def index(request: web.Request) -> web.StreamResponse:
    """Tasks, newest first."""
    only = scopes.tasks_of(request[PRINCIPAL], "tasks:read")
    return json_reply(await request.app[SERVICES].insight.tasks(_wanted(requests.query(request)), only))


async def facets(request: web.Request) -> web.StreamResponse:
    """How many tasks each choice of the filters would show."""
    return json_reply(await request.app[SERVICES].insight.facets(_wanted(requests.query(request))))


def _wanted(asked: Mapping[str, Any]) -> TaskQuery:
    return TaskQuery(
        states=frozenset(TaskState(state) for state in asked.get("state", ())),
        agent=asked.get("agent", ""),
        label=asked.get("label"),
        words=asked.get("q", ""),
        priorities=frozenset(PRIORITY_ORDER[Priority(one)] for one in asked.get("priority", ())),
        tiers=asked.get("tier", frozenset()),
        model=asked.get("model", ""),
        before=asked.get("cursor"),
        limit=asked.get("limit", 50),
    )


async def show(request: web.Request) -> web.StreamResponse:
    """One task, whole."""
    requests.query(request)
    return json_reply(await request.app[SERVICES].insight.task(requests.task_id(request)))


async def cancel(request: web.Request) -> web.StreamResponse:
    """Cancel a task that is not final."""
    task = requests.task_id(request)
    body = await requests.optional_body(request, CancelBody, "cancellation")
    services = request.app[SERVICES]
    await services.intake.cancel(task, body.reason, request[PRINCIPAL].token)
    return json_reply(await services.insight.task(task))


async def change(request: web.Request) -> web.StreamResponse:
    """Change what may change of a task that has not ended: its priority."""
    task = requests.task_id(request)
    body = await requests.body(request, TaskPatch, "task")
    services = request.app[SERVICES]
    await services.intake.prioritise(task, body.priority, request[PRINCIPAL].token)
    return json_reply(await services.insight.task(task))


async def bulk(request: web.Request) -> web.StreamResponse:
    """Do one thing to every task that matches, or count them."""
    body = await requests.body(request, BulkBody, "request")
    who = request[PRINCIPAL]
    only = scopes.tasks_of(who, "tasks:control")
    return json_reply(await request.app[SERVICES].bulk.apply(body, who.token, only))


async def retry(request: web.Request) -> web.StreamResponse:
    """Put a dead task back into the queue with all its retries; every other end is final."""
    task = requests.task_id(request)
    services = request.app[SERVICES]
    await services.intake.retry(task, request[PRINCIPAL].token)
    return json_reply(await services.insight.task(task))


_FILTERS: Final = (
    Param("state", "Only tasks in one of these states", "choice", choices=tuple(TaskState)),
    Param("agent", "Only tasks whose latest attempt is this agent's"),
    Param("label", "Only tasks with this label, as key:value", "pair"),
    Param("q", "Only tasks with these words in the title, or 8 characters of their id", most=MAX_SEARCH_CHARS),
    Param("priority", "Only tasks with one of these priorities", "choice", choices=tuple(Priority)),
    Param("tier", "Only tasks that count as one of these", "choice", choices=tuple(Tier)),
    Param("model", "Only tasks that this model did, does or is asked to do"),
)
ROUTES: Final = (
    Route(
        "POST",
        f"{PREFIX}/tasks",
        submit,
        "tasks:submit",
        "Submit one task, or up to 1,000 at once: all or none",
        TaskSpec | TaskBatch,
        TaskSummary | Submitted,
        (
            Param(
                requests.KEY_HEADER,
                "Makes a repeated request harmless: the same token, key and body answer the same tasks",
                most=MAX_IDEMPOTENCY_KEY_CHARS,
                where="header",
            ),
        ),
        status=201,
    ),
    Route(
        "GET",
        f"{PREFIX}/tasks",
        index,
        "tasks:read",
        "List tasks, newest first",
        None,
        TaskList,
        (
            *_FILTERS,
            Param("limit", "Tasks on a page", "count", least=1, most=500),
            Param("cursor", "The next_cursor of the page before"),
        ),
    ),
    Route(
        "GET",
        f"{PREFIX}/tasks/facets",
        facets,
        "tasks:read",
        "How many tasks each choice of the list's filters would show",
        None,
        TaskFacets,
        _FILTERS,
    ),
    Route(
        "GET",
        f"{PREFIX}/tasks/{{id}}",
        show,
        "tasks:read",
        "One task: spec, state, routing, attempts, result",
        None,
        TaskView,
    ),
    Route("PATCH", f"{PREFIX}/tasks/{{id}}", change, "tasks:control", "Change a task's priority", TaskPatch, TaskView),
    Route(
        "POST",
        f"{PREFIX}/tasks/bulk",
        bulk,
        "tasks:control",
        "Cancel, retry or prioritise every task that matches",
        BulkBody,
        BulkDone,
        is_heavy=True,
    ),
    Route("POST", f"{PREFIX}/tasks/{{id}}/cancel", cancel, "tasks:control", "Cancel a task", CancelBody, TaskView),
    Route("POST", f"{PREFIX}/tasks/{{id}}/retry", retry, "tasks:control", "Run an ended task again", None, TaskView),
)
