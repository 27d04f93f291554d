"""The port that a hub listens on, and its address where commands on this machine look for it."""

import asyncio
import json
import os
import resource
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from hub.core.porch import MAX_ALTOGETHER, Porch
from hub.opening import unusable, written_in
from hub.settings import Settings
from hub.tls import Tls
from hub.web.doorstep import Doorstep
from hub.web.routing import MAX_LINE_BYTES
from hub.web.short_way import DESK

KEEPALIVE_S: Final = 75.0
"""How long a connection may stay open between two requests."""
SHUTDOWN_S: Final = 2.0
"""How long requests that are being answered may still take when the hub ends."""
STRANGERS_SHARE: Final = 0.5
"""Of the descriptors that the hub may have, those of connections that have not shown who they are."""


async def open_port(
    app: web.Application,
    settings: Settings,
    cut: Callable[[float], Awaitable[None]],
    at_end: Callable[[Callable[[], Awaitable[None]]], None],
    tls: Tls | None = None,
) -> str:
    """Open the port.

    Args:
        app, settings: what is served, and where.
        cut: ends the links of sidecars, within so many seconds.
        at_end: given what closes it again.
        tls: with which certificate; ``None``: in the clear.
    Returns:
        The address that people and sidecars use.
    Raises:
        BadInput: the address cannot be used, or the data directory cannot be written.
    """
    host, port = settings.address
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=SHUTDOWN_S, keepalive_timeout=KEEPALIVE_S, max_line_size=MAX_LINE_BYTES
    )
    await runner.setup()
    assert runner.server is not None, "it is set up"
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    step = Doorstep(
        runner.server,
        tls.context if tls else None,
        porch=Porch(altogether=min(MAX_ALTOGETHER, int(files * STRANGERS_SHARE))),
        only=settings.proxies if settings.plaintext and not settings.is_local else None,
        proxies=settings.proxies,
    )
    try:
        bound = await step.open(host, port)
    except BaseException as exc:
        await runner.cleanup()
        if isinstance(exc, OSError):
            raise unusable("listen", f"cannot listen on {settings.listen}: {exc.strerror or exc}") from exc
        raise

    async def shut() -> None:
        step.close()
        await asyncio.gather(cut(SHUTDOWN_S), app[DESK].silent(SHUTDOWN_S))
        await runner.cleanup()

    at_end(shut)
    shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    if shown in {"0.0.0.0", "[::]"}:  # noqa: S104 - compared, not bound
        shown = "127.0.0.1"
    url = f"{'https' if tls else 'http'}://{shown}:{bound[1]}"
    url = settings.url.rstrip("/") or url
    with written_in(settings.folder):
        _announce(settings.folder, url)
    return url


def _announce(folder: Path, url: str) -> None:
    """Leave the address where commands on this machine look for it."""
    draft = folder / ".hub.json"
    draft.write_text(json.dumps({"url": url, "pid": os.getpid()}) + "\n", encoding="utf-8")
    draft.replace(folder / "hub.json")
