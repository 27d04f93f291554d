"""Backups: list, make one now."""

from typing import Final

from aiohttp import web

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Route
from hub.web.services import PRINCIPAL, SERVICES
from protocol.api import PREFIX, BackupList, BackupView


async def index(request: web.Request) -> web.StreamResponse:
    """Copies of the store that can be restored, newest first."""
    requests.query(request)
    return json_reply(await request.app[SERVICES].backups.list())


async def make(request: web.Request) -> web.StreamResponse:
    """A copy made now; the answer comes when it is on disk and has been looked through."""
    return json_reply(await request.app[SERVICES].backups.make(request[PRINCIPAL].token), 201)


ROUTES: Final = (
    Route("GET", f"{PREFIX}/backups", index, "backups:manage", "List backups of the store", None, BackupList),
    Route(
        "POST",
        f"{PREFIX}/backups",
        make,
        "backups:manage",
        "Make a backup now",
        None,
        BackupView,
        status=201,
        is_heavy=True,
    ),
)
