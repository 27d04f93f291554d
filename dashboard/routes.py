"""The files of the live page: the page itself, its script, its style.

Only what is in ``static/`` when the hub starts is ever served: names are looked up among those read then, so no path
leads anywhere else. ``hub/web/dashboard.py`` puts the two handlers into the hub's route table, whose guard decides
who may ask.
"""

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Final

from aiohttp import hdrs, web

from protocol.errors import NotFound

PAGE: Final = "index.html"
_TYPES: Final = {".js": "text/javascript", ".html": "text/html", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is sent. ``etag`` changes with the content; ``packed`` is the same content, gzip."""

    content_type: str
    body: bytes
    packed: bytes
    etag: str


def files() -> Mapping[str, File]:
    """All files of the page by name."""
    found = {}
    for entry in resources.files("dashboard").joinpath("static").iterdir():
        if entry.is_file() and not entry.name.startswith("."):
            body = entry.read_bytes()
            kind = next((told for end, told in _TYPES.items() if entry.name.endswith(end)), None)
            found[entry.name] = File(
                content_type=kind or mimetypes.guess_type(entry.name)[0] or "application/octet-stream",
                body=body,
                packed=gzip.compress(body, 9, mtime=0),
                etag=hashlib.sha256(body).hexdigest()[:16],
            )
    return MappingProxyType(found)


async def page(request: web.Request) -> web.StreamResponse:
    """The page."""
    return _send(request, _FILES[PAGE])


async def file(request: web.Request) -> web.StreamResponse:
    """A part of the page."""
    name = request.match_info["name"]
    if name not in _FILES:
        raise NotFound("file", name[:100])
    return _send(request, _FILES[name])


def _send(request: web.Request, found: File) -> web.Response:
    # `no-cache`: keep it, but ask each time; a new release shows at once and an old one costs 304 and no body.
    headers = {
        hdrs.ETAG: f'"{found.etag}"',
        hdrs.CACHE_CONTROL: "private, no-cache",
        hdrs.VARY: "Accept-Encoding, Cookie",
    }
    if any(tag.value in {found.etag, "*"} for tag in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
        headers[hdrs.CONTENT_ENCODING] = "gzip"
        return web.Response(body=found.packed, headers=headers, content_type=found.content_type, charset="utf-8")
    return web.Response(body=found.body, headers=headers, content_type=found.content_type, charset="utf-8")


_FILES: Final = files()
