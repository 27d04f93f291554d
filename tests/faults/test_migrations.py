"""Row T30: schema changes under kill -9, by several hubs at once, from the first schema on, and never backwards."""

import asyncio
import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import apsw
import asyncpg
import pytest

from hub.store.backend import Backend
from hub.store.postgres import PostgresStore
from hub.store.queries import migrations
from hub.store.sqlite import SqliteStore
from tests.support.bad_disk import BadDisk
from tests.support.mesh import until
from tests.support.postgres import postgres_server
from tests.support.stores import CLASS, PLACEMENT, RESULT, Rows, new_task, task_id

FIRST_SCHEMAS: Final = {
    "sqlite": "52c4e7fedb1cbf0e2ad34ebd301e1fb967f88997511f41437ad3b310f4f2f1fd",
    "postgres": "1610aee164521533d1cda57924d888e4650e0392f2456f96437e8a6734449f18",
}
"""SHA-256 of the first script as it was released: stores are out there that it made."""

TASK: Final = {"class": CLASS, "priority": 2, "title": "x", "labels": '{"team": "a"}', "max_retries": 3, "epoch": 1}
ATTEMPT: Final = {"agent": "Old", "host": "h", "boot": 7, "assigned_ms": 12, "placement": PLACEMENT, "epoch": 1}
FIRST_ROWS: Final[dict[str, list[dict[str, Any]]]] = {
    "tasks": [
        {**TASK, "id": task_id(1), "state": "completed", "submitted_ms": 10, "ended_ms": 20, "execution_ok": True},
        {**TASK, "id": task_id(2), "state": "queued", "submitted_ms": 11, "queued_ms": 11, "epoch": 0},
        {**TASK, "id": task_id(3), "state": "running", "submitted_ms": 12, "started_ms": 13, "agent": "Old"},
        {**TASK, "id": task_id(4), "state": "dead", "submitted_ms": 14, "ended_ms": 15, "reason": "gave up"},
        {**TASK, "id": task_id(5), "state": "blocked", "submitted_ms": 16, "epoch": 0},
    ],
    "specs": [{"task": t.id, "spec": t.spec, "tier": t.tier, "by": "me"} for t in map(new_task, range(1, 6))],
    "attempts": [
        {**ATTEMPT, "task": task_id(1), "state": "passed", "accepted": True, "ended_ms": 20, "result": RESULT},
        {**ATTEMPT, "task": task_id(3), "state": "accepted", "accepted": False, "started_ms": 13},
        {**ATTEMPT, "task": task_id(4), "state": "failed", "accepted": False, "failure": "agent", "ended_ms": 15},
    ],
    "dependencies": [{"task": task_id(5), "needs": task_id(2)}],
    "idempotency": [{"key": "k", "digest": b"d", "ids": json.dumps([task_id(1)]), "at_ms": 10}],
    "counts": [{"state": s, "n": 1} for s in ("completed", "queued", "running", "dead", "blocked")],
    "events": [{"seq": n, "at_ms": n, "kind": "task_queued", "task": task_id(1), "facts": "{}"} for n in range(1, 4)],
    "logs": [{"seq": 1, "task": task_id(1), "epoch": 1, "at_ms": 13, "place": 0, "stream": "stdout", "text": "hello"}],
    "agents": [
        {"name": "Old", "host": "h", "boot": 7, "slots": 2, "version": "0.1", "capabilities": '["executor:noop"]',
         "draining": False, "last_seen_ms": 12},
    ],
    "endpoints": [{"id": "e", "kind": "ollama", "url": "http://127.0.0.1:9", "local": True, "default_model": "m"}],
    "tokens": [{"id": "t", "role": "admin", "label": "first", "digest": bytes(32), "created_ms": 1}],
}  # fmt: skip
KEPT_ROWS: Final = FIRST_ROWS | {"idempotency": [{**FIRST_ROWS["idempotency"][0], "key": "me\nk"}]}
"""What is there after all later scripts: the same, but that a key is its token's since script 31."""


# --- from the first schema --------------------------------------------------------------------------------------------


def test_t30_the_first_schema_is_as_it_was_released() -> None:
    """A script that has been released is never edited: a change is a new script."""
    found = {name: hashlib.sha256(migrations(name)[0][2].encode()).hexdigest() for name in FIRST_SCHEMAS}

    assert found == FIRST_SCHEMAS


def _insert(table: str, row: dict[str, Any], marks: str) -> str:
    names = ", ".join(f'"{name}"' for name in row)
    return f"INSERT INTO {table} ({names}) {marks}"


