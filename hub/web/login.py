"""The way in for browsers: a page that asks for the token, the cookie, and links that carry a ticket.

The token itself is sent once and never stored by the browser; the cookie holds a random id (``hub/web/sessions.py``).
"""

import base64
import hashlib
import html
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Final

import msgspec
from aiohttp import hdrs, web
from msgspec import Struct

from hub.core.porch import household
from hub.web import forwarded, requests
from hub.web.origin import check_is_own_page
from hub.web.routing import Route
from hub.web.services import PRINCIPAL, SERVICES, SESSIONS
from hub.web.sessions import SESSION_S, TICKET_S
from protocol.api import PREFIX
from protocol.bounds import Word
from protocol.errors import Unauthenticated

_MAX_BODY_BYTES: Final = 64 << 10
"""Who has not shown a token yet gets no room for more than one."""
_PAGE: Final = resources.files("hub.web").joinpath("static/login.html").read_text("utf-8")
_STYLE: Final = _PAGE.partition("<style>")[2].partition("</style>")[0]
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


NOT_GOOD: Final = "this token is not good here: it is mistyped or unknown, has expired, or was revoked"
"""One answer to every wrong token, so that nobody learns which of them there were; the hub's log says what it is."""


class SessionBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /session``; a form with the field ``token`` does as well."""

    token: Word


class SessionTicket(Struct, kw_only=True):
    """A link that logs one browser in, once."""

    ticket: str
    path: str
    """Put the hub's address before it."""
    expires_at: datetime


def cookie_name(request: web.Request) -> str:
    """Name of the session cookie. Cookies do not know ports, so two hubs on one machine need two names.

    Over TLS its beginning binds browsers (RFC 6265bis, section 4.1.3): with ``__Host-`` they take it from this very
    host only, for all of its paths, and never in the clear; behind a proxy, which may give the hub one path among
    others, with ``__Secure-``: never in the clear.
    """
    port = forwarded.host(request).rpartition(":")[2]
    name = f"agentcom_session_{port if port.isdecimal() else 'default'}"
    if _has_host(request):
        return f"__Host-{name}"
    return f"__Secure-{name}" if forwarded.is_secure(request) else name


def _has_host(request: web.Request) -> bool:
    """Whether the browser speaks with this hub itself, over TLS: then every path of the host is the hub's."""
    return request.secure and not forwarded.is_proxied(request)


def _cookie_path(request: web.Request) -> str:
    return "/" if _has_host(request) else ""


def is_wanted(request: web.Request) -> bool:
    """Whether an answer to somebody without credentials should be the login page: a person looks at this."""
    if request.method not in {"GET", "HEAD"}:
        return False
    accept = request.headers.get(hdrs.ACCEPT, "")
    return "text/html" in accept or (request.path == "/" and "application/json" not in accept)


def page(request: web.Request, problem: str = "") -> web.Response:
    """The login page; ``problem`` says why the last try did not work.

    It names the hub from where it stands, so that a proxy may put the hub below any path.
    """
    told = f'<p class="problem" role="alert">{html.escape(problem)}</p>' if problem else ""
    text = _PAGE.replace("<!--problem-->", told).replace("<!--root-->", "../" * (request.path.count("/") - 1))
    response = web.Response(text=text, status=401, content_type="text/html")
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["WWW-Authenticate"] = 'Bearer realm="agentcom"'
    return response


def redeem(request: web.Request, ticket: str) -> web.Response:
    """Log the browser in that followed a link with a ticket."""
    session = request.app[SESSIONS].redeem(ticket)
    if session is None:
        return page(request, "this link was used before or is older than 5 minutes")
    return _welcome(request, session)


def count_stranger(request: web.Request) -> None:
    """Somebody has shown a credential that does not count, or asks to be let in without one.

    Raises:
        Throttled: too many of them come from there.
    """
    request.app[SERVICES].rate_limits.stranger(household(forwarded.address(request)))


async def open_session(request: web.Request) -> web.StreamResponse:
    """Check the token in the body and set the cookie."""
    if _is_browser(request):
        check_is_own_page(request)
    is_form = request.content_type == "application/x-www-form-urlencoded"
    raw = await requests.raw_body(request, _MAX_BODY_BYTES)
    form = is_form and not raw.lstrip().startswith(b"{")
    token = (
        str((await request.post()).get("token", ""))
        if form
        else requests.shaped(raw, request.content_type, SessionBody, "session").token
    )
    services = request.app[SERVICES]
    try:
        who = services.access.authenticate(token.strip())
    except Unauthenticated as exc:
        count_stranger(request)
        services.audit.refuse("session.open", subject=forwarded.address(request), why=exc.why)
        if form:
            return page(request, NOT_GOOD)
        raise Unauthenticated(NOT_GOOD) from exc
    services.audit.record("session.open", who, subject=forwarded.address(request))
    return _welcome(request, request.app[SESSIONS].open(who.token))


async def close_session(request: web.Request) -> web.StreamResponse:
    """Log this browser out."""
    request.app[SESSIONS].close(request.cookies.get(cookie_name(request), ""))
    response = web.Response(status=204)
    secure = forwarded.is_secure(request)
    response.del_cookie(
        cookie_name(request), path=_cookie_path(request), secure=secure, httponly=True, samesite="Strict"
    )
    return response


async def issue_ticket(request: web.Request) -> web.StreamResponse:
    """A link that opens the dashboard in a browser without typing the token."""
    who = request[PRINCIPAL]
    ticket = request.app[SESSIONS].issue_ticket(who.token)
    request.app[SERVICES].audit.record("session.ticket", who)
    body = SessionTicket(
        ticket=ticket, path=f"/?ticket={ticket}", expires_at=datetime.now(UTC) + timedelta(seconds=TICKET_S)
    )
    return web.Response(body=msgspec.json.encode(body), status=201, content_type="application/json")


def _welcome(request: web.Request, session: str) -> web.Response:
    # Both ways in lie in the hub's own folder, so "./" is the page wherever a proxy has put it, and a cookie that names
    # no path belongs to that folder (RFC 6265, 5.1.4): other programs behind the proxy never see it. Without a proxy
    # the whole host is the hub's, and ``__Host-`` wants it said.
    response = web.Response(status=303, headers={hdrs.LOCATION: "./"})
    response.set_cookie(
        cookie_name(request),
        session,
        path=_cookie_path(request),
        max_age=int(SESSION_S),
        httponly=True,
        samesite="Strict",
        secure=forwarded.is_secure(request),
    )
    return response


def _is_browser(request: web.Request) -> bool:
    return hdrs.ORIGIN in request.headers or "Sec-Fetch-Site" in request.headers


ROUTES: Final = (
    Route(
        "POST",
        "/session",
        open_session,
        None,
        "Log a browser in: sets the session cookie",
        SessionBody,
        None,
        produces=(),
        status=303,
    ),
    Route("DELETE", "/session", close_session, "sessions:open", "Log this browser out", produces=(), status=204),
    Route(
        "POST",
        f"{PREFIX}/session-tickets",
        issue_ticket,
        "sessions:open",
        "A single-use link that logs a browser in",
        None,
        SessionTicket,
        status=201,
    ),
)
