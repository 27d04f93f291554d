"""Who is asking, from where, and may they: before any handler runs.

A program sends a token (``Authorization: Bearer``). A browser has a session cookie, and because browsers also send it
when some other page asks them to, requests with a cookie must come from this hub's own pages under a name that is
this hub's (against CSRF and DNS rebinding). A bearer token is sent by nobody unasked, so it needs neither check; only
one that a foreign page says to send changes nothing.

What is not in the route table is answered 401 without credentials, so nothing about the hub can be learnt unasked.
"""

import asyncio
import re
from collections.abc import Mapping
from itertools import count
from typing import Final
from uuid import uuid4

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from multidict import CIMultiDict

from hub.core.access import Principal
from hub.web import forwarded, login, scopes
from hub.web.origin import check_is_own_page, check_names_no_other
from hub.web.porch import visitor_of
from hub.web.routing import Route
from hub.web.services import LIVE, PRINCIPAL, REQUEST_ID, ROUTE, SERVICES, SESSIONS, SETTINGS
from protocol.bounds import MAX_WORD_CHARS
from protocol.errors import Forbidden, NotFound, NotYours, OutOfScope, ReadOnly, Unauthenticated
from protocol.log_levels import LogLevel
from protocol.logs import ABOUT, ACCESS, NUMBERS, channel

