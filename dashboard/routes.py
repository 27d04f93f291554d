"""The files of the live page: the page itself, its scripts, its style.

Only what is in ``static/`` when the hub starts is ever served: names are looked up among those read then, so no path
leads anywhere else. ``hub/web/dashboard.py`` puts the two handlers into the hub's route table, whose guard decides
who may ask. ``runbooks.md`` is a copy of the page of the documents, written by ``python -m tests.docs``.
"""

import base64
import gzip
import hashlib
import mimetypes
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Final

from aiohttp import hdrs, web

from protocol.errors import NotFound

PAGE: Final = "index.html"
_TYPES: Final = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".html": "text/html",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".md": "text/plain",
}


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is sent. ``etag`` changes with the content; ``packed`` is the same content, gzip."""

    content_type: str
    body: bytes
    packed: bytes
    etag: str


def files() -> Mapping[str, File]:
    """All files of the page by name; those of a folder as ``folder/name``."""
    found = {}
    for name, body in _read(resources.files("dashboard").joinpath("static"), ""):
        kind = next((told for end, told in _TYPES.items() if name.endswith(end)), None)
        found[name] = File(
            content_type=kind or mimetypes.guess_type(name)[0] or "application/octet-stream",
            body=body,
            packed=gzip.compress(body, 9, mtime=0),
            etag=hashlib.sha256(body).hexdigest()[:16],
        )
    return MappingProxyType(found)


def _read(folder: Traversable, before: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_dir():
            yield from _read(entry, f"{before}{entry.name}/")
        else:
            yield before + entry.name, entry.read_bytes()


def policy(page_body: bytes) -> str:
    """What the page may do, for the browser: nothing from elsewhere, and of scripts in it only the map of modules."""
    [modules] = re.findall(rb'<script type="importmap">(.*?)</script>', page_body, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(modules).digest()).decode()
    return (
        f"default-src 'self'; script-src 'self' 'sha256-{allowed}'; img-src 'self' data:; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    )


async def page(request: web.Request) -> web.StreamResponse:
    """The page."""
    response = _send(request, _FILES[PAGE])
    response.headers["Content-Security-Policy"] = _POLICY
    return response


async def file(request: web.Request) -> web.StreamResponse:
    """A part of the page."""
    name = "/".join(filter(None, (request.match_info.get("folder"), request.match_info["name"])))
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
_POLICY: Final = policy(_FILES[PAGE].body)
