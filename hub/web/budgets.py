"""Budgets: what may be used a day; list, set, remove."""

from typing import Final

from aiohttp import web

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Param, Route
from hub.web.services import PRINCIPAL, SERVICES
from protocol.api import PREFIX
from protocol.budgets import BudgetBody, BudgetList, BudgetView
from protocol.usage import UsageBy, UsageList


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


async def usage(request: web.Request) -> web.StreamResponse:
    """What attempts have used of models, by whom or what, over time."""
    asked = requests.query(request)
    since_s, until_s = requests.moments(asked, "since", "until")
    by = UsageBy(asked.get("by", UsageBy.MODEL))
    return json_reply(await request.app[SERVICES].budgets.usage(by, since_s, until_s, asked.get("step_s", 0)))


_USAGE: Final = (
    Param("by", "What is told apart; left out: model", "one", choices=tuple(UsageBy)),
    Param("since", "From when; left out: a week before `until`"),
    Param("until", "Until when; left out: now"),
    Param("step_s", "Seconds of a step; left out: an hour, or more for a long time", "count", 60, 31 * 86_400),
)
_PLACE: Final = f"{PREFIX}/budgets"
_ONE: Final = f"{_PLACE}/{{id}}"
ROUTES: Final = (
    Route("GET", _PLACE, index, "budgets:read", "List budgets", None, BudgetList),
    Route("GET", _ONE, show, "budgets:read", "One budget", None, BudgetView),
    Route("PUT", _ONE, put, "budgets:write", "Set a budget", BudgetBody, BudgetView),
    Route("GET", f"{PREFIX}/usage", usage, "budgets:read", "What models were used for", None, UsageList, _USAGE),
    Route("DELETE", _ONE, remove, "budgets:write", "Forget a budget", produces=(), status=204),
)
