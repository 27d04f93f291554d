"""The promises of writing by the hundred: every row as it was given, no other one, and in few statements."""

from collections.abc import Callable, Iterator
from typing import Any

import apsw
import pytest

from hub.store.changes import AddTasks
from hub.store.migrate import migrate
from hub.store.plain import Plain
from hub.store.sqlite_file import connect
from hub.store.sqlite_statements import REFUSALS, WIDTHS, SqliteStatements, at_once, wide
from protocol.model import TaskState
from tests.support.stores import new_task, task_id

COUNTS = (1, 2, 3, 7, 8, 9, 31, 100, 127, 128, 129, 300)
ODD: tuple[Any, ...] = (None, "", "a\0b", "ünï 🚀", "?1, (?)", '"', -1, 2**63 - 1, -(2**63))


@pytest.fixture
def connection() -> Iterator[apsw.Connection]:
    made = connect(":memory:", 1.0)
    migrate(made)
    yield made
    made.close()


@pytest.mark.parametrize("count", COUNTS)
def test_every_row_comes_through_as_it_was_given(count: int, connection: apsw.Connection) -> None:
    specs = [(task_id(n), bytes([n % 256, 0, 255]) * n, b"", "me", "") for n in range(count)]
    events = [(n, n, "kind", f"t{n}", ODD[n % 4], None, ODD[n % len(ODD)]) for n in range(1, count + 1)]
    at_once(SqliteStatements(connection).together([("add_spec", specs), ("add_event", events)]))

    assert connection.execute("SELECT task, spec, tier, by, checks FROM specs ORDER BY task").fetchall() == specs
    kept = [(*row[:6], str(row[6]) if isinstance(row[6], int) else row[6]) for row in events]
    assert connection.execute("SELECT * FROM events ORDER BY seq").fetchall() == kept


@pytest.mark.parametrize("count", COUNTS)
def test_a_change_of_many_rows_changes_each_its_own_way_and_no_other(count: int, connection: apsw.Connection) -> None:
    statements = SqliteStatements(connection)
    at_once(Plain(statements).batch([AddTasks(at_ms=1, tasks=tuple(map(new_task, range(count + 1))), by="me")]))
    before = connection.execute("SELECT * FROM tasks WHERE id = ?", (task_id(count),)).fetchall()
    rows = [
        (
            task_id(n),
            "assigned",
            f"c{n}",
            n,
            f"agent {n}",
            n,
            0,
            0,
            None,
            n,
            None,
            None,
            None,
            None,
            ODD[1 + n % 5],
            "m",
        )
        for n in range(count)
    ]
    at_once(statements.together([("write_task", rows)]))

    columns = "id, state, class, epoch, agent, hub, retries, infra_failures, ready_ms, queued_ms, started_ms, ended_ms"
    query = f"SELECT {columns}, execution_ok, verified, reason, model FROM tasks WHERE agent IS NOT NULL ORDER BY id"  # noqa: S608 - names of columns
    assert connection.execute(query).fetchall() == rows
    assert connection.execute("SELECT * FROM tasks WHERE id = ?", (task_id(count),)).fetchall() == before


def test_an_attempt_ends_alone_as_it_does_among_others(connection: apsw.Connection) -> None:
    statements = SqliteStatements(connection)
    begun = [(task_id(n), 1, "a", "h", 1, 5, b"p") for n in range(6)]
    ends = [
        (task_id(n), 1, "failed", n % 2 == 0, "agent", f"why {n}", b"r", 9, n < 3, None if n % 3 else 7)
        for n in range(6)
    ]
    found = []
    for groups in ([ends], [[end] for end in ends]):
        connection.execute("DELETE FROM attempts")
        at_once(statements.together([("add_attempt", begun)]))
        for group in groups:
            at_once(statements.together([("end_attempt", group)]))
            at_once(statements.together([("end_attempt", [(*group[0][:2], "passed", *group[0][3:])])]))  # has ended
        found.append(connection.execute("SELECT * FROM attempts").fetchall())

    assert found[0] == found[1]
    assert {row[5] for row in found[0]} == {"failed"}


