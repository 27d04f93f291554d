"""Whether a browser was made to send a request by a page that is not this hub's (CSRF, DNS rebinding).

Only for requests that count because of a cookie, and for the login; see ``hub/web/guard.py``.
"""

import ipaddress
from typing import Final

from aiohttp import hdrs, web

from hub.web import forwarded
from hub.web.problems import ForeignOrigin, WrongHost
from hub.web.services import SETTINGS

_SAFE: Final = frozenset({"GET", "HEAD"})


def check_is_own_page(request: web.Request) -> None:
    """Pass if a browser sends this from a page of this hub, or only looks.

    Raises:
        ForeignOrigin, WrongHost: it does not.
    """
    _check_host(request)
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get(hdrs.ORIGIN)
    changes = request.method not in _SAFE or hdrs.UPGRADE in request.headers
    if site is not None:
        navigates = (
            request.headers.get("Sec-Fetch-Mode") == "navigate" and request.headers.get("Sec-Fetch-Dest") == "document"
        )
        if site == "same-origin" or (not changes and (site == "none" or navigates)):
            return
        raise ForeignOrigin(origin or f"a {site[:20]} page")
    if origin is not None:
        if origin not in {f"{forwarded.scheme(request)}://{forwarded.host(request)}", *request.app[SETTINGS].origins}:
            raise ForeignOrigin(origin[:200])
    elif changes:
        raise ForeignOrigin("a page that does not say its origin")


def check_names_no_other(request: web.Request) -> None:
    """Pass if a request with a token of its own does not say that a foreign page has sent it.

    A program says no origin. A page that has come by a token is no program, and no page of this hub either.

    Raises:
        ForeignOrigin: it would change something, or open a socket, for another page.
    """
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None and (request.method not in _SAFE or hdrs.UPGRADE in request.headers):
        own = f"{forwarded.scheme(request)}://{forwarded.host(request)}"
        if origin not in {own, *request.app[SETTINGS].origins}:
            raise ForeignOrigin(origin[:200])


def _check_host(request: web.Request) -> None:
    # A page can point a name of its own at our address; it can have neither our address as its name nor localhost.
    origins = request.app[SETTINGS].origins
    host = forwarded.host(request)
    if any(origin.partition("://")[2] == host for origin in origins):
        return
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name == "localhost" or name.endswith(".localhost"):
        return
    try:
        ipaddress.ip_address(name)
    except ValueError:
        raise WrongHost(host[:200]) from None
