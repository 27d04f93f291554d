"""Bring a store's schema up to date: numbered scripts, forward only, each in its own transaction.

``user_version`` holds the number of the last one applied. A store that is newer than this build is refused: an old hub
must never write into a schema it does not know.
"""

from collections.abc import Sequence
from typing import TypeVar, cast

import apsw
import structlog

from hub.store.queries import migrations
from protocol.errors import StoreFailed

log = structlog.get_logger(__name__)
T = TypeVar("T")


def missing(known: Sequence[T], version: int) -> Sequence[T]:
    """Of the scripts that this build knows, those that a store with schema ``version`` lacks.

    Raises:
        StoreFailed: the store was written by a newer build.
    """
    if version > len(known):
        raise StoreFailed(
            f"the store has schema {version}, this build knows up to {len(known)}: install a newer agentcom"
        )
    return known[version:]


def migrate(connection: apsw.Connection) -> int:
    """Apply what is missing; the number of scripts applied.

    Raises:
        StoreFailed: the store was written by a newer build.
    """
    known = migrations("sqlite")
    applied = 0
    connection.execute("BEGIN EXCLUSIVE")  # two hubs that start together: the second waits and finds nothing to do
    try:
        version = cast("int", connection.execute("PRAGMA user_version").fetchall()[0][0])
        for number, name, script in missing(known, version):
            connection.execute(script)
            connection.execute(f"PRAGMA user_version = {number}")
            applied += 1
            log.info("schema_migrated", number=number, script=name)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk, for one, has ended it already
            connection.execute("ROLLBACK")
        raise
    return applied
