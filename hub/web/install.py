"""What a machine without AgentCom gets from the hub: a script, and the wheels of all that it needs. None is secret.

The script is the same everywhere; the command of a join token has its hash. It knows the hub by the token, and checks
every wheel against the list that it gets from there. Wheels are packed when the first machine asks.
"""

import asyncio
import hashlib
import re
import threading
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web

from hub.web.porch import visitor_of
from hub.web.replies import json_reply, write_piece
from hub.web.routing import Route
from hub.web.services import SETTINGS
from hub.wheels import Manifest, pack
from protocol.errors import NotFound

SCRIPT: Final = resources.files("hub.web").joinpath("static/install.sh").read_text("utf-8")
SCRIPT_HASH: Final = hashlib.sha256(SCRIPT.encode()).hexdigest()
_WHEEL: Final = re.compile(r"[A-Za-z0-9_.+-]{1,200}\.whl")
_SHELL: Final = "text/x-shellscript"
_BYTES: Final = "application/octet-stream"
_PIECE_BYTES: Final = 256 << 10
LOOK_S: Final = 1.0
_packing: Final = threading.Lock()


def install_line(url: str, token: str) -> str:
    """What to run on a machine without AgentCom: the script counts only if it is this one."""
    file = "agentcom-install.sh"
    check = f'echo "{SCRIPT_HASH}  {file}" | (sha256sum -c - || shasum -a 256 -c -)'
    return f"curl -fsSk {url}/install.sh -o {file} && {check} && sh {file} {url} --token {token}"


async def script(request: web.Request) -> web.StreamResponse:
    """The script."""
    del request
    return web.Response(text=SCRIPT, content_type=_SHELL)


async def manifest(request: web.Request) -> web.StreamResponse:
    """What there is to install, and what it hashes to."""
    return json_reply(await _manifest(request))


async def wheel(request: web.Request) -> web.StreamResponse:
    """One of these files.

    Raises:
        NotFound: it is none of them.
    """
    name = request.match_info["name"]
    known = await _manifest(request)
    if not _WHEEL.fullmatch(name) or name not in {each.name for each in known.wheels}:
        raise NotFound("file to install", name[:100])
    path = Path(request.app[SETTINGS].install_dir) / name
    response = web.StreamResponse(headers={hdrs.CONTENT_LENGTH: str(path.stat().st_size), hdrs.CONTENT_TYPE: _BYTES})
    await response.prepare(request)
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
            await write_piece(response, piece)
            if (visitor := visitor_of(request.transport)) is not None:
                visitor.asks()  # a slow line gets as long for each piece as for a whole answer
    await response.write_eof()
    return response


async def _manifest(request: web.Request) -> Manifest:
    folder = request.app[SETTINGS].install_dir
    if not folder:
        raise NotFound("route", request.path[:200])
    packing = asyncio.ensure_future(asyncio.to_thread(_packed, folder))
    while not (await asyncio.wait({packing}, timeout=LOOK_S))[0]:
        if (visitor := visitor_of(request.transport)) is not None:
            visitor.asks()  # the first one waits longer for it than a stranger may wait for an answer
    return packing.result()


def _packed(folder: str) -> Manifest:
    with _packing:  # who asks at the same time waits for the first
        return _once(folder)


@cache
def _once(folder: str) -> Manifest:
    return pack(Path(folder))


ROUTES: Final = (
    Route("GET", "/install.sh", script, None, "The script that installs AgentCom", produces=(_SHELL,)),
    Route("GET", "/install/manifest.json", manifest, None, "What there is to install", None, Manifest),
    Route("GET", "/install/{name}", wheel, None, "A wheel", produces=(_BYTES,)),
)
