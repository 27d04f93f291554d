"""Secrets: set, list, remove, exchange their keys. No route gives a value back."""

from typing import Final

from aiohttp import web

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Route
from hub.web.services import PRINCIPAL, SERVICES
from protocol.api import PREFIX
from protocol.keystore import Rotated, SecretBody, SecretList, SecretView


async def index(request: web.Request) -> web.StreamResponse:
    """All secrets, without their values."""
    requests.query(request)
    return json_reply(await request.app[SERVICES].keystore.list())


async def show(request: web.Request) -> web.StreamResponse:
    """One of them, without its value."""
    return json_reply(await request.app[SERVICES].keystore.find(request.match_info["name"]))


async def put(request: web.Request) -> web.StreamResponse:
    """Keep a secret, or its next value."""
    body = await requests.body(request, SecretBody, "secret")
    services, by = request.app[SERVICES], request[PRINCIPAL]
    kept = await services.keystore.put(request.match_info["name"], body, by.token)
    services.audit.record("secret.set", by, subject=kept.name, version=kept.version, projects=list(kept.projects))
    return json_reply(kept)


async def remove(request: web.Request) -> web.StreamResponse:
    """Keep a secret no more."""
    services, name = request.app[SERVICES], request.match_info["name"]
    await services.keystore.remove(name)
    services.audit.record("secret.remove", request[PRINCIPAL], subject=name)
    return web.Response(status=204)


async def rotate(request: web.Request) -> web.StreamResponse:
    """Seal everything with a new key."""
    services = request.app[SERVICES]
    done = await services.keystore.rotate()
    services.audit.record("keystore.rotate", request[PRINCIPAL], subject=done.key, sealed=done.sealed)
    return json_reply(done)


_SECRETS: Final = f"{PREFIX}/secrets"
_ONE: Final = f"{_SECRETS}/{{name}}"
ROUTES: Final = (
    Route("GET", _SECRETS, index, "secrets:manage", "List secrets, without their values", None, SecretList),
    Route("GET", _ONE, show, "secrets:manage", "A secret, without its value", None, SecretView),
    Route("PUT", _ONE, put, "secrets:manage", "Keep a secret", SecretBody, SecretView),
    Route("DELETE", _ONE, remove, "secrets:manage", "Keep a secret no more", produces=(), status=204),
    Route(
        "POST", f"{PREFIX}/keystore/rotate", rotate, "secrets:manage", "Seal everything with a new key", None, Rotated
    ),
)
