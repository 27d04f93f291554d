"""How the verbs talk to SQLite: statements by name, answered at once. The connection is that of ``sqlite.py``."""

from collections.abc import Coroutine, Sequence
from typing import Any, ClassVar, Final, TypeVar

import apsw

from hub.store.batches import Write
from hub.store.queries import queries

T = TypeVar("T")
REFUSALS: Final = (
    apsw.ConstraintError,
    apsw.MismatchError,
    apsw.TooBigError,
    apsw.RangeError,
    apsw.SQLError,
    ArithmeticError,
    TypeError,
    ValueError,
)
"""What the database says of a single change that no row can hold (a broken constraint, a number beyond 64 bits).

Everything else that it says (the disk is full, another program holds the file) is true of all changes: none of them may
be answered as if it had been looked at.
"""


class SqliteStatements:
    """The writing connection for the verbs: every statement is answered before the call returns."""

    refusals: ClassVar[tuple[type[Exception], ...]] = REFUSALS
    fatal: ClassVar[tuple[type[Exception], ...]] = ()
    is_alone = True

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._sql = queries("sqlite")

    def why(self, exc: Exception) -> str:
        """A refusal in words."""
        return str(exc)

    async def rows(self, name: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        """What the query finds."""
        # Read to the end: a RETURNING statement that is left half-way keeps the transaction from committing.
        return self._cursor.execute(self._sql[name], values).fetchall()

    async def changed(self, name: str, *values: Any) -> int:
        """Rows that the statement has changed."""
        self._cursor.execute(self._sql[name], values)
        return self._connection.changes()

    async def find(self, name: str, values: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
        """What the query finds for each of ``values``."""
        return self._cursor.executemany(self._sql[name], values).fetchall()

    async def together(self, writes: Sequence[Write]) -> None:
        """All of these, one after the other."""
        for name, values in writes:
            self._cursor.executemany(self._sql[name], values)

    async def seal(self, writes: Sequence[Write], newest: int | None) -> None:
        """As :meth:`together`; a file tells nobody of its events."""
        del newest
        await self.together(writes)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing, in a thread that has no event loop."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise AssertionError("SQLite answers at once, so its verbs wait for nothing")
