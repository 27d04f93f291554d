"""Hosts: the machines and what they have."""

from typing import Final

from aiohttp import web

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Route
from hub.web.services import SERVICES
from protocol.api import PREFIX, HostList


async def index(request: web.Request) -> web.StreamResponse:
    """All machines, by name."""
    requests.query(request)
    return json_reply(request.app[SERVICES].hosts.hosts())


ROUTES: Final = (
    Route("GET", f"{PREFIX}/hosts", index, "agents:read", "List machines and their resources", None, HostList),
)
