"""Errors as problem documents (RFC 9457): one table of statuses, one form, for everything that can go wrong.

The body says what is wrong and the way out; it never holds a stack or the text of an error that nobody foresaw. Those
are logged under the id that the body names.
"""

import difflib
import math
from http import HTTPStatus
from typing import Final

import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from hub.git import RemoteFailed
from hub.services.projects import ChangedSince
from hub.web.services import IS_STREAMING, LIVE, REQUEST_ID
from protocol import errors
from protocol.api import PROBLEM_TYPE, ProblemDocument
from protocol.errors import AgentComError, BadInput, Problem, Refused

log = structlog.get_logger(__name__)


class InvalidJson(BadInput):
    """The body is not JSON."""

    code = "invalid_json"

    def __init__(self, problem: str, line: int, column: int) -> None:
        self.problem, self.line, self.column = problem, line, column
        super().__init__([Problem("", f"line {line}, column {column}: {problem}")], "body")


class WrongMediaType(BadInput):
    """The body says that it is something else than JSON."""

    code = "wrong_media_type"

    def __init__(self, found: str) -> None:
        self.found = found
        super().__init__([Problem("header Content-Type", f"expected application/json, found {found[:100]!r}")], "body")


class BodyTooLarge(BadInput):
    """The body is larger than a hub reads."""

    code = "body_too_large"

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__([Problem("", f"more than {limit_bytes:,} bytes; split the batch")], "body")


class ForeignOrigin(Refused):
    """A page that is not this hub's tries to use the session of a browser."""

    code = "foreign_origin"

    def __init__(self, found: str) -> None:
        self.found = found
        super().__init__(found)

    def __str__(self) -> str:
        return (
            f"a browser session only works from this hub's own pages, not from {self.found}; "
            "a program sends its token as a Bearer header"
        )


class WrongHost(Refused):
    """The request names this hub by a name that it does not go by."""

    code = "wrong_host"

    def __init__(self, found: str) -> None:
        self.found = found
        super().__init__(found)

    def __str__(self) -> str:
        return (
            f"browsers may not call this hub {self.found!r}; "
            "use its address or localhost, or add its origin to the hub's settings"
        )


STATUS: Final[dict[type[AgentComError], int]] = {
    InvalidJson: 400,
    WrongMediaType: 415,
    BodyTooLarge: 413,
    errors.ArtifactTooLarge: 413,
    BadInput: 422,
    errors.Unauthenticated: 401,
    WrongHost: 421,
    Refused: 403,
    errors.NotFound: 404,
    ChangedSince: 412,
    errors.Conflict: 409,
    errors.Throttled: 429,
    errors.StorageFull: 507,
    errors.Unavailable: 503,
    errors.VersionMismatch: 400,
    errors.ProtocolViolation: 400,
    errors.EndpointDown: 502,
    RemoteFailed: 502,
    AgentComError: 500,
}
_RETRY_S: Final = 2.0
_BROKEN_BODY: Final = "the body cannot be read: it is not what Content-Encoding or Transfer-Encoding says"
_CODES: Final = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


def status_of(error: AgentComError) -> int:
    """The HTTP status of an error: that of the nearest class in :data:`STATUS`."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def document_of(error: AgentComError) -> ProblemDocument:
    """An error of ours as a problem document."""
    status = status_of(error)
    return ProblemDocument(
        title=HTTPStatus(status).phrase,
        status=status,
        code=error.code,
        detail=str(error),
        errors=tuple(error.problems) if isinstance(error, BadInput) else (),
        retryable=error.retryable,
    )


def reply(document: ProblemDocument, headers: dict[str, str] | None = None) -> web.Response:
    """A problem document as an answer."""
    return web.Response(
        body=msgspec.json.encode(document), status=document.status, content_type=PROBLEM_TYPE, headers=headers
    )


def reply_to(error: AgentComError, request_id: str = "") -> web.Response:
    """The answer to an error of ours, that the request of this id has met."""
    headers = {}
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="agentcom"'
    if isinstance(error, errors.Unavailable) and error.retryable:
        headers["Retry-After"] = f"{max(1, math.ceil(error.retry_after_s or _RETRY_S))}"
    document = document_of(error)
    document.request_id = request_id
    return reply(document, headers)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a problem document."""
    try:
        return await handler(request)
    except AgentComError as exc:
        count(request.app, exc)
        if request.get(IS_STREAMING):
            raise
        return reply_to(exc, request[REQUEST_ID])
    except web.HTTPException as exc:
        return exc if exc.status < HTTPStatus.BAD_REQUEST else _reply_to_http(request, exc)
    except web.RequestPayloadError:
        if request.get(IS_STREAMING):
            raise
        return _reply_to_http(request, web.HTTPBadRequest(text=_BROKEN_BODY))
    except (ConnectionError, TimeoutError):
        raise  # the caller is gone: there is nobody to answer
    except (
        Exception
    ) as exc:  # the door: a bug in one handler is logged with its trace and answered as 500, never hidden
        if request.get(IS_STREAMING):
            raise
        return unforeseen(request.method, request.path, exc, request[REQUEST_ID])


def count(app: web.Application, error: AgentComError) -> None:
    """Count a request that a limit has refused."""
    if isinstance(error, errors.Unavailable | BodyTooLarge | errors.ArtifactTooLarge):
        app[LIVE].refused[error.code] += 1


def unforeseen(method: str, path: str, error: Exception, request_id: str) -> web.Response:
    """The answer to an error that nobody foresaw; the log tells more under the id."""
    log.error("request_failed", method=method, path=path, error=type(error).__name__, exc_info=error)
    return reply(
        ProblemDocument(
            title="Internal Server Error",
            status=500,
            code="internal",
            detail=f"something went wrong inside the hub; its log tells more under the id {request_id}",
            request_id=request_id,
        )
    )


def _reply_to_http(request: web.Request, exc: web.HTTPException) -> web.Response:
    headers = {}
    detail = exc.text or exc.reason
    if isinstance(exc, web.HTTPNotFound):
        detail = f"there is nothing at {request.path[:200]!r}{_nearest(request)}; GET /openapi.json lists what there is"
    elif isinstance(exc, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(exc.allowed_methods))
        headers["Allow"] = allowed
        detail = f"{request.method} does not work on {request.path[:200]!r}; allowed: {allowed}"
    code = _CODES.get(exc.status, "bad_request")
    document = ProblemDocument(
        title=exc.reason, status=exc.status, code=code, detail=detail, request_id=request[REQUEST_ID]
    )
    return reply(document, headers)


def _nearest(request: web.Request) -> str:
    known = sorted({route.path for route in request.app[LIVE].routes if "{" not in route.path})
    near = difflib.get_close_matches(request.path[:200], known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
