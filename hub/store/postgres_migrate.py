"""Bring a PostgreSQL schema up to date: the rules of ``migrate.py``, for hubs that may start at the same moment.

An advisory lock is held over the whole run, so that the second hub waits and finds nothing to do; each script has its
own transaction, so that a crash in the middle leaves whole steps only.
"""

from typing import Any, Final

import structlog

from hub.store.migrate import missing
from hub.store.queries import migrations

log = structlog.get_logger(__name__)
MIGRATION_LOCK: Final = 0x6167656E74636F6D
"""Any number that no other program uses on the same database: ``agentcom`` in ASCII."""
PATIENCE_S: Final = 6 * 3_600.0
"""A new index over years of tasks takes its time, and a second hub waits for it."""


async def migrate(connection: Any) -> int:  # noqa: ANN401 - asyncpg ships no types
    """Apply what is missing; the number of scripts applied.

    Raises:
        StoreFailed: the store was written by a newer build.
    """
    # A long script, and the wait of a second hub for it, may take longer than any statement of the daily work.
    await connection.execute("SET statement_timeout = 0")
    await connection.execute("SELECT pg_advisory_lock($1)", MIGRATION_LOCK, timeout=PATIENCE_S)
    try:
        return await _migrate(connection)
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", MIGRATION_LOCK)
            await connection.execute("RESET statement_timeout")


async def _migrate(connection: Any) -> int:  # noqa: ANN401 - as above
    known = migrations("postgres")
    await connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
    version = await connection.fetchval("SELECT coalesce(max(version), 0) FROM schema_version")
    todo = missing(known, version)
    for number, name, script in todo:
        async with connection.transaction():
            await connection.execute(script, timeout=PATIENCE_S)
            await connection.execute("INSERT INTO schema_version (version) VALUES ($1)", number)
        log.info("schema_migrated", number=number, script=name)
    return len(todo)
