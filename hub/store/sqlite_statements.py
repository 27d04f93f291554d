"""How the verbs talk to SQLite: statements by name, answered at once. The connection is that of ``sqlite.py``."""

import re
from collections.abc import Coroutine, Sequence
from functools import cache
from typing import Any, ClassVar, Final, TypeVar

import apsw

from hub.store.batches import Write
from hub.store.queries import queries
from hub.store.redo import Statement
from protocol.model import TaskState

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

WIDTHS: Final = (128, 32, 8, 2, 1)
"""For so many rows at once there are statements: few, so that all stay prepared."""
ALONE: Final = {"write_task": "write_one_task", "end_attempt": "end_one_attempt"}
"""Statements for one row that take the values of those for many."""
_WIDEST: Final = tuple(next((width for width in WIDTHS if width <= rows), 0) for rows in range(WIDTHS[0] + 1))
"""The widest of them for so many rows."""
COUNTED: Final = {state: f"tasks.{state.value}" for state in TaskState}
"""The fact that says how many tasks there are of a state."""
ROW: Final = re.compile(r"(?<=VALUES )\([^()]*\)")


class SqliteStatements:
    """The writing connection for the verbs: every statement is answered before the call returns.

    What a batch writes at its end can be remembered (:meth:`remember`), to be noted elsewhere as well.
    """

    refusals: ClassVar[tuple[type[Exception], ...]] = REFUSALS
    fatal: ClassVar[tuple[type[Exception], ...]] = ()
    is_alone = True

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self.execute = self._cursor.execute
        """Run a statement that is nobody's: what begins and ends a transaction."""
        # Each use of a statement reads its text from end to end, to find it among those that are prepared.
        self._sql = {name: " ".join(text.split()) for name, text in queries("sqlite").items()}
        self._alone = {name: self._sql[ALONE.get(name, name)] for name in self._sql}
        self._for_many: dict[tuple[str, int], str] = {}
        self._remembered: list[Statement] | None = None
        self._numbers: dict[str, int] = {}  # facts as the store has them; empty: it is asked

    def why(self, exc: Exception) -> str:
        """A refusal in words."""
        return str(exc)

    async def rows(self, name: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        """What the query finds."""
        if self._remembered is not None:
            self._look_at(name)
        # Read to the end: a RETURNING statement that is left half-way keeps the transaction from committing.
        return self._cursor.execute(self._sql[name], values).fetchall()

    async def changed(self, name: str, *values: Any) -> int:
        """Rows that the statement has changed."""
        self._remembered = None
        self._cursor.execute(self._sql[name], values)
        return self._connection.changes()

    async def find(self, name: str, values: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
        """What the query finds for each of ``values``."""
        if len(values) == 1:
            return self._cursor.execute(self._sql[name], values[0]).fetchall()
        found: list[tuple[Any, ...]] = []
        for text, some in self._by_the_hundred(name, values):
            found += self._cursor.execute(text, some)
        return found

    async def together(self, writes: Sequence[Write]) -> None:
        """All of these, one after the other."""
        self._write(writes)

    # --- what is remembered ------------------------------------------------------------------------------------------

    def remember(self) -> None:
        """From now on remember what is written."""
        self._remembered = []

    def remembered(self) -> Sequence[Statement]:
        """What was written since then, as it can be written again; empty if not all of it is known. No more is."""
        found, self._remembered = self._remembered, None
        return found or ()

    def _look_at(self, name: str) -> None:
        """A statement of a verb's own is about to run: one that may write is not remembered, so all is for nothing."""
        if not is_reading(self._sql[name]):
            self._remembered = None

    # --- writing ------------------------------------------------------------------------------------------------------

    def _write(self, writes: Sequence[Write]) -> None:
        if self._remembered is not None:
            for name, rows in writes:
                for statement in self._statements(name, rows):
                    self._cursor.execute(*statement)
                    self._remembered.append(statement)
            return
        execute, alone = self._cursor.execute, self._alone
        for name, rows in writes:
            if len(rows) == 1:
                execute(alone[name], rows[0])
            elif is_widened(self._sql[name]):
                for text, some in self._by_the_hundred(name, rows):
                    execute(text, some)
            else:
                self._cursor.executemany(self._sql[name], rows)

    def _statements(self, name: str, rows: Sequence[tuple[Any, ...]]) -> Sequence[Statement]:
        """The statements that write these rows, one by one."""
        if len(rows) == 1:
            return [(self._alone[name], rows[0])]
        if is_widened(self._sql[name]):
            return self._by_the_hundred(name, rows)
        return [(self._sql[name], row) for row in rows]

    def _by_the_hundred(self, name: str, rows: Sequence[tuple[Any, ...]]) -> list[tuple[str, Sequence[Any]]]:
        """The statements for all of these rows, which go into them by the hundred, and their values.

        A step of a statement lets go of the interpreter and waits for it again. One step a row would be a thousand such
        waits a batch, while the event loop works. It would also drive all other statements out of those that stay
        prepared: each use takes a new place among them.
        """
        left = len(rows)
        found: list[tuple[str, Sequence[Any]]] = []
        begin = 0
        while left:
            some = _WIDEST[left] if left < len(_WIDEST) else WIDTHS[0]
            text = self._for_many.get((name, some)) or self._widened(name, some)
            values: list[Any] = []
            for row in rows[begin : begin + some]:
                values += row  # at once: an iterator over all values would cost more than what they are bound for
            found.append((text, values))
            begin, left = begin + some, left - some
        return found

    def _widened(self, name: str, rows: int) -> str:
        text = self._for_many[name, rows] = wide(self._sql[name], rows)
        return text

    async def seal(self, writes: Sequence[Write], counts: Sequence[tuple[TaskState, int]], newest: int | None) -> None:
        """As :meth:`together`; counts the batch as a commit, and leaves all numbers in the file, in one statement.

        Of changes that are tried one by one each counts: what matters is that no commit leaves the number as it was.
        """
        self._write(writes)
        numbers = self._numbers or self._read_numbers()
        numbers["commits"] += 1
        facts: list[Any] = ["commits", numbers["commits"]]
        if newest is not None:
            facts += "event_seq", newest
        for state, more in counts:
            name = COUNTED[state]
            numbers[name] = count = numbers.get(name, 0) + more
            facts += name, count
        rows = len(facts) // 2
        text = self._for_many.get(("put_fact", rows)) or self._widened("put_fact", rows)
        self._cursor.execute(text, facts)
        if self._remembered is not None:
            self._remembered.append((text, facts))

    @property
    def commits(self) -> int:
        """How many the store has had, with the one that is being written if that was sealed."""
        return (self._numbers or self._read_numbers())["commits"]

    def recount(self) -> None:
        """The store is asked again."""
        self._numbers = {}

    def _read_numbers(self) -> dict[str, int]:
        rows: Any = self._cursor.execute(self._sql["numbers"]).fetchall()
        self._numbers = dict(rows)
        return self._numbers


@cache
def is_reading(query: str) -> bool:
    """Whether a statement writes nothing for sure."""
    return query.startswith("SELECT ")


@cache
def is_widened(query: str) -> bool:
    """Whether a statement can hold the values of many rows: it has one row of them, in places without numbers."""
    return len(ROW.findall(query)) == 1 and "?1" not in query


def wide(query: str, rows: int) -> str:
    """A statement that has the values of one row, for so many."""
    (row,) = ROW.findall(query)
    return query.replace(row, ", ".join([row] * rows))


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing, whether or not an event loop runs in this thread."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise AssertionError("SQLite answers at once, so its verbs wait for nothing")
