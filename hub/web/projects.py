"""Projects: register, change, forget; their files."""

import asyncio
import re
from typing import Final

from aiohttp import hdrs, web

from hub.web import requests
from hub.web.replies import json_reply, write_piece
from hub.web.routing import IF_MATCH, JSON, Param, Route
from hub.web.services import IS_STREAMING, PRINCIPAL, SERVICES
from protocol.api import PREFIX
from protocol.projects import (
    MAX_LISTED,
    FileList,
    FileView,
    FileWritten,
    ProjectBody,
    ProjectList,
    ProjectPatch,
    ProjectView,
)

BYTES: Final = "application/octet-stream"
_PIECE_BYTES: Final = 256 << 10
_TAG: Final = re.compile(r'"(\d{1,18})"')
_SAFE: Final = {
    # What a project holds is shown by no browser as a page of this hub.
    "Content-Disposition": "attachment",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}


async def index(request: web.Request) -> web.StreamResponse:
    """All projects, by name."""
    requests.query(request)
    found, bound = request.app[SERVICES].projects.list(), request[PRINCIPAL].scope.projects
    if bound:
        found.projects = tuple(project for project in found.projects if project.name in bound)
    return json_reply(found)


async def show(request: web.Request) -> web.StreamResponse:
    """One project."""
    requests.query(request)
    return _told(request.app[SERVICES].projects.show(request.match_info["name"]))


async def add(request: web.Request) -> web.StreamResponse:
    """Register a repository or a directory."""
    body = await requests.body(request, ProjectBody, "project")
    view = await request.app[SERVICES].projects.add(body, request[PRINCIPAL].token)
    return _told(view, 201, {"Location": f"{PREFIX}/projects/{view.name}"})


async def change(request: web.Request) -> web.StreamResponse:
    """Change what is named; the rest stays."""
    patch = await requests.body(request, ProjectPatch, "project")
    projects, by = request.app[SERVICES].projects, request[PRINCIPAL].token
    return _told(await projects.change(request.match_info["name"], patch, by, _version(request)))


async def remove(request: web.Request) -> web.StreamResponse:
    """Forget a project and remove the hub's clone; a directory stays as it is."""
    force = bool(requests.query(request).get("force", False))
    projects, by = request.app[SERVICES].projects, request[PRINCIPAL].token
    await projects.remove(request.match_info["name"], by, force=force, version=_version(request))
    return web.Response(status=204)


def _told(view: ProjectView, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return json_reply(view, status, {**(headers or {}), hdrs.ETAG: f'"{view.version}"'})


def _version(request: web.Request) -> int | None:
    """The version of the project that the caller has read; ``None``: it does not matter."""
    said = request.headers.get(IF_MATCH, "*").strip()
    if said == "*":
        return None
    found = _TAG.fullmatch(said)
    return int(found[1]) if found else -1  # none that a project ever has


# --- files ------------------------------------------------------------------------------------------------------------


async def files(request: web.Request) -> web.StreamResponse:
    """What a directory of the project holds."""
    asked = requests.query(request)
    page = await request.app[SERVICES].projects.files(
        request.match_info["name"], asked.get("path", ""), asked.get("cursor", ""), asked.get("limit", MAX_LISTED)
    )
    return json_reply(page)


async def read(request: web.Request) -> web.StreamResponse:
    """A file: its bytes, or with ``Accept: application/json`` everything about it."""
    requests.query(request)
    projects, name, path = request.app[SERVICES].projects, request.match_info["name"], request.match_info["path"]
    if JSON in request.headers.get(hdrs.ACCEPT, ""):
        return json_reply(await projects.read(name, path))
    file, size_bytes = await projects.opened(name, path)
    with file:
        answer = web.StreamResponse(headers=_SAFE)
        answer.content_type, answer.content_length = BYTES, size_bytes
        await answer.prepare(request)
        request[IS_STREAMING] = True
        left = 0 if request.method == hdrs.METH_HEAD else size_bytes
        while left and (piece := await asyncio.to_thread(file.read, min(left, _PIECE_BYTES))):
            await write_piece(answer, piece)
            left -= len(piece)
        if left and request.transport is not None:
            request.transport.abort()  # it was cut while it was read: what was sent must not look whole
    return answer


async def write(request: web.Request) -> web.StreamResponse:
    """Write a file with the bytes of the body; whoever reads meanwhile sees the old or the new one whole."""
    content = await requests.raw_body(request)
    projects = request.app[SERVICES].projects
    done = await projects.write(request.match_info["name"], request.match_info["path"], content)
    return json_reply(done, 201 if done.created else 200)


async def delete(request: web.Request) -> web.StreamResponse:
    """Remove a file or an empty directory."""
    await request.app[SERVICES].projects.delete(request.match_info["name"], request.match_info["path"])
    return web.Response(status=204)


_PLACE: Final = f"{PREFIX}/projects"
_ONE: Final = f"{_PLACE}/{{name}}"
_FILE: Final = f"{_ONE}/files/{{path}}"
_LIST: Final = (
    Param("path", "The directory; left out: the project itself"),
    Param("limit", "Entries on a page", "count", least=1, most=MAX_LISTED),
    Param("cursor", "The next_cursor of the page before"),
)
_AS_READ: Final = Param(
    IF_MATCH, "The ETag of the version that was read: no other one is changed", where="header", most=100
)
_FORCE: Final = (Param("force", "Also if the hub's clone holds work that is nowhere else", "flag"), _AS_READ)
ROUTES: Final = (
    Route("GET", _PLACE, index, "projects:read", "List projects", None, ProjectList),
    Route(
        "POST",
        _PLACE,
        add,
        "projects:manage",
        "Register a repository or a directory",
        ProjectBody,
        ProjectView,
        status=201,
    ),
    Route("GET", _ONE, show, "projects:read", "One project", None, ProjectView),
    Route("PATCH", _ONE, change, "projects:manage", "Change a project", ProjectPatch, ProjectView, (_AS_READ,)),
    Route("DELETE", _ONE, remove, "projects:manage", "Forget a project", None, None, _FORCE, produces=(), status=204),
    Route("GET", f"{_ONE}/files", files, "projects:read", "List a directory of a project", None, FileList, _LIST),
    Route("GET", _FILE, read, "projects:read", "Read a file", None, FileView, produces=(BYTES, JSON)),
    Route("PUT", _FILE, write, "projects:write", "Write a file", None, FileWritten, consumes=BYTES),
    Route("DELETE", _FILE, delete, "projects:write", "Remove a file", produces=(), status=204),
)
