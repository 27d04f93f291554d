"""Somebody else's server on a free port of this machine, for as long as a test needs it."""

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web


@contextlib.asynccontextmanager
async def served(app: web.Application, *, host: str = "127.0.0.1", end_s: float = 0.5) -> AsyncIterator[str]:
    """The address of this machine at which ``app`` answers.

    Args:
        app: what is served.
        host: what it listens on; in any case it is reached by 127.0.0.1.
        end_s: how long requests that are open at the end may still take.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=end_s)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