SECURITY_HEADERS: Final = CIMultiDict(
    {
        "Content-Security-Policy": (
            "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        # Not `no-referrer`: under it browsers send `Origin: null` with forms, and the login could not tell its page.
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        hdrs.CACHE_CONTROL: "no-store",
    }
)
_ONLY_TLS: Final = f"max-age={365 * 86_400}"
"""For a year; of this very host, whose other names may have other servers."""
_PLAINLY: Final[Mapping[str, str]] = {"Server": "AgentCom"}
_SECURELY: Final[Mapping[str, str]] = {**_PLAINLY, "Strict-Transport-Security": _ONLY_TLS}
_UNCOUNTED: Final = frozenset({"rates:read", "rates:write"})
"""An administrator who has set a limit too low must be able to mend that."""
_LINK: Final = "/mesh"
"""Not counted either: a fleet with one token comes back at once, and the gateway says in what order."""
log = structlog.get_logger(__name__)
_DECENT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PREFIX: Final = uuid4().hex[:16]
"""Tells the requests of one start of a hub from those of another."""
_numbers: Final = count()
_log: Final = structlog.get_logger(ACCESS)
_ACCESS: Final = channel(ACCESS)
_TOLD: Final = NUMBERS[LogLevel.INFO]


def next_id() -> str:
    """The id of a request that has brought none."""
    return f"{_PREFIX}{next(_numbers):016x}"


def is_told() -> bool:
    """Whether every request has its line in the access log."""
    return _ACCESS.level <= _TOLD


@web.middleware
async def stamp(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id (the caller's own, if it sent a decent one). The answer carries it: :func:`finish`."""
    theirs = request.headers.get("X-Request-Id")
    request_id = theirs if theirs and _DECENT.fullmatch(theirs) else next_id()
    request[REQUEST_ID] = request_id
    told = ABOUT.set({"request_id": request_id})
    visitor = visitor_of(request.transport)
    if visitor is not None and visitor.is_guest:
        visitor = None
    if visitor is not None:
        visitor.asks()
    try:
        return await (_told(request, handler) if is_told() else handler(request))
    finally:
        ABOUT.reset(told)
        if visitor is not None:
            visitor.answered()


async def _told(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Handle the request, and write its line in the access log: without the query, which may let somebody in."""
    clock = asyncio.get_running_loop().time
    began_s, status = clock(), 0
    try:
        response = await handler(request)
        status = response.status
        return response
    finally:
        _log.info(
            "request",
            method=request.method,
            path=request.path[:200],
            status=status,
            ms=round((clock() - began_s) * 1000, 1),
            by=request[PRINCIPAL].token if PRINCIPAL in request else "",
            address=forwarded.address(request),
        )


async def finish(request: web.Request, response: web.StreamResponse) -> None:
    """Put the security headers and the request's id on every answer, streams included."""
    headers = response.headers
    if "Content-Security-Policy" in headers or hdrs.CACHE_CONTROL in headers:
        for name, value in SECURITY_HEADERS.items():
            headers.setdefault(name, value)
    else:
        headers.extend(SECURITY_HEADERS)
    headers.update(said_of_hub(is_secure=forwarded.is_secure(request)))
    if (request_id := request.get(REQUEST_ID)) is not None:
        headers["X-Request-Id"] = request_id


def said_of_hub(*, is_secure: bool) -> Mapping[str, str]:
    """Headers that tell what the hub is, to somebody who speaks TLS with it (``is_secure``) or in the clear."""
    return _SECURELY if is_secure else _PLAINLY


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let the request pass if its route is known and its caller may ask for it."""
    route = _route(request)
    if route is not None and (route.permission is None or route.by_attempt):
        return await handler(request)
    if request.path == "/" and "ticket" in request.query:
        return login.redeem(request, request.query["ticket"])
    try:
        who = identify(request)
    except Unauthenticated as exc:
        return _turned_away(request, exc)
    if (visitor := visitor_of(request.transport)) is not None:
        visitor.is_known()
    if route is None:
        return await handler(request)  # 404 or 405
    if any(len(part) > MAX_WORD_CHARS for part in request.match_info.values()):  # far beyond what the document says
        raise NotFound("route", request.path[:200])
    _count(request, route, who)
    services = request.app[SERVICES]
    request[PRINCIPAL], request[ROUTE] = who, route
    try:
        services.access.require(who, route.permission or "")
        await scopes.check(request, route, who)
    except (Forbidden, NotYours, OutOfScope):
        services.audit.refuse(route.permission or "", who, subject=f"{request.method} {request.path}"[:200])
        raise
    if (way := request.app[SETTINGS].read_only) and not _only_looks(route):
        raise ReadOnly(way)
    return await handler(request)


def _count(request: web.Request, route: Route, who: Principal) -> None:
    """Throttled: the token asks too often."""
    if route.permission not in _UNCOUNTED and route.path != _LINK:
        request.app[SERVICES].rate_limits.ask(who.token, route.action)


def _turned_away(request: web.Request, why: Unauthenticated) -> web.StreamResponse:
    """The login page for a person; for all others ``why``, if it is not said too often."""
    has_shown = _sent_something(request)
    if has_shown:
        login.count_stranger(request)
    if login.is_wanted(request):
        return login.page(request, why.why if has_shown else "")
    raise why


def _only_looks(route: Route) -> bool:
    """Whether the route leaves the store alone; a link of a sidecar is asked for with GET, too."""
    return route.permission == "sessions:open" or (route.method == "GET" and route.permission != "mesh:join")


def identify(request: web.Request) -> Principal:
    """Who sends this request; streams ask again while they are open.

    Raises:
        Unauthenticated: nobody that this hub knows.
        ForeignOrigin, WrongHost: a browser was made to send it.
    """
    access = request.app[SERVICES].access
    header = request.headers.get(hdrs.AUTHORIZATION)
    if header is not None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("the Authorization header is not 'Bearer <token>'")
        try:
            who = access.authenticate(token.strip())
        except Unauthenticated as exc:
            log.info("token_refused", why=exc.why, address=forwarded.address(request))
            raise Unauthenticated(login.NOT_GOOD) from exc
        check_names_no_other(request)
        return who
    session = request.cookies.get(login.cookie_name(request))
    if not session:
        return access.authenticate(None)
    check_is_own_page(request)
    token_id = request.app[SESSIONS].token(session)
    if token_id is None:
        raise Unauthenticated("the browser session is over")
    return access.principal(token_id)


def _sent_something(request: web.Request) -> bool:
    return hdrs.AUTHORIZATION in request.headers or login.cookie_name(request) in request.cookies


def _route(request: web.Request) -> Route | None:
    """The row of the route table that this request is for.

    Raises:
        NotFound: the router knows a path that the table does not: nobody said who may use it.
    """
    resource = request.match_info.route.resource
    if resource is None:
        return None
    method = "GET" if request.method == "HEAD" else request.method
    route = request.app[LIVE].places.get((method, resource.canonical))
    if route is None:
        raise NotFound("route", request.path[:200])
    return route
