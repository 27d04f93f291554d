"""Endpoints: where models answer; list, add, change, remove."""

from typing import Final

from aiohttp import web

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Route
from hub.web.services import PRINCIPAL, SERVICES
from protocol.api import PREFIX
from protocol.endpoint_views import EndpointBody, EndpointList, EndpointPatch, EndpointView


async def index(request: web.Request) -> web.StreamResponse:
    """All endpoints, by id."""
    requests.query(request)
    return json_reply(request.app[SERVICES].registry.endpoints())


async def show(request: web.Request) -> web.StreamResponse:
    """One endpoint."""
    requests.query(request)
    return json_reply(request.app[SERVICES].registry.endpoint(request.match_info["id"]))


async def add(request: web.Request) -> web.StreamResponse:
    """Add an endpoint that answers."""
    body = await requests.body(request, EndpointBody, "endpoint")
    view = await request.app[SERVICES].registry.add(body, request[PRINCIPAL].token)
    return json_reply(view, 201, {"Location": f"{PREFIX}/endpoints/{view.id}"})


async def change(request: web.Request) -> web.StreamResponse:
    """Change what is named; the rest stays."""
    body = await requests.body(request, EndpointPatch, "endpoint")
    return json_reply(
        await request.app[SERVICES].registry.change(request.match_info["id"], body, request[PRINCIPAL].token)
    )


async def remove(request: web.Request) -> web.StreamResponse:
    """Forget an endpoint that a person has added."""
    await request.app[SERVICES].registry.remove(request.match_info["id"], request[PRINCIPAL].token)
    return web.Response(status=204)


ROUTES: Final = (
    Route("GET", f"{PREFIX}/endpoints", index, "endpoints:read", "List LLM endpoints", None, EndpointList),
    Route(
        "POST",
        f"{PREFIX}/endpoints",
        add,
        "endpoints:write",
        "Add an LLM endpoint",
        EndpointBody,
        EndpointView,
        status=201,
    ),
    Route("GET", f"{PREFIX}/endpoints/{{id}}", show, "endpoints:read", "One endpoint", None, EndpointView),
    Route(
        "PATCH",
        f"{PREFIX}/endpoints/{{id}}",
        change,
        "endpoints:write",
        "Change an endpoint",
        EndpointPatch,
        EndpointView,
    ),
    Route(
        "DELETE", f"{PREFIX}/endpoints/{{id}}", remove, "endpoints:write", "Forget an endpoint", produces=(), status=204
    ),
)