@pytest.mark.parametrize("count", [1, 2])
def test_no_task_gets_a_second_accepted_attempt(count: int, connection: apsw.Connection) -> None:
    statements = SqliteStatements(connection)
    tasks = [task_id(n) for n in range(count)]
    at_once(statements.together([("add_attempt", [(t, n, "a", "h", 1, 5, b"p") for t in tasks for n in (1, 2)])]))

    def ended(epoch: int) -> list[tuple[Any, ...]]:
        return [(task, epoch, "passed", 1, None, "", b"r", 9, 1, 7) for task in tasks]

    at_once(statements.together([("end_attempt", ended(1))]))
    with pytest.raises(REFUSALS, match="a task has one accepted attempt"):
        at_once(statements.together([("end_attempt", ended(2))]))
    with pytest.raises(REFUSALS, match="a task has one accepted attempt"):
        connection.execute("UPDATE attempts SET accepted = 1 WHERE epoch = 2")
    connection.execute("UPDATE attempts SET accepted = 0")  # a refused change stands until its batch is rolled back
    connection.execute("UPDATE attempts SET accepted = 1 WHERE epoch = 2")
    with pytest.raises(REFUSALS, match="a task has one accepted attempt"):
        connection.execute("UPDATE attempts SET accepted = 1 WHERE epoch = 1")  # an older one after a newer one
    connection.execute("UPDATE attempts SET accepted = 0")
    connection.execute("UPDATE attempts SET accepted = 1 WHERE epoch = 1")
    connection.execute("UPDATE attempts SET accepted = 0 WHERE epoch = 1")  # as when a dead letter runs again
    connection.execute("UPDATE attempts SET accepted = 1 WHERE epoch = 2")
    connection.execute("UPDATE attempts SET accepted = 1 WHERE epoch = 2")


def test_counts_are_added_to_what_is_there(connection: apsw.Connection) -> None:
    connection.execute("INSERT INTO facts (name, value) VALUES ('tasks.running', 4)")
    statements = SqliteStatements(connection)
    at_once(statements.seal([], [(TaskState.QUEUED, 3), (TaskState.RUNNING, 1)], 7))
    at_once(statements.seal([], [(TaskState.QUEUED, -2)], None))

    assert dict(connection.execute("SELECT state, n FROM counts")) == {"queued": 1, "running": 5}
    assert statements.commits == 2
    assert connection.execute("SELECT value FROM facts WHERE name = 'event_seq'").fetchall() == [(7,)]


def test_numbers_in_mind_are_read_again_when_they_were_undone(connection: apsw.Connection) -> None:
    statements = SqliteStatements(connection)
    at_once(statements.seal([], [(TaskState.QUEUED, 3)], 7))
    connection.execute("BEGIN")
    at_once(statements.seal([], [(TaskState.QUEUED, 5)], 9))
    connection.execute("ROLLBACK")
    statements.recount()
    at_once(statements.seal([], [(TaskState.QUEUED, 1)], None))

    assert dict(connection.execute("SELECT state, n FROM counts")) == {"queued": 4}
    assert statements.commits == 2


def test_hundreds_of_rows_are_a_handful_of_statements(connection: apsw.Connection) -> None:
    seen: list[Any] = []
    connection.trace_v2(apsw.SQLITE_TRACE_STMT, seen.append)
    at_once(SqliteStatements(connection).together([("add_dependency", [("t", str(n)) for n in range(300)])]))

    assert len(seen) <= 6
    assert connection.execute("SELECT count(*) FROM dependencies").fetchall() == [(300,)]


def test_one_row_that_cannot_be_written_is_refused_and_takes_nobody_along(connection: apsw.Connection) -> None:
    verbs = Plain(SqliteStatements(connection))
    changes = [AddTasks(at_ms=1, tasks=(new_task(n, priority=2**70 if n == 77 else 2),), by="me") for n in range(200)]
    connection.execute("BEGIN")
    with pytest.raises(REFUSALS):
        at_once(verbs.batch(changes))
    connection.execute("ROLLBACK")
    verbs.lost()
    connection.execute("BEGIN")
    outcomes, _ = at_once(verbs.each(changes))
    connection.execute("COMMIT")

    assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Exception)] == [77]
    assert connection.execute("SELECT count(*) FROM tasks").fetchall() == [(199,)]


