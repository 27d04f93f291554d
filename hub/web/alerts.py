"""Alerts: what is wrong, acknowledging and silencing it; rules; who is told."""

from typing import Final

from aiohttp import web
from msgspec.structs import asdict

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Param, Route
from hub.web.services import PRINCIPAL, SERVICES
from protocol.alerts import (
    AlertList,
    AlertState,
    AlertView,
    BrowserBody,
    BrowserKey,
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
    services, name, by = request.app[SERVICES], request.match_info["id"], request[PRINCIPAL]
    found = await services.alerting.acknowledge(name, by.token)
    services.audit.record("alert.acknowledge", by, subject=name, rule=found.rule)
    return json_reply(found)


async def silence(request: web.Request) -> web.StreamResponse:
    """Nobody wants to hear of it for a while."""
    body = await requests.body(request, SilenceBody, "silence")
    services, name, by = request.app[SERVICES], request.match_info["id"], request[PRINCIPAL]
    found = await services.alerting.silence(name, body.for_s, by.token)
    services.audit.record("alert.silence", by, subject=name, rule=found.rule, for_s=body.for_s)
    return json_reply(found)


async def rules(request: web.Request) -> web.StreamResponse:
    """All rules, as they are now."""
    requests.query(request)
    return json_reply(request.app[SERVICES].alerting.rules())


async def change_rule(request: web.Request) -> web.StreamResponse:
    """Change a rule; what is left out stays."""
    patch = await requests.body(request, RulePatch, "rule")
    services, name = request.app[SERVICES], request.match_info["name"]
    found = await services.alerting.change_rule(name, patch)
    given = {field: value for field, value in asdict(patch).items() if value is not None}
    services.audit.record("alert_rule.change", request[PRINCIPAL], subject=name, **given)
    return json_reply(found)


async def notifiers(request: web.Request) -> web.StreamResponse:
    """Who is told."""
    requests.query(request)
    return json_reply(await request.app[SERVICES].notifying.list())


async def add_notifier(request: web.Request) -> web.StreamResponse:
    """Tell somebody, from now on."""
    body = await requests.body(request, NotifierBody, "notifier")
    return _added(request, await request.app[SERVICES].notifying.add(body))


async def browser_key(request: web.Request) -> web.StreamResponse:
    """What browsers subscribe with."""
    requests.query(request)
    return json_reply(await request.app[SERVICES].push_key.told())


async def add_browser(request: web.Request) -> web.StreamResponse:
    """Tell a browser, from now on."""
    body = await requests.body(request, BrowserBody, "browser")
    return _added(request, await request.app[SERVICES].notifying.subscribe(body))


def _added(request: web.Request, made: NotifierView) -> web.Response:
    request.app[SERVICES].audit.record(
        "notifier.add", request[PRINCIPAL], subject=made.id, url=made.url, label=made.label
    )
    return json_reply(made, 201)


async def remove_notifier(request: web.Request) -> web.StreamResponse:
    """Tell somebody no more."""
    services, name = request.app[SERVICES], request.match_info["id"]
    await services.notifying.remove(name)
    services.audit.record("notifier.remove", request[PRINCIPAL], subject=name)
    return web.Response(status=204)


async def test_notifier(request: web.Request) -> web.StreamResponse:
    """Send a message that says it is a test, now."""
    return json_reply(await request.app[SERVICES].notifying.test(request.match_info["id"]))


_ALERTS: Final = f"{PREFIX}/alerts"
_NOTIFIERS: Final = f"{PREFIX}/notifiers"
_BROWSERS: Final = f"{_NOTIFIERS}/browsers"
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
    Route("GET", f"{_BROWSERS}/key", browser_key, "alerts:write", "What browsers subscribe with", None, BrowserKey),
    Route("POST", _BROWSERS, add_browser, "alerts:write", "Tell a browser", BrowserBody, NotifierView, status=201),
    Route("DELETE", f"{_NOTIFIERS}/{{id}}", remove_notifier, "alerts:write", "Tell no more", produces=(), status=204),
    Route("POST", f"{_NOTIFIERS}/{{id}}/test", test_notifier, "alerts:write", "Send a test", None, NotifierTested),
)
