"""Hear of commits in PostgreSQL as they happen, on a connection of its own.

Every commit tells the number of its last event (``notify``). What is heard is a wake-up only: what was missed while the
connection was gone is found by looking.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

import asyncpg
import structlog

log = structlog.get_logger(__name__)

CHANNEL: Final = "agentcom_events"
CONNECT_S: Final = 5.0
PROBE_S: Final = 30.0
"""How often a silent connection is asked whether it is still there."""
PAUSE_S: Final = 1.0


async def listen(
    url: str,
    settings: Mapping[str, str],
    is_own: Callable[[int], bool],
    on_news: Callable[[int], None],
    away: tuple[type[BaseException], ...],
) -> None:
    """Call ``on_news`` with the number of the newest event whenever another connection commits some, until cancelled.

    Args:
        is_own: whether a server process (its pid) is our own writer's.
        on_news: gets 0 when something may have been missed.
        away: what says that the database cannot be reached now.
    """

    def heard(_connection: object, pid: int, _channel: str, payload: object) -> None:
        if not is_own(pid):
            on_news(int(str(payload)))

    while True:
        try:
            connection = await asyncpg.connect(url, timeout=CONNECT_S, server_settings=dict(settings))
            try:
                await connection.add_listener(CHANNEL, heard)
                on_news(0)
                await _until_gone(connection)
            finally:
                connection.terminate()
        except away as exc:
            log.debug("listening_lost", why=type(exc).__name__, next="trying again; polling goes on")
        await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.0))


async def _until_gone(connection: Any) -> None:  # noqa: ANN401 - asyncpg ships no types
    gone = asyncio.Event()
    connection.add_termination_listener(lambda _connection: gone.set())
    while not connection.is_closed():
        try:
            async with asyncio.timeout(PROBE_S):
                await gone.wait()
        except TimeoutError:
            await connection.execute("SELECT 1", timeout=CONNECT_S)
