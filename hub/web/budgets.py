"""Budgets: what may be used a day; list, set, remove."""

from typing import Final

from aiohttp import web

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Route
from hub.web.services import PRINCIPAL, SERVICES
from protocol.api import PREFIX
from protocol.budgets import BudgetBody, BudgetList, BudgetView


async def index(request: web.Request) -> web.StreamResponse:
    """All budgets, and how they stand today."""
    requests.query(request)
    return json_reply(await request.app[SERVICES].budgets.list())


async def show(request: web.Request) -> web.StreamResponse:
    """One budget, and how it stands today."""
    requests.query(request)
    return json_reply(await request.app[SERVICES].budgets.show(request.match_info["id"]))


async def put(request: web.Request) -> web.StreamResponse:
    """Set a budget, new or changed."""
    body = await requests.body(request, BudgetBody, "budget")
    budgets = request.app[SERVICES].budgets
    return json_reply(await budgets.put(request.match_info["id"], body, request[PRINCIPAL].token))


async def remove(request: web.Request) -> web.StreamResponse:
    """Forget a budget: what it bounded has no limit any more."""
    await request.app[SERVICES].budgets.remove(request.match_info["id"], request[PRINCIPAL].token)
    return web.Response(status=204)


_PLACE: Final = f"{PREFIX}/budgets"
_ONE: Final = f"{_PLACE}/{{id}}"
ROUTES: Final = (
    Route("GET", _PLACE, index, "budgets:read", "List budgets", None, BudgetList),
    Route("GET", _ONE, show, "budgets:read", "One budget", None, BudgetView),
    Route("PUT", _ONE, put, "budgets:write", "Set a budget", BudgetBody, BudgetView),
    Route("DELETE", _ONE, remove, "budgets:write", "Forget a budget", produces=(), status=204),
)
