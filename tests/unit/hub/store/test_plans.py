"""The promise of every statement: it finds its rows by an index, so that a long history costs nothing."""

import re
from typing import Final

import apsw
import pytest

from hub.store.migrate import migrate
from hub.store.queries import queries
from hub.store.sqlite_statements import is_widened, wide

SMALL: Final = {
    *(
        "agents",
        "audit_base",
        "pragma_user_version",
        "hubs",
        "projects",
        "budgets",
        "secrets",
        "alert_rules",
        "notifiers",
        "alerts_open",
        "leaders",
        "facts",
        "endpoints",
        "endpoint_health",
        "tokens",
        "join_tokens",
        "rate_limits",
        "log_levels",
        "json_each",
        "CONSTANT",
    ),
    "tasks_held",
    "u",
}
"""Tables that no history makes longer; what is in hand; and the rows of a batch."""

WHOLE: Final = {
    "jump_epochs": "a restore",
    "requeue_held": "a restore",
    "lose_open_attempts": "a restore",
    "count_tasks": "a backup",
    "count_rows": "a backup",
    "count_without_spec": "a backup",
    "list_queued": "a queue of less than 20,000 tasks",
    "list_tasks": "newest first, until its page is full",
    "list_sight": "an index a quarter as long as the table, for what is rare among more than 5,000",
    "facets": "the same index",
    "label_sets": "the same index",
    "last_event_at": "the last row",
    "measures": "at most 10,000 of each kind, at a start",
    "ahead": "at most 110,000 rows of an index",
    "between": "at most 10,000 rows of an index",
}
"""Statements that may read all of a table, and when."""


@pytest.fixture(scope="module")
def store() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    migrate(connection)
    return connection


def scans(connection: apsw.Connection, query: str) -> list[str]:
    """What the query reads from end to end."""
    values = [None] * max([int(place) for place in re.findall(r"\?(\d+)", query)] or [query.count("?")])
    plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]
    named = dict(re.findall(r"\b(?:FROM|JOIN) (\w+) (?:AS )?([a-z])\b", query))
    short = {alias: table for table, alias in named.items()}
    words = [line.split() for line in plan if line.startswith("SCAN")]
    return [line[-1] if "USING" in line else short.get(line[1], line[1]) for line in words]


@pytest.mark.parametrize("name", sorted(queries("sqlite").keys() - WHOLE.keys()))
def test_a_statement_reads_no_table_that_grows_from_end_to_end(name: str, store: apsw.Connection) -> None:
    query = queries("sqlite")[name]
    if query.startswith(("SAVEPOINT", "ROLLBACK", "RELEASE")):
        return

    assert set(scans(store, query)) <= {*SMALL, "w"}  # w: the values that are asked for
    if is_widened(query):
        assert set(scans(store, wide(query, 2))) <= {*SMALL, "2-ROW", "w"}  # as a batch asks it


def test_a_scan_would_be_seen(store: apsw.Connection) -> None:
    assert scans(store, "SELECT t.id FROM tasks t WHERE t.reason = ?") == ["tasks"]


def test_tasks_in_hand_are_no_part_of_the_index_of_what_lists_ask_about(store: apsw.Connection) -> None:
    """They change several times each, and would move in it each time."""
    assert scans(store, queries("sqlite")["facets"]) == ["tasks_sight", "tasks_held"]
    with pytest.raises(apsw.SQLError, match="no query solution"):
        list(store.execute("SELECT id FROM tasks INDEXED BY tasks_sight WHERE state = 'running'"))