def test_a_statement_whose_places_have_numbers_is_done_row_by_row(connection: apsw.Connection) -> None:
    rows = [(1, "all", name, *range(6)) for name in ("a", "b")]
    at_once(SqliteStatements(connection).together([("put_purse", rows)]))

    assert connection.execute("SELECT count(*) FROM purses").fetchall() == [(2,)]


# --- what is remembered -----------------------------------------------------------------------------------------------


def spec(number: int) -> tuple[Any, ...]:
    return (task_id(number), b"s", b"", "me", "")


def rows_of(connection: apsw.Connection) -> dict[str, Any]:
    tables = ("specs", "dependencies", "purses", "facts")
    return {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in tables}  # noqa: S608 - names of tables


def test_what_is_remembered_writes_the_same_rows_again(connection: apsw.Connection) -> None:
    statements = SqliteStatements(connection)
    connection.execute("BEGIN")
    statements.remember()
    at_once(statements.together([("add_spec", [spec(1)]), ("add_dependency", [("t", str(n)) for n in range(13)])]))
    at_once(
        statements.seal([("put_purse", [(1, "all", name, *range(6)) for name in "ab"])], [(TaskState.QUEUED, 2)], 7)
    )
    written, remembered = rows_of(connection), statements.remembered()
    connection.execute("ROLLBACK")
    before = rows_of(connection)
    for text, values in remembered:
        connection.execute(text, values)

    assert not before["specs"] + before["dependencies"] + before["purses"]
    assert [len(written[name]) for name in ("specs", "dependencies", "purses")] == [1, 13, 2]
    assert {("commits", 1), ("event_seq", 7), ("tasks.queued", 2)} <= set(written["facts"])
    assert rows_of(connection) == written


def test_what_was_asked_for_is_remembered_no_more(connection: apsw.Connection) -> None:
    statements = SqliteStatements(connection)
    statements.remember()
    at_once(statements.together([("add_spec", [spec(1)])]))
    first = statements.remembered()
    at_once(statements.together([("add_spec", [spec(2)])]))

    assert len(first) == 1
    assert not statements.remembered()


def ask_changed(statements: SqliteStatements) -> object:
    return at_once(statements.changed("add_spec", *spec(3)))


def ask_returning(statements: SqliteStatements) -> object:
    return at_once(statements.rows("next_boot", 1))


@pytest.mark.parametrize("ask", [ask_changed, ask_returning])
def test_nothing_is_remembered_of_a_batch_with_a_statement_that_may_write_by_itself(
    connection: apsw.Connection, ask: Callable[[SqliteStatements], object]
) -> None:
    found = []
    for is_first in (True, False):
        statements = SqliteStatements(connection)
        statements.remember()
        if is_first:
            ask(statements)
        at_once(statements.together([("add_spec", [spec(1 + is_first)])]))
        if not is_first:
            connection.execute("DELETE FROM specs WHERE task = ?", (task_id(3),))
            ask(statements)
        found.append(statements.remembered())

    assert not any(found)


def test_what_only_reads_changes_nothing_of_what_is_remembered(connection: apsw.Connection) -> None:
    statements = SqliteStatements(connection)
    statements.remember()
    at_once(statements.together([("add_spec", [spec(1)])]))
    at_once(statements.rows("spec", task_id(1)))
    at_once(statements.find("find_specs", [(task_id(1),)]))

    assert len(statements.remembered()) == 1


def test_a_statement_for_many_has_their_values_and_is_the_same_otherwise() -> None:
    assert wide("INSERT INTO t (a, b) VALUES (?, 1) ON CONFLICT (a) DO NOTHING", 2) == (
        "INSERT INTO t (a, b) VALUES (?, 1), (?, 1) ON CONFLICT (a) DO NOTHING"
    )
    assert WIDTHS[-1] == 1
