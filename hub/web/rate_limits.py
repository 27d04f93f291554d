"""Limits on how often may be asked: see them, set them, and whom they hold back."""

from typing import Final

from aiohttp import web

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Route
from hub.web.services import PRINCIPAL, SERVICES
from protocol.api import PREFIX
from protocol.rate_limits import RateBody, RateList


async def index(request: web.Request) -> web.StreamResponse:
    """All limits, and who was refused lately."""
    requests.query(request)
    return json_reply(request.app[SERVICES].rate_limits.show())


async def change(request: web.Request) -> web.StreamResponse:
    """Set the limit of a class, or of one token."""
    body = await requests.body(request, RateBody, "limit")
    limits = request.app[SERVICES].rate_limits
    return json_reply(await limits.put(request.match_info["id"], body, request[PRINCIPAL].token))


async def reset(request: web.Request) -> web.StreamResponse:
    """Give a class its usual limit again, or take from a token what was set for it."""
    await request.app[SERVICES].rate_limits.reset(request.match_info["id"], request[PRINCIPAL].token)
    return web.Response(status=204)


_PLACE: Final = f"{PREFIX}/rate-limits"
_ONE: Final = f"{_PLACE}/{{id}}"
ROUTES: Final = (
    Route("GET", _PLACE, index, "rates:read", "How often who may ask, and who was refused", None, RateList),
    Route("PATCH", _ONE, change, "rates:write", "Set the limit of a class or a token", RateBody, RateList),
    Route("DELETE", _ONE, reset, "rates:write", "Back to the usual limit", produces=(), status=204),
)
