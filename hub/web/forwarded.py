"""Who asks, as a proxy before the hub tells it: believed only of those that are listed, whoever sends the header.

``X-Forwarded-For`` grows to the right: each proxy adds whom it has heard. So it is read from the right, past proxies
that are known; what stands further left is what the caller says of itself, and counts for nothing.
"""

from ipaddress import IPv4Network, IPv6Network
from typing import Final

from aiohttp import web

from hub.core.porch import plain_address
from hub.web.services import SETTINGS

MOST_HOPS: Final = 20


def address(request: web.Request) -> str:
    """The address of the caller; empty if the connection has none any more."""
    peer, proxies = request.remote or "", request.app[SETTINGS].proxies
    if not _is_listed(peer, proxies):
        return peer
    said = ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")[-MOST_HOPS:]
    for hop in reversed([each.strip() for each in said]):
        try:
            found = str(plain_address(hop))
        except ValueError:
            return peer  # nothing, or no address: the last one that is sure
        peer = found
        if not _is_listed(found, proxies):
            break
    return peer


def is_secure(request: web.Request) -> bool:
    """Whether the caller speaks TLS with this hub, or with the proxy before it."""
    if request.secure or _last(request, "X-Forwarded-Proto").lower() == "https":
        return True
    return f"https://{host(request)}" in request.app[SETTINGS].origins  # a proxy that says nothing keeps the name


def is_proxied(request: web.Request) -> bool:
    """Whether a listed proxy has sent this."""
    return _is_listed(request.remote or "", request.app[SETTINGS].proxies)


def scheme(request: web.Request) -> str:
    """How the address in the caller's browser begins."""
    return "https" if is_secure(request) else "http"


def host(request: web.Request) -> str:
    """The name, and port, under which the caller knows this hub."""
    return _last(request, "X-Forwarded-Host") or request.host


def _last(request: web.Request, name: str) -> str:
    """What the proxy that stands right before this hub says; empty if none is listed."""
    proxies = request.app[SETTINGS].proxies
    if not proxies or not _is_listed(request.remote or "", proxies):
        return ""
    return ",".join(request.headers.getall(name, ())).rpartition(",")[2].strip()


def _is_listed(text: str, proxies: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    if not proxies:
        return False
    try:
        found = plain_address(text)
    except ValueError:
        return False
    return any(found in network for network in proxies)
