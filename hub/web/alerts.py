"""Alerts: what is wrong, acknowledging and silencing it; rules; who is told."""

from typing import Final

from aiohttp import web

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Param, Route
from hub.web.services import PRINCIPAL, SERVICES
from protocol.alerts import (
    AlertList,
    AlertState,
    AlertView,
    NotifierBody,
    NotifierList,
    NotifierTested,
    NotifierView,
    RuleList,
    RulePatch,
    RuleView,
    SilenceBody,
)
from protocol.api import PREFIX


async def index(request: web.Request) -> web.StreamResponse:
    """What is wrong, and what was."""
    asked = requests.query(request)
    state = AlertState(asked["state"]) if "state" in asked else None
    alerting = request.app[SERVICES].alerting
    return json_reply(await alerting.list(state, asked.get("cursor", ""), asked.get("limit", 100)))


async def acknowledge(request: web.Request) -> web.StreamResponse:
    """Somebody is at it."""
    name, by = request.match_info["id"], request[PRINCIPAL].token
    return json_reply(await request.app[SERVICES].alerting.acknowledge(name, by))


async def silence(request: web.Request) -> web.StreamResponse:
    """Nobody wants to hear of it for a while."""
    body = await requests.body(request, SilenceBody, "silence")
    name, by = request.match_info["id"], request[PRINCIPAL].token
    return json_reply(await request.app[SERVICES].alerting.silence(name, body.for_s, by))


async def rules(request: web.Request) -> web.StreamResponse:
    """All rules, as they are now."""
    requests.query(request)
    return json_reply(request.app[SERVICES].alerting.rules())


async def change_rule(request: web.Request) -> web.StreamResponse:
    """Change a rule; what is left out stays."""
    patch = await requests.body(request, RulePatch, "rule")
    return json_reply(await request.app[SERVICES].alerting.change_rule(request.match_info["name"], patch))


async def notifiers(request: web.Request) -> web.StreamResponse:
    """Who is told."""
    requests.query(request)
    return json_reply(await request.app[SERVICES].notifying.list())


async def add_notifier(request: web.Request) -> web.StreamResponse:
    """Tell somebody, from now on."""
    body = await requests.body(request, NotifierBody, "notifier")
    return json_reply(await request.app[SERVICES].notifying.add(body), 201)


async def remove_notifier(request: web.Request) -> web.StreamResponse:
    """Tell somebody no more."""
    await request.app[SERVICES].notifying.remove(request.match_info["id"])
    return web.Response(status=204)


async def test_notifier(request: web.Request) -> web.StreamResponse:
    """Send a message that says it is a test, now."""
    return json_reply(await request.app[SERVICES].notifying.test(request.match_info["id"]))


_ALERTS: Final = f"{PREFIX}/alerts"
_NOTIFIERS: Final = f"{PREFIX}/notifiers"
ROUTES: Final = (
    Route(
        "GET",
        _ALERTS,
        index,
        "alerts:read",
        "List alerts",
        None,
        AlertList,
        (
            Param("state", "Only those that stand so", "one", choices=tuple(AlertState)),
            Param("cursor", "Where the last page ended"),
            Param("limit", "Alerts that have ended, a page", "count", least=1, most=500),
        ),
    ),
    Route("POST", f"{_ALERTS}/{{id}}/acknowledge", acknowledge, "alerts:write", "Be at it", None, AlertView),
    Route("POST", f"{_ALERTS}/{{id}}/silence", silence, "alerts:write", "Silence an alert", SilenceBody, AlertView),
    Route("GET", f"{_ALERTS}/rules", rules, "alerts:read", "List rules of alerts", None, RuleList),
    Route("PATCH", f"{_ALERTS}/rules/{{name}}", change_rule, "alerts:write", "Change a rule", RulePatch, RuleView),
    Route("GET", _NOTIFIERS, notifiers, "alerts:read", "List who is told", None, NotifierList),
    Route("POST", _NOTIFIERS, add_notifier, "alerts:write", "Tell somebody", NotifierBody, NotifierView, status=201),
    Route("DELETE", f"{_NOTIFIERS}/{{id}}", remove_notifier, "alerts:write", "Tell no more", produces=(), status=204),
    Route("POST", f"{_NOTIFIERS}/{{id}}/test", test_notifier, "alerts:write", "Send a test", None, NotifierTested),
)
