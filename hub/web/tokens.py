"""Tokens: list, make, revoke."""

from typing import Final

from aiohttp import web

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Route
from hub.web.services import PRINCIPAL, SERVICES
from protocol.api import PREFIX, TokenBody, TokenCreated, TokenList


async def index(request: web.Request) -> web.StreamResponse:
    """All tokens, without their secrets."""
    requests.query(request)
    return json_reply(request.app[SERVICES].access.tokens())


async def create(request: web.Request) -> web.StreamResponse:
    """A new token: the only answer that ever holds its secret."""
    body = await requests.body(request, TokenBody, "token")
    return json_reply(await request.app[SERVICES].access.create(body, request[PRINCIPAL].token), 201)


async def revoke(request: web.Request) -> web.StreamResponse:
    """End a token at once."""
    await request.app[SERVICES].access.revoke(request.match_info["id"], request[PRINCIPAL].token)
    return web.Response(status=204)


ROUTES: Final = (
    Route("GET", f"{PREFIX}/tokens", index, "tokens:manage", "List tokens, without their secrets", None, TokenList),
    Route(
        "POST",
        f"{PREFIX}/tokens",
        create,
        "tokens:manage",
        "Make a token; its secret is shown only now",
        TokenBody,
        TokenCreated,
        status=201,
    ),
    Route("DELETE", f"{PREFIX}/tokens/{{id}}", revoke, "tokens:manage", "Revoke a token", produces=(), status=204),
)
