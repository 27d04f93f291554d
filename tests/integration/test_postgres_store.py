"""The promises of the store in PostgreSQL beyond those of every store: what a network and other hubs can do to it."""

import asyncio
import re
from collections.abc import AsyncIterator

import asyncpg
import pytest

from hub.store.changes import AppendLog, Record
from hub.store.postgres import PostgresStore
from hub.store.postgres_migrate import migrate
from hub.store.queries import migrations, queries
from hub.store.store import TaskQuery
from protocol.errors import StoreFailed, Unavailable
from protocol.events import Event, EventKind
from protocol.model import TaskState
from tests.support.cut_link import cut_link
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.stores import Rows, new_task, task_id

COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"


@pytest.fixture
async def database() -> str:
    return await postgres_server().new_database()


@pytest.fixture
async def rows(database: str) -> AsyncIterator[Rows]:
    store = PostgresStore(database)
    await store.open()
    yield Rows(store)
    await store.close()


async def until_away(store: PostgresStore) -> None:
    async with asyncio.timeout(5):
        while not store.trouble:  # noqa: ASYNC110 - a fact of the store, which tells nobody
            await asyncio.sleep(0.01)


async def empty() -> str:
    server = postgres_server()
    return server.url(await server.empty_database())


# --- the schema -------------------------------------------------------------------------------------------------------


async def test_hubs_that_start_together_bring_the_schema_up_once() -> None:
    url = await empty()
    connections = [await asyncpg.connect(url) for _ in range(4)]
    applied = await asyncio.gather(*(migrate(connection) for connection in connections))

    assert sorted(applied) == [0, 0, 0, len(migrations("postgres"))]
    assert await connections[0].fetchval("SELECT max(version) FROM schema_version") == len(migrations("postgres"))
    assert await connections[0].fetchval("SHOW statement_timeout") == "0"
    for connection in connections:
        await connection.close()


async def test_a_database_of_a_newer_build_is_refused_and_left_as_it_was(database: str) -> None:
    newer = len(migrations("postgres")) + 1
    connection = await asyncpg.connect(database)
    await connection.execute("INSERT INTO schema_version (version) VALUES ($1)", newer)

    with pytest.raises(StoreFailed, match=f"schema {newer}, this build knows up to {newer - 1}: install a newer"):
        await PostgresStore(database).open()
    assert await connection.fetchval("SELECT count(*) FROM tasks") == 0
    await connection.close()


