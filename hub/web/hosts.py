"""Hosts: the machines and what they have."""

from typing import Final

from aiohttp import web

from hub.services.hosts import MINUTE, SPANS
from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Param, Route
from hub.web.services import SERVICES
from protocol.api import PREFIX
from protocol.host_views import HostHistory, HostList, HostView


async def index(request: web.Request) -> web.StreamResponse:
    """All machines, by name."""
    requests.query(request)
    return json_reply(request.app[SERVICES].hosts.hosts())


async def show(request: web.Request) -> web.StreamResponse:
    """One machine."""
    requests.query(request)
    return json_reply(request.app[SERVICES].hosts.host(request.match_info["name"]))


async def history(request: web.Request) -> web.StreamResponse:
    """What a machine did lately."""
    span = requests.query(request).get("span", MINUTE)
    return json_reply(request.app[SERVICES].hosts.history(request.match_info["name"], span))


ROUTES: Final = (
    Route("GET", f"{PREFIX}/hosts", index, "agents:read", "List machines and their resources", None, HostList),
    Route("GET", f"{PREFIX}/hosts/{{name}}", show, "agents:read", "One machine", None, HostView),
    Route(
        "GET",
        f"{PREFIX}/hosts/{{name}}/history",
        history,
        "agents:read",
        "What a machine did in the last minute or hour",
        None,
        HostHistory,
        (Param("span", "How far back: every reading of a minute, or an hour by the minute", "one", choices=SPANS),),
    ),
)
