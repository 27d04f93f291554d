"""Files that tasks have left: sidecars bring them, people list and fetch them.

What is fetched was made by work that nobody has read. So a browser may only save it: it is never shown, whatever it
claims to be, and its name is a suggestion without any power over where it goes.
"""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final
from urllib.parse import quote

from aiohttp import hdrs, web

from hub.services.artifacts import Upload
from hub.web import requests
from hub.web.replies import STALL_S, json_reply, write_piece
from hub.web.routing import Param, Route
from hub.web.services import IS_STREAMING, SERVICES
from protocol.api import PREFIX, ArtifactList, ArtifactView
from protocol.errors import BadInput, Problem
from protocol.limits import MAX_NAME_CHARS, MAX_PATH_CHARS
from protocol.model import AttemptId

_BYTES: Final = "application/octet-stream"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_SAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_NEEDED: Final = ("sidecar", "boot", "epoch", "path", "sha256")


async def index(request: web.Request) -> web.StreamResponse:
    """Files of a task."""
    requests.query(request)
    return json_reply(await request.app[SERVICES].artifacts.list(requests.task_id(request)))


async def receive(request: web.Request) -> web.StreamResponse:
    """A file of an attempt; the answer comes when it is kept for good."""
    asked = requests.query(request)
    task = requests.task_id(request)
    problems = [Problem(f"query {name}", "is missing") for name in _NEEDED if name not in asked]
    if not _DIGEST.fullmatch(asked.get("sha256", "0" * 64)):
        problems.append(Problem("query sha256", "expected 64 hexadecimal digits in lower case"))
    if request.content_length is None:
        problems.append(Problem("header Content-Length", "is missing: say how large the file is"))
    if problems or request.content_length is None:
        raise BadInput(problems, "request")
    attempt = AttemptId(asked["sidecar"], asked["boot"], task, asked["epoch"])
    upload = Upload(attempt=attempt, path=asked["path"], size_bytes=request.content_length, sha256=asked["sha256"])
    async with aclosing(_pieces(request)) as pieces:
        return json_reply(await request.app[SERVICES].artifacts.receive(upload, pieces), 201)


async def _pieces(request: web.Request) -> AsyncGenerator[bytes, None]:
    while True:
        try:
            async with asyncio.timeout(STALL_S):
                piece = await request.content.readany()
        except TimeoutError:
            raise web.HTTPRequestTimeout(text=f"nothing came for {STALL_S:g} s") from None
        if not piece:
            return
        yield piece


async def download(request: web.Request) -> web.StreamResponse:
    """The bytes of a file, all of them or a range (RFC 9110 section 14)."""
    requests.query(request)
    artifacts = request.app[SERVICES].artifacts
    found = await artifacts.find(request.match_info["id"])
    tag = f'"{found.sha256}"'
    headers = {
        hdrs.ETAG: tag,
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.CONTENT_DISPOSITION: disposition(found.path),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        hdrs.CACHE_CONTROL: "private, no-cache",
    }
    if _names(request.headers.get(hdrs.IF_NONE_MATCH, ""), tag):
        return web.Response(status=304, headers=headers)
    start, stop, is_part = wanted(
        request.headers.get(hdrs.RANGE, ""), request.headers.get(hdrs.IF_RANGE, tag) == tag, found.size_bytes
    )
    if start < 0:
        headers[hdrs.CONTENT_RANGE] = f"bytes */{found.size_bytes}"
        return web.Response(status=416, headers=headers)
    if is_part:
        headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{stop - 1}/{found.size_bytes}"
    response = web.StreamResponse(status=206 if is_part else 200, headers=headers)
    response.content_type, response.content_length = _BYTES, stop - start
    async with aclosing(artifacts.read(found, start, stop)) as pieces:
        first = await anext(pieces, b"") if request.method != "HEAD" else b""  # what is gone is told as such
        await response.prepare(request)
        request[IS_STREAMING] = True
        if request.method != "HEAD":
            await write_piece(response, first)
            async for piece in pieces:
                await write_piece(response, piece)
    await response.write_eof()
    return response


def _names(header: str, tag: str) -> bool:
    return header.strip() == "*" or tag in [one.strip().removeprefix("W/") for one in header.split(",")]


def wanted(header: str, is_same: bool, size: int) -> tuple[int, int, bool]:  # noqa: FBT001 - one fact of the request
    """First byte, the one behind the last, and whether that is a part; the first is -1 if there is no such part.

    A header that is no range of bytes, or names several, or is about another version, is answered with everything.
    """
    match = _RANGE.fullmatch(header.strip().lower())
    if match is None or not is_same or not any(match.groups()):
        return 0, size, False
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        return (size - length, size, True) if length else (-1, 0, True)
    start, stop = int(first), min(int(last) + 1, size) if last else size
    if last and int(last) < start:
        return 0, size, False
    return (start, stop, True) if start < size else (-1, 0, True)


def disposition(path: str) -> str:
    """A header that has a file saved under the last part of ``path`` (RFC 6266), whatever characters that has."""
    name = path.rsplit("/", 1)[-1].lstrip(".") or "artifact"
    plain = _SAFE.sub("_", name)[:100]
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name[:200], safe='')}"


ROUTES: Final = (
    Route(
        "GET",
        f"{PREFIX}/tasks/{{id}}/artifacts",
        index,
        "tasks:read",
        "Files that a task has left",
        None,
        ArtifactList,
    ),
    Route(
        "POST",
        f"{PREFIX}/tasks/{{id}}/artifacts",
        receive,
        "artifacts:write",
        "Keep a file of an attempt that is in work: the body is the file",
        None,
        ArtifactView,
        (
            Param("sidecar", "Whose attempt it is", most=MAX_NAME_CHARS),
            Param("boot", "The boot epoch of the sidecar", "count"),
            Param("epoch", "The epoch of the attempt", "count"),
            Param("path", "Where the file lay in the workspace", most=MAX_PATH_CHARS),
            Param("sha256", "The SHA-256 of the file, in hexadecimal"),
        ),
        status=201,
        consumes=_BYTES,
    ),
    Route(
        "GET",
        f"{PREFIX}/artifacts/{{id}}/download",
        download,
        "tasks:read",
        "The bytes of a file, all of them or a range",
        produces=(_BYTES,),
    ),
)
