"""The promises of named SQL: every name once, every query there, every migration in its place, and all of it used."""

import re
from pathlib import Path

import pytest

from hub.store import queries as module
from hub.store.queries import migrations, parsed, queries

FOLDER = Path(module.__file__).parent
DIALECTS = sorted(folder.name for folder in (FOLDER / "sql").iterdir() if folder.is_dir())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_query_has_text_and_no_comment_left(dialect: str) -> None:
    found = queries(dialect)

    assert found
    assert all(
        text and not text.endswith(";") and "\n--" not in text and not text.startswith("--") for text in found.values()
    )


def test_every_query_is_used_and_every_used_one_is_there() -> None:
    code = "".join(file.read_text() for file in (*FOLDER.glob("*.py"), FOLDER.parent / "recovery.py"))
    known = set().union(*(queries(dialect) for dialect in DIALECTS))

    assert {name for name in known if f'"{name}"' not in code} == set()
    asked = set(re.findall(r'(?:_row|_run|_changed|_rows|_many)\(\s*"(\w+)"', code)) | set(
        re.findall(r'_sql\["(\w+)"\]', code)
    )
    assert asked <= known


def test_all_databases_are_asked_by_the_same_names() -> None:
    # A connection over a network can be lost in the middle of a commit, and several hubs may write; a file has neither.
    # A file counts its own commits and is copied by us; a server has its own ways for both.
    only_there = {
        "postgres": {
            "lock_batches",
            "mark_batch",
            "find_batch",
            "forget_batches",
            "next_events",
            "notify",
            "add_count",
        },
        "sqlite": {
            "copied",
            "count_tasks",
            "progress",
            "put_fact",
            "numbers",
            "write_one_task",
            "end_one_attempt",
            "set_copied",
            "count_rows",
            "count_without_spec",
            "last_event_row",
            "last_event_at",
        },
    }

    shared = [set(queries(dialect)) - only_there[dialect] for dialect in DIALECTS]
    assert shared[0] == shared[1]


def test_all_databases_have_the_same_tables_and_columns() -> None:
    def columns(dialect: str) -> dict[str, list[str]]:
        kinds = "TEXT|INTEGER|BIGINT|BLOB|BYTEA|BOOLEAN"
        step = re.compile(
            r"CREATE TABLE (\w+) \((.*?)\n\)|ALTER TABLE (\w+) (?:ADD COLUMN (\w+)|RENAME TO (\w+))", re.DOTALL
        )
        found: dict[str, list[str]] = {}
        for _, _, script in migrations(dialect):
            for table, body, changed, column, name in step.findall(script):
                if table:
                    found[table] = re.findall(rf"^    ([a-z_]+) (?:{kinds})", body, re.MULTILINE)
                elif column:
                    found[changed].append(column)
                else:
                    found[name] = found.pop(changed)
        return found

    assert columns("postgres") == {**columns("sqlite"), "batches": ["writer", "batch", "at_ms"]}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_migrations_are_numbered_from_one_without_a_gap(dialect: str) -> None:
    found = migrations(dialect)

    assert [number for number, _, _ in found] == list(range(1, len(found) + 1))
    assert all(re.fullmatch(rf"{number:04}_[a-z_]+\.sql", name) and script.strip() for number, name, script in found)


def test_all_databases_are_at_the_same_schema() -> None:
    """What one of them need not change is a script without effect there: the number says which releases may open it."""
    assert len({len(migrations(dialect)) for dialect in DIALECTS}) == 1


def test_a_query_is_its_text_without_comments() -> None:
    text = "-- about this file\n-- name: one\n-- why\nSELECT 1\n  -- and this\nFROM t;\n\n-- name: two\nSELECT 2;\n"

    assert parsed([("a.sql", text)]) == {"one": "SELECT 1\nFROM t", "two": "SELECT 2"}


@pytest.mark.parametrize(
    "texts, says",
    [
        (["-- name: one\nSELECT 1;\n", "-- name: one\nSELECT 2;\n"], "b.sql: query 'one' is there twice"),
        (["-- name: one\n-- nothing\n"], "a.sql: query 'one' is empty"),
    ],
)
def test_a_name_that_comes_twice_or_says_nothing_is_a_mistake(texts: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parsed(list(zip(["a.sql", "b.sql"], texts, strict=False)))


@pytest.mark.parametrize("names", [["0002_b.sql"], ["0001_a.sql", "0003_c.sql"], ["0001_a.sql", "0001_b.sql"]])
def test_a_gap_or_a_double_among_migrations_is_a_mistake(names: list[str]) -> None:
    with pytest.raises(ValueError, match="migrations are not numbered 1 to"):
        module.in_order([(name, "SELECT 1") for name in names])
