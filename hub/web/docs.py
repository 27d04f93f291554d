"""The API document, and a page that shows it without asking anybody else for anything."""

from importlib import resources
from typing import Final

from aiohttp import web

from hub.web import openapi, requests
from hub.web.replies import json_reply
from hub.web.routing import Route
from hub.web.services import LIVE, SETTINGS

_STATIC: Final = resources.files("hub.web").joinpath("static")
_FILES: Final = {"docs.js": "text/javascript", "docs.css": "text/css"}


async def document(request: web.Request) -> web.StreamResponse:
    """The OpenAPI document."""
    requests.query(request)
    return json_reply(openapi.document(request.app[LIVE].routes, request.app[SETTINGS].version))


async def page(_request: web.Request) -> web.StreamResponse:
    """The page that renders the document."""
    return web.Response(body=_STATIC.joinpath("docs.html").read_bytes(), content_type="text/html", charset="utf-8")


async def file(request: web.Request) -> web.StreamResponse:
    """A part of the page."""
    name = request.match_info["name"]
    if name not in _FILES:
        raise web.HTTPNotFound
    return web.Response(body=_STATIC.joinpath(name).read_bytes(), content_type=_FILES[name], charset="utf-8")


ROUTES: Final = (
    Route("GET", "/openapi.json", document, "docs:read", "This document", produces=("application/json",)),
    Route("GET", "/docs", page, "docs:read", "This document as a page", produces=("text/html",)),
    Route(
        "GET",
        "/docs/{name}",
        file,
        "docs:read",
        "A part of the page",
        produces=("text/javascript", "text/css"),
        is_listed=False,
    ),
)