async def test_a_change_of_the_schema_that_fails_leaves_nothing_half_done() -> None:
    connection = await asyncpg.connect(url := await empty())
    await connection.execute("CREATE TABLE tokens (id TEXT)")  # in the way of a table in the middle of the script

    with pytest.raises(StoreFailed, match=r"cannot open the store in PostgreSQL: .*tokens"):
        await PostgresStore(url).open()
    tables = {row[0] for row in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    assert tables == {"tokens", "schema_version"}
    assert await connection.fetchval("SELECT count(*) FROM schema_version") == 0
    await connection.close()


# --- what is asked of the server --------------------------------------------------------------------------------------


async def test_a_server_that_is_not_there_is_told_in_words_and_without_the_password() -> None:
    with pytest.raises(StoreFailed, match=r"cannot open the store in PostgreSQL: .*; check --store") as caught:
        await PostgresStore("postgresql://me:secret@127.0.0.1:1/x").open()
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


async def test_commits_are_made_durable_even_where_the_server_thinks_otherwise(database: str) -> None:
    name = database.rsplit("/", 1)[1]
    await postgres_server().execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    store = PostgresStore(database)
    await store.open()
    await store.commit(Record(Event(kind=EventKind.HUB_STARTED, at_ms=1)))

    assert await store._writing.fetchval("SHOW synchronous_commit") == "on"
    assert await store._writing.fetchval("SHOW idle_in_transaction_session_timeout") == "2s"
    assert await store._writing.fetchval("SHOW statement_timeout") == "15s"
    await store.close()


async def test_a_commit_tells_others_once_however_much_it_holds(database: str, rows: Rows) -> None:
    told: list[str] = []
    listener = await asyncpg.connect(database)
    await listener.add_listener("agentcom_events", lambda *said: told.append(said[3]))
    await rows.add(*(new_task(number) for number in range(50)))
    await asyncio.gather(*(rows.claim(number) for number in range(10)))
    while not told or told[-1] != "60":
        await listener.fetchval("SELECT 1")

    assert told[0] == "50"
    assert len(told) == rows.store.batches
    await listener.close()


async def test_text_that_the_database_cannot_hold_is_kept_readable(rows: Rows) -> None:
    await rows.add(new_task(1, title="a\0b", labels={"team": "x\0y"}))
    await rows.claim(1)
    at_ms, task = rows.tick(), task_id(1)
    await rows.store.commit(AppendLog(at_ms=at_ms, task=task, epoch=1, offset=0, stream="stdout", text="one\0two"))

    (found,) = await rows.store.tasks(TaskQuery(label=("team", "x\0y")))
    assert (found.title, found.labels) == ("a\N{SYMBOL FOR NULL}b", {"team": "x\0y"})
    assert [piece.text for piece in await rows.store.logs(task, 0, 9)] == ["one\N{SYMBOL FOR NULL}two"]


async def test_what_a_refusal_says_holds_no_value_of_the_row(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.claim(1)
    for text in ("secret \ud800", None):
        change = AppendLog(at_ms=1, task=task_id(1), epoch=1, offset=0, stream="secret", text=text)  # type: ignore[arg-type]  # a bug
        with pytest.raises(Exception, match="appendlog cannot be stored: ") as caught:
            await rows.store.commit(change)
        assert "secret" not in str(caught.value)


# --- several writers --------------------------------------------------------------------------------------------------


async def test_events_of_two_writers_are_numbered_without_a_gap_and_one_task_goes_to_one_of_them(
    database: str, rows: Rows
) -> None:
    store = PostgresStore(database)
    await store.open()
    other = Rows(store)
    await rows.add(*(new_task(number) for number in range(40)))
    claims = [each.claim(number, agent) for number in range(40) for each, agent in ((rows, "a"), (other, "b"))]
    outcomes = await asyncio.gather(*claims, return_exceptions=True)

    assert [type(outcome).__name__ for outcome in outcomes].count("Claimed") == 40
    assert [type(outcome).__name__ for outcome in outcomes].count("StaleTask") == 40
    events = await store.events(0, 1_000)
    assert [event.seq for event in events] == list(range(1, 81))
    assert {state: n for state, n in (await store.counts()).items() if n} == {TaskState.ASSIGNED: 40}
    await store.close()


_OF_AN_ATTEMPT = (
    "find_tasks",
    "write_task",
    "move_attempt",
    "end_attempt",
    "held",
    "held_elsewhere",
    "open_needs",
    "dependents",
)


@pytest.mark.parametrize("name", _OF_AN_ATTEMPT)
async def test_no_verb_of_an_attempt_reads_a_whole_table(database: str, name: str) -> None:
    # Ids are compared byte by byte in tasks only: compared so, the keys of other tables cannot be used.
    connection = await asyncpg.connect(database)
    await connection.execute(
        """
        INSERT INTO tasks (id, state, class, priority, title, labels, max_retries, submitted_ms)
            SELECT lpad(i::text, 26, '0'), 'queued', 'x', 2, 't', '{}', 3, 1 FROM generate_series(1, 5000) i;
        INSERT INTO specs SELECT id, 'a', 'a', 'me' FROM tasks;
        INSERT INTO dependencies SELECT id, id FROM tasks;
        INSERT INTO attempts (task, epoch, agent, host, boot, state, assigned_ms, placement)
            SELECT id, 1, 'a', 'h', 1, 'x', 1, 'x' FROM tasks;
        ANALYZE;
        SET plan_cache_mode = force_generic_plan;
        """
    )
    query = queries("postgres")[name]
    values = ", ".join(["NULL"] * max([int(number) for number in re.findall(r"\$(\d+)", query)], default=0))
    await connection.execute(f"PREPARE asked AS {query}")
    plan = await connection.fetch(f"EXPLAIN EXECUTE asked {f'({values})' if values else ''}")
    await connection.close()

    assert not [row[0] for row in plan if re.search(r"Seq Scan on (tasks|specs|attempts|dependencies)", row[0])]


# --- a lost connection ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arrived", [False, True], ids=["before the commit arrives", "behind the commit"])
async def test_a_commit_whose_answer_is_lost_counts_once(database: str, *, arrived: bool) -> None:
    async with cut_link(postgres_server().port) as link:
        store = PostgresStore(link.url(database))
        await store.open()
        rows = Rows(store)
        await rows.add(new_task(1))
        if arrived:
            link.cut_behind = COMMIT
        else:
            link.cut_before = COMMIT
        added = await rows.add(new_task(2), new_task(3))
        await store.close()

        assert link.cuts == 1
        assert added.ids == (task_id(2), task_id(3))
    async with cut_link(postgres_server().port) as link:
        store = PostgresStore(link.url(database))
        await store.open()
        assert [event.seq for event in await store.events(0, 99)] == [1, 2, 3] == [e.seq for e in rows.committed]
        assert (await store.counts())[TaskState.QUEUED] == 3
        await store.close()


async def test_while_the_database_is_away_nothing_is_acknowledged_and_it_goes_on_by_itself() -> None:
    server = PostgresServer()
    try:
        store = PostgresStore(await server.new_database())
        await store.open()
        failures: list[BaseException] = []
        store.on_failure = failures.append
        rows = Rows(store)
        await rows.add(new_task(1))
        await asyncio.to_thread(server.stop)
        waiting = asyncio.ensure_future(rows.add(new_task(2)))
        with pytest.raises(Unavailable, match=r"the database does not answer: .*; try again in 1 s"):
            await store.counts()
        await until_away(store)
        assert store.trouble
        assert not waiting.done()
        await asyncio.to_thread(server.start)

        assert (await waiting).ids == (task_id(2),)
        assert store.trouble == ""
        assert await rows.states([1, 2]) == [TaskState.QUEUED, TaskState.QUEUED]
        assert failures == []
        await store.close()
    finally:
        await asyncio.to_thread(server.destroy)


async def test_a_hub_that_is_stopped_while_the_database_is_away_stops() -> None:
    server = PostgresServer()
    try:
        store = PostgresStore(await server.new_database())
        await store.open()
        await asyncio.to_thread(server.stop)
        waiting = asyncio.ensure_future(Rows(store).add(new_task(1)))
        await until_away(store)
        async with asyncio.timeout(5):
            await store.close()

        with pytest.raises(StoreFailed, match="the hub stops while the database is away"):
            await waiting
    finally:
        await asyncio.to_thread(server.destroy)
