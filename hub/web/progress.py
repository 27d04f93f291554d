"""Work in progress: what sidecars read of earlier attempts at a task that they go on with."""

from contextlib import aclosing
from typing import Final

from aiohttp import hdrs, web

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Param, Route
from hub.web.services import IS_STREAMING, SERVICES
from protocol.api import PREFIX
from protocol.errors import BadInput, Problem
from protocol.limits import MAX_NAME_CHARS, MAX_PATH_CHARS
from protocol.model import AttemptId
from protocol.progress import Left

_BYTES: Final = "application/octet-stream"
_WHO: Final = (
    Param("sidecar", "Whose attempt asks", most=MAX_NAME_CHARS),
    Param("boot", "The boot epoch of the sidecar", "count"),
    Param("epoch", "The epoch of the attempt that asks", "count"),
)


async def left(request: web.Request) -> web.StreamResponse:
    """What earlier attempts have left for the one that asks."""
    attempt, _ = _asked(request)
    return json_reply(await request.app[SERVICES].progress.left(attempt))


async def bundle(request: web.Request) -> web.StreamResponse:
    """The bytes of a file of it."""
    attempt, path = _asked(request, "path")
    found, pieces = await request.app[SERVICES].progress.bundle(attempt, path)
    response = web.StreamResponse(headers={hdrs.CACHE_CONTROL: "no-store"})
    response.content_type, response.content_length = _BYTES, found.size_bytes
    async with aclosing(pieces):
        first = await anext(pieces, b"")  # what is gone is told as such
        await response.prepare(request)
        request[IS_STREAMING] = True
        await response.write(first)
        async for piece in pieces:
            await response.write(piece)
    await response.write_eof()
    return response


def _asked(request: web.Request, *more: str) -> tuple[AttemptId, str]:
    asked = requests.query(request)
    task = requests.task_id(request)
    needed = (*(param.name for param in _WHO), *more)
    if problems := [Problem(f"query {name}", "is missing") for name in needed if name not in asked]:
        raise BadInput(problems, "request")
    return AttemptId(asked["sidecar"], asked["boot"], task, asked["epoch"]), asked.get("path", "")


ROUTES: Final = (
    Route(
        "GET",
        f"{PREFIX}/tasks/{{id}}/progress",
        left,
        "progress:read",
        "What earlier attempts have left for the one that asks",
        None,
        Left,
        _WHO,
        refuses=(409,),
    ),
    Route(
        "GET",
        f"{PREFIX}/tasks/{{id}}/progress/bundle",
        bundle,
        "progress:read",
        "A file of what earlier attempts have left",
        params=(*_WHO, Param("path", "Which one", most=MAX_PATH_CHARS)),
        produces=(_BYTES,),
        refuses=(409,),
    ),
)