def _first_file(path: Path) -> None:
    """A store as the first release made it, with something in every table."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN")
    connection.execute(migrations("sqlite")[0][2])
    connection.execute("PRAGMA user_version = 1")
    for table, rows in FIRST_ROWS.items():
        for row in rows:
            connection.execute(_insert(table, row, f"VALUES ({', '.join('?' * len(row))})"), tuple(row.values()))
    connection.execute("UPDATE facts SET value = 9 WHERE name = 'hub_boot'")
    connection.execute("COMMIT")
    connection.close()


async def _first_database() -> str:
    url = postgres_server().url(await postgres_server().empty_database())
    connection = await asyncpg.connect(url)
    await connection.execute(migrations("postgres")[0][2])
    await connection.execute("CREATE TABLE schema_version (version BIGINT NOT NULL)")
    await connection.execute("INSERT INTO schema_version VALUES (1)")
    for table, rows in FIRST_ROWS.items():
        for row in rows:
            marks = ", ".join(f"${place}" for place in range(1, len(row) + 1))
            await connection.execute(_insert(table, row, f"OVERRIDING SYSTEM VALUE VALUES ({marks})"), *row.values())
    await connection.execute("UPDATE facts SET value = 3 WHERE name = 'event_seq'")
    await connection.execute("SELECT setval(pg_get_serial_sequence('logs', 'seq'), 1)")
    await connection.close()
    return url


def _select(table: str, row: dict[str, Any]) -> str:
    return f"SELECT {', '.join(map(_quoted, row))} FROM {table}"  # noqa: S608 - as above


def _quoted(name: str) -> str:
    return f'"{name}"'


def _lost_from_file(path: Path) -> list[str]:
    """Rows of the first release that are not in the file any more."""
    connection = apsw.Connection(str(path), vfs="unix")
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    return [
        f"{table}: {row}"
        for table, rows in KEPT_ROWS.items()
        for row in rows
        if tuple(row.values()) not in set(connection.execute(_select(table, row)))
    ]


async def _works(store: Backend) -> None:
    """The store opens, knows what it knew, and goes on from there."""
    await store.open()
    try:
        await store.start(1)
        rows = Rows(store)
        await rows.completed(2)
        await rows.add(new_task(6))

        assert await rows.state(3) == "running"
        assert await rows.state(5) == "queued"
        assert [event.seq for event in await store.events(0, 100)] == list(range(1, store.newest_event + 1))
        assert [piece.text for piece in await store.logs(task_id(1), 0, 10)] == ["hello"]
    finally:
        await store.close()


async def test_t30_a_file_of_the_first_release_keeps_every_row_and_works(tmp_path: Path) -> None:
    """All later scripts, on a store that is not empty."""
    _first_file(tmp_path / "hub.sqlite")
    store = SqliteStore(tmp_path / "hub.sqlite")
    await store.open()
    await store.close()

    assert _lost_from_file(tmp_path / "hub.sqlite") == []
    await _works(SqliteStore(tmp_path / "hub.sqlite"))


async def test_t30_a_database_of_the_first_release_keeps_every_row_and_works() -> None:
    """The same in PostgreSQL."""
    url = await _first_database()
    store = PostgresStore(url)
    await store.open()
    await store.close()
    connection = await asyncpg.connect(url)
    for table, rows in KEPT_ROWS.items():
        for row in rows:
            kept = {tuple(found.values()) for found in await connection.fetch(_select(table, row))}
            assert tuple(row.values()) in kept, table
    await connection.close()
    await _works(PostgresStore(url))


# --- killed in the middle ---------------------------------------------------------------------------------------------

OPEN_FILE: Final = """
import asyncio, sys
from hub.store.sqlite import SqliteStore
async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    await store.close()
asyncio.run(main())
"""
OPEN_DATABASE: Final = OPEN_FILE.replace("sqlite", "postgres").replace("SqliteStore", "PostgresStore")


def _open_in_a_process(script: str, store: str, disk: BadDisk) -> int:
    command = [sys.executable, "-c", script, store]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin", **disk.env})
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode


async def _die_in_file(folder: Path, disk: BadDisk, nth: int, *, is_new: bool) -> bool:
    """Open a store, dying at a call; whether it died. The next start finishes what was begun."""
    home = folder / f"home-{nth}-{is_new}"
    home.mkdir()
    if not is_new:
        shutil.copy(folder / "first.sqlite", home / "hub.sqlite")
    disk.arm("kill-after" if nth % 2 else "kill-before", nth)
    died = _open_in_a_process(OPEN_FILE, str(home / "hub.sqlite"), disk) != 0
    disk.mend()
    if is_new:
        store = SqliteStore(home / "hub.sqlite")
        await store.open()
        assert await Rows(store).add(new_task(1))
        await store.close()
    else:
        await _works(SqliteStore(home / "hub.sqlite"))
    shutil.rmtree(home)
    return died


async def _die_everywhere(folder: Path, step: int, *, is_new: bool) -> int:
    disk = BadDisk(folder / "control", "/hub.sqlite")
    _first_file(folder / "first.sqlite")
    nth, deaths = 1, 0
    while await _die_in_file(folder, disk, nth, is_new=is_new):
        deaths, nth = deaths + 1, nth + step
    return deaths


@pytest.mark.parametrize("is_new", [True, False], ids=["a new store", "a store of the first release"])
async def test_t30_a_hub_killed_while_it_changes_a_file_finishes_at_the_next_start(
    tmp_path: Path, is_new: bool
) -> None:
    """A sample of the calls; the next start finds all or nothing of a script."""
    assert await _die_everywhere(tmp_path, 9, is_new=is_new) >= 3


@pytest.mark.soak
@pytest.mark.parametrize("is_new", [True, False], ids=["a new store", "a store of the first release"])
async def test_t30_soak_a_hub_killed_at_every_call_of_a_change_of_a_file(tmp_path: Path, is_new: bool) -> None:
    """Every call."""
    deaths = await _die_everywhere(tmp_path, 1, is_new=is_new)
    print(f"T30 SQLite, {'new' if is_new else 'first release'}: killed at {deaths} calls, 0 rows lost")

    assert deaths > 20


async def test_t30_a_hub_killed_while_it_changes_a_database_finishes_at_the_next_start(tmp_path: Path) -> None:
    """Before or after any word to the server."""
    disk = BadDisk(tmp_path / "control", "/no file at all")
    nth, deaths = 1, 0
    while True:
        url = await _first_database()
        disk.arm("kill-after" if nth % 2 else "kill-before", nth, calls=("send",))
        if await asyncio.to_thread(_open_in_a_process, OPEN_DATABASE, url, disk) == 0:
            break
        disk.mend()
        await _works(PostgresStore(url))
        deaths, nth = deaths + 1, nth + 3
    print(f"T30 PostgreSQL: killed at {deaths} words")

    assert deaths >= 3


# --- several at once, and an old one ----------------------------------------------------------------------------------


class Hubs:
    """Hubs that are started together."""

    def __init__(self, folder: Path, flags: list[list[str]]) -> None:
        self._logs = [folder / f"hub-{number}.log" for number in range(len(flags))]
        self.processes = []
        for log, more in zip(self._logs, flags, strict=True):
            with log.open("wb") as file:
                command = [sys.executable, "-m", "agentcom", "hub", "--listen", "127.0.0.1:0", *more]
                self.processes.append(subprocess.Popen(command, stdout=file, stderr=file))

    def said(self) -> list[str]:
        """What each has said."""
        return [log.read_text() for log in self._logs]

    def refused(self) -> list[str]:
        """The last words of those that have ended."""
        return [said.splitlines()[-1] for said, p in zip(self.said(), self.processes, strict=True) if p.poll() == 2]

    @property
    def are_settled(self) -> bool:
        """Each runs or has ended."""
        states = zip(self.said(), self.processes, strict=True)
        return all("hub_started" in said or process.poll() is not None for said, process in states)

    def end(self) -> None:
        """Stop them all."""
        for process in self.processes:
            process.terminate()
            process.wait(30)


def test_t30_of_three_hubs_that_start_together_on_a_directory_one_runs(tmp_path: Path) -> None:
    """The two others say so and change nothing."""
    hubs = Hubs(tmp_path, [["--data-dir", str(tmp_path / "data")]] * 3)
    try:
        until(lambda: hubs.are_settled, "each runs or has ended", timeout_s=60)

        assert len(hubs.refused()) == 2
        assert all("another hub uses" in line for line in hubs.refused()), hubs.said()
    finally:
        hubs.end()
    connection = apsw.Connection(str(tmp_path / "data" / "hub.sqlite"), vfs="unix")
    assert connection.execute("SELECT count(*) FROM tokens").get == 2, "one first start"


@pytest.fixture
async def empty() -> str:
    return postgres_server().url(await postgres_server().empty_database())


async def test_t30_three_hubs_that_start_together_make_the_schema_of_a_database_once(
    tmp_path: Path, empty: str
) -> None:
    """Each runs, or says that there is another; every script was applied once."""
    hubs = Hubs(tmp_path, [["--store", empty, "--data-dir", str(tmp_path / f"data-{n}")] for n in range(3)])
    try:
        await asyncio.to_thread(until, lambda: hubs.are_settled, "each runs or has ended", None, 60.0)
        said = hubs.said()
        assert "hub_started" in "".join(said)
        assert all("hub_started" in text or "another hub uses this database" in text for text in said), said
    finally:
        await asyncio.to_thread(hubs.end)
    connection = await asyncpg.connect(empty)
    versions = [row[0] for row in await connection.fetch("SELECT version FROM schema_version ORDER BY 1")]
    await connection.close()

    assert versions == [number for number, _, _ in migrations("postgres")]


async def test_t30_a_hub_on_a_schema_that_it_does_not_know_says_so_and_changes_nothing(tmp_path: Path) -> None:
    """A newer build has been here; going back is not possible."""
    path = tmp_path / "data" / "hub.sqlite"
    path.parent.mkdir()
    store = SqliteStore(path)
    await store.open()
    assert store._writing is not None
    store._writing.execute("PRAGMA user_version = 999")
    await store.close()
    before = path.read_bytes()
    hubs = Hubs(tmp_path, [["--data-dir", str(path.parent)]])
    await asyncio.to_thread(until, lambda: hubs.are_settled, "it has ended")

    assert "the store has schema 999" in hubs.refused()[0]
    assert "install a newer agentcom" in hubs.refused()[0]
    assert path.read_bytes() == before
