"""How the verbs talk to PostgreSQL: statements by name, many rows in one, many statements in one round trip.

A statement that reads or writes many rows takes an array for each of its columns. Statements of which none needs what
another one writes go to the server as one (each is a part of a WITH), so a batch costs a round trip to read, one to
write and one to commit, however many changes it has. The connection is that of ``postgres.py``.
"""

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import asyncpg

from hub.store.batches import Write
from hub.store.queries import queries
from hub.store.records import Row
from protocol.model import TaskState

AWAY: Final = (
    OSError,  # refused, reset, no such host; a time-out is one too
    asyncpg.InterfaceError,  # the connection is closed
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,  # 08
    asyncpg.InvalidTransactionStateError,  # 25: idle for too long, or a server that only reads (after a failover)
    asyncpg.InvalidAuthorizationSpecificationError,  # 28: a password is being changed
    asyncpg.InvalidCatalogNameError,  # 3D: the database is being restored
    asyncpg.TransactionRollbackError,  # 40: a deadlock with somebody else's statement
    asyncpg.InsufficientResourcesError,  # 53: disk full, out of memory, too many connections
    asyncpg.ObjectNotInPrerequisiteStateError,  # 55: a lock cannot be had
    asyncpg.OperatorInterventionError,  # 57: shutting down, crashed, starting up, a statement that took too long
    asyncpg.PostgresSystemError,  # 58: an I/O error over there
)
"""Not now: what waits is tried again, for as long as it takes."""

REFUSALS: Final = (
    asyncpg.DataError,  # 22, and what the driver says of a value
    asyncpg.IntegrityConstraintViolationError,  # 23
    asyncpg.ProgramLimitExceededError,  # 54: a text too long for an index
    ArithmeticError,
    TypeError,
    ValueError,
)

_PLACE: Final = re.compile(r"\$(\d+)")


class PostgresStatements:
    """The writing connection for the verbs.

    Attributes:
        batch: the names of the writer and of its batch, which each batch leaves behind.
    """

    refusals: ClassVar[tuple[type[Exception], ...]] = REFUSALS
    fatal: ClassVar[tuple[type[Exception], ...]] = AWAY
    is_alone = False

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - asyncpg ships no types
        self._connection = connection
        self._sql = queries("postgres")
        self._joined: dict[tuple[str, ...], str] = {}
        self.batch = ("", "")

    def why(self, exc: Exception) -> str:
        """A refusal in words."""
        return said(exc)

    async def rows(self, name: str, *values: Any) -> Sequence[Row]:
        """What the query finds."""
        rows: Sequence[Row] = await self._connection.fetch(self._sql[name], *storable(values))
        return rows

    async def changed(self, name: str, *values: Any) -> int:
        """Rows that the statement has changed."""
        status: str = await self._connection.execute(self._sql[name], *storable(values))
        last = status.rsplit(" ", 1)[-1]
        return int(last) if last.isdecimal() else 0

    async def find(self, name: str, values: Sequence[tuple[Any, ...]]) -> Sequence[Row]:
        """What the query finds for each of ``values``, in one round trip."""
        return await self.rows(name, *_columns(values))

    async def together(self, writes: Sequence[Write]) -> None:
        """All of these in one round trip."""
        values = [column for _, rows in writes for column in _columns(rows)]
        await self._connection.fetch(self._one(tuple(name for name, _ in writes)), *values)

    async def seal(self, writes: Sequence[Write], counts: Sequence[tuple[TaskState, int]], newest: int | None) -> None:
        """As :meth:`together`; leaves the name of the batch, and tells all hubs of its events."""
        if counts:
            writes = [*writes, ("add_count", counts)]
        names = tuple(name for name, _ in writes)
        values = [column for _, rows in writes for column in _columns(rows)]
        if newest is None:
            await self._connection.fetch(self._one((*names, "mark_batch")), *values, *self.batch)
        else:
            sql = self._one((*names, "mark_batch", "notify"))
            await self._connection.fetch(sql, *values, *self.batch, str(newest))

    def recount(self) -> None:
        """Nothing is counted in mind: other hubs count, too."""

    def _one(self, names: tuple[str, ...]) -> str:
        """These statements as one: the last is the main part of it, the others come before, all see the same rows."""
        if names not in self._joined:
            parts, after = [], 0
            for name in names:
                text = _PLACE.split(self._sql[name])  # every other piece is the number of a place
                text[1::2] = [f"${int(place) + after}" for place in text[1::2]]
                parts.append("".join(text))
                after += max(map(int, _PLACE.findall(self._sql[name])))
            before = ", ".join(f"{name} AS ({part})" for name, part in zip(names[:-1], parts, strict=False))
            self._joined[names] = f"WITH {before} {parts[-1]}" if before else parts[-1]
        return self._joined[names]


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[Sequence[Any]]:
    """The rows by columns."""
    return [storable(column) for column in zip(*rows, strict=True)]


def storable(values: Sequence[Any]) -> Sequence[Any]:
    """The same values; U+0000, which no text of PostgreSQL can hold, is kept as the symbol for it."""
    if any(isinstance(value, str) and "\0" in value for value in values):
        return [value.replace("\0", "\N{SYMBOL FOR NULL}") if isinstance(value, str) else value for value in values]
    return values


def said(exc: BaseException) -> str:
    """The error in words, without values of rows (they may be somebody's output) and without the server's details."""
    text = str(exc).partition("\n")[0] or type(exc).__name__
    return re.sub(r"(query argument \$\d+): .* \(", r"\1 (", text)
