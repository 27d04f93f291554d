"""The promises of schema changes: forward only, whole or not at all, and never by a build that is too old."""

from pathlib import Path

import apsw
import pytest

from hub.store.migrate import migrate
from hub.store.queries import migrations
from protocol.errors import StoreFailed


def version(connection: apsw.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchall()[0][0])


def tables(connection: apsw.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_an_empty_store_gets_the_whole_schema_once() -> None:
    connection = apsw.Connection(":memory:")

    assert migrate(connection) == len(migrations("sqlite")) == version(connection)
    assert {"tasks", "specs", "attempts", "events", "tokens"} <= tables(connection)
    assert migrate(connection) == 0
    assert not connection.in_transaction


def test_a_store_of_a_newer_build_is_refused_and_left_as_it_was() -> None:
    connection = apsw.Connection(":memory:")
    migrate(connection)
    newer = len(migrations("sqlite")) + 1
    connection.execute(f"PRAGMA user_version = {newer}")
    before = tables(connection)

    with pytest.raises(
        StoreFailed, match=f"the store has schema {newer}, this build knows up to {newer - 1}: install a newer"
    ):
        migrate(connection)
    assert (version(connection), tables(connection)) == (newer, before)
    assert not connection.in_transaction


def test_a_change_that_fails_leaves_nothing_half_done() -> None:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE tokens (id TEXT)")  # in the way of a table in the middle of the first script

    with pytest.raises(apsw.SQLError, match="tokens"):
        migrate(connection)
    assert (version(connection), tables(connection)) == (0, {"tokens"})
    assert not connection.in_transaction


def test_a_file_keeps_its_schema(tmp_path: Path) -> None:
    first = apsw.Connection(str(tmp_path / "x.sqlite"))
    migrate(first)
    first.close()
    second = apsw.Connection(str(tmp_path / "x.sqlite"))

    assert migrate(second) == 0


def test_keys_of_an_older_build_become_those_of_the_tokens_that_have_sent_them() -> None:
    connection = apsw.Connection(":memory:")
    for number, name, script in migrations("sqlite"):
        if name == "0031_keys_of_tokens.sql":
            break
        connection.execute(script)
        connection.execute(f"PRAGMA user_version = {number}")
    connection.execute("INSERT INTO specs (task, spec, tier, by, checks) VALUES ('t1', x'', x'', 'token1', '')")
    connection.execute("INSERT INTO idempotency VALUES ('k', x'00', '[\"t1\"]', 1), ('gone', x'00', '[\"t2\"]', 1)")
    migrate(connection)

    assert set(connection.execute("SELECT key FROM idempotency")) == {("token1\nk",), ("\ngone",)}
