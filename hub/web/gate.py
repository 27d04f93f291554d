"""Git of attempts: a sidecar asks for a credential, and its git comes with that instead of a token of the hub.

What passes is git's own smart HTTP (https://git-scm.com/docs/http-protocol), as it comes.
"""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus
from typing import Final

import structlog
from aiohttp import hdrs, web

from hub.git import RemoteFailed
from hub.services.gate import RECEIVE, UPLOAD, Admitted, Asked, NotAdmitted
from hub.web import requests
from hub.web.porch import visitor_of
from hub.web.replies import STALL_S, json_reply, write_piece
from hub.web.routing import Param, Route
from hub.web.services import IS_STREAMING, SERVICES
from protocol.api import PREFIX
from protocol.errors import BadInput, NotFound, Problem, Refused, Unauthenticated
from protocol.limits import MAX_NAME_CHARS
from protocol.model import AttemptId
from protocol.projects import GitAccess

log = structlog.get_logger(__name__)
_GIT: Final = re.compile(r"application/x-git-[a-z-]{1,60}")
_PASSED_ON: Final = (hdrs.CONTENT_TYPE, hdrs.ACCEPT, "Git-Protocol")
_NEEDED: Final = ("sidecar", "boot", "epoch")


async def access(request: web.Request) -> web.StreamResponse:
    """A credential of an attempt for the repository that it works in."""
    asked, task = requests.query(request), requests.task_id(request)
    if problems := [Problem(f"query {name}", "is missing") for name in _NEEDED if name not in asked]:
        raise BadInput(problems, "request")
    attempt = AttemptId(asked["sidecar"], asked["boot"], task, asked["epoch"])
    return json_reply(await request.app[SERVICES].gate.admit(attempt), 201)


async def refs(request: web.Request) -> web.StreamResponse:
    """What the repository has."""
    service = request.query.get("service", "")
    admitted = _identify(request)
    if service not in {UPLOAD, RECEIVE}:
        raise BadInput([Problem("query service", f"{UPLOAD} or {RECEIVE}")], "query")
    return await _pass(request, admitted, Asked(service, _headers(request), None))


async def upload(request: web.Request) -> web.StreamResponse:
    """Fetch."""
    admitted = _identify(request)
    async with aclosing(_pieces(request)) as pieces:
        return await _pass(request, admitted, Asked(UPLOAD, _headers(request), pieces))


async def receive(request: web.Request) -> web.StreamResponse:
    """Push the attempt's own branch."""
    admitted = _identify(request)
    async with aclosing(_pieces(request)) as pieces:
        return await _pass(request, admitted, Asked(RECEIVE, _headers(request), pieces))


async def _pass(request: web.Request, admitted: Admitted, asked: Asked) -> web.StreamResponse:
    async with request.app[SERVICES].gate.exchange(admitted, asked) as reply:
        kind = reply.headers.get(hdrs.CONTENT_TYPE, "")
        if reply.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise Refused("the repository's server does not take the user and password that are kept for the project")
        if reply.status == HTTPStatus.NOT_FOUND:
            raise NotFound("repository of task", admitted.attempt.task)
        if reply.status != HTTPStatus.OK or not _GIT.fullmatch(kind):
            raise RemoteFailed("of the project", f"its server answers {reply.status} with {kind[:60]!r}")
        response = web.StreamResponse(headers=reply.headers)
        await response.prepare(request)
        request[IS_STREAMING] = True
        try:
            async for piece in reply.pieces:
                await write_piece(response, piece)
        except NotAdmitted as exc:
            log.warning("git_cut_off", task=admitted.attempt.task, epoch=admitted.attempt.epoch, why=str(exc))
            if request.transport is not None:
                request.transport.abort()  # what was sent must not look whole
            return response
        await response.write_eof()
        return response


def _identify(request: web.Request) -> Admitted:
    """Whose credential the request shows.

    Raises:
        Unauthenticated: it shows none.
        NotAdmitted: it is none of an attempt of this task that counts.
    """
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("git of an attempt shows the attempt's credential")
    admitted = request.app[SERVICES].gate.enter(request.match_info["id"], token.strip())
    if (visitor := visitor_of(request.transport)) is not None:
        visitor.is_known()
    return admitted


def _headers(request: web.Request) -> dict[str, str]:
    headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
    if request.content_length is not None and hdrs.CONTENT_ENCODING not in request.headers:
        headers[hdrs.CONTENT_LENGTH] = str(request.content_length)
    return headers


async def _pieces(request: web.Request) -> AsyncGenerator[bytes, None]:
    while True:
        async with asyncio.timeout(STALL_S):
            piece = await request.content.readany()
        if not piece:
            return
        yield piece


_TASK: Final = f"{PREFIX}/tasks/{{id}}"
_REPOSITORY: Final = f"{_TASK}/repository.git"
ROUTES: Final = (
    Route(
        "POST",
        f"{_TASK}/git-access",
        access,
        "git:access",
        "A credential of an attempt for the repository of its project",
        None,
        GitAccess,
        (
            Param("sidecar", "Whose attempt it is", most=MAX_NAME_CHARS),
            Param("boot", "The boot epoch of the sidecar", "count"),
            Param("epoch", "The epoch of the attempt", "count"),
        ),
        status=201,
    ),
    Route(
        "GET", f"{_REPOSITORY}/info/refs", refs, "git:exchange", "Git of an attempt", is_listed=False, by_attempt=True
    ),
    Route("POST", f"{_REPOSITORY}/{UPLOAD}", upload, "git:exchange", "Fetch", is_listed=False, by_attempt=True),
    Route("POST", f"{_REPOSITORY}/{RECEIVE}", receive, "git:exchange", "Push", is_listed=False, by_attempt=True),
)
