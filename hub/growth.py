"""Make a store long for a measurement: tasks that are there, copied many times with all that belongs to them.

What a million tasks cost is no question of how they came; submitting them one by one only takes longer. The copies are
rows like any others: same columns, events with numbers of their own, counted, under the same checksums. Caller:
``agentcom bench growth``, on a store of its own that no hub uses at the time.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final, cast

import apsw

from hub.lock import hold
from hub.recovery import STORE_FILE
from hub.store.sqlite_file import connect
from protocol.errors import NotFound
from protocol.ids import IdMaker

STEP: Final = 20_000
"""Copies in one transaction."""
_BUSY_S: Final = 10.0
_TABLES: Final = {"tasks": "id", "specs": "task", "attempts": "task"}
_EVENTS: Final = 2
"""Of a task: the first and the last. A store with a long history has forgotten more."""


class Sample:
    """A task and what belongs to it, as rows by table: what a copy differs in stands first."""

    def __init__(self, connection: apsw.Connection, task: str) -> None:
        self.task = task
        self.inserts: dict[str, str] = {}
        self.rows: dict[str, list[tuple[Any, ...]]] = {}
        for table, key in _TABLES.items():
            self._read(connection, table, f"WHERE {key} = ?", (key,))
        if not self.rows["tasks"]:
            raise NotFound("task", task)
        ends = "SELECT min(seq) FROM events WHERE task = ?1 UNION SELECT max(seq) FROM events WHERE task = ?1"
        self._read(connection, "events", f"WHERE seq IN ({ends})", ("task", "seq"))
        ((self.state,),) = connection.execute("SELECT state FROM tasks WHERE id = ?", (task,)).fetchall()

    def _read(self, connection: apsw.Connection, table: str, which: str, own: tuple[str, ...]) -> None:
        names = [str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")]
        rest = [name for name in names if name not in own]
        places = ", ".join("?" * len(names))
        into, found = f"{table} ({', '.join((*own, *rest))})", ", ".join(rest)
        self.inserts[table] = f"INSERT INTO {into} VALUES ({places})"  # noqa: S608 - names of our own schema
        select = f"SELECT {found} FROM {table} {which}"  # noqa: S608 - as above
        self.rows[table] = connection.execute(select, (self.task,)).fetchall()


def lengthen(folder: Path, tasks: Sequence[str], count: int, random_bits: Callable[[int], int]) -> None:
    """Add ``count`` copies of these tasks, in turn, to the store of ``folder``; the newest tasks of all.

    Args:
        random_bits: as of :class:`IdMaker`.
    Raises:
        BadInput: a hub uses the folder.
        NotFound: there is no such task.
    """
    with contextlib.closing(hold(folder)), contextlib.closing(connect(str(folder / STORE_FILE), _BUSY_S)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 50000")
        samples = [Sample(connection, task) for task in tasks]
        newest = connection.execute("SELECT max(id) FROM tasks").fetchall()[0][0]
        maker = IdMaker(random_bits, last=cast("str", newest))
        pairs = zip((maker.make(0) for _ in range(count)), cycle(samples), strict=False)
        while step := list(islice(pairs, STEP)):
            with connection:
                _copy(connection, step)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _copy(connection: apsw.Connection, pairs: Sequence[tuple[str, Sample]]) -> None:
    first = pairs[0][1]
    for table in _TABLES:
        connection.executemany(
            first.inserts[table], [(task, *row) for task, sample in pairs for row in sample.rows[table]]
        )
    last = cast("int", connection.execute("SELECT value FROM facts WHERE name = 'event_seq'").fetchall()[0][0])
    connection.executemany(
        first.inserts["events"],
        [
            (task, last + _EVENTS * place + number, *row)
            for place, (task, sample) in enumerate(pairs)
            for number, row in enumerate(sample.rows["events"], 1)
        ],
    )
    connection.execute("UPDATE facts SET value = ? WHERE name = 'event_seq'", (last + _EVENTS * len(pairs),))
    for state, copies in Counter(sample.state for _, sample in pairs).items():
        connection.execute("UPDATE facts SET value = value + ?2 WHERE name = 'tasks.' || ?1", (state, copies))
