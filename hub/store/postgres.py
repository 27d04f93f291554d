"""The shared store: one PostgreSQL database, one writing connection a hub, every commit synced to disk there.

A batch is one transaction, as in SQLite. It begins by locking the row that counts the events (``facts.event_seq``): so
batches of all hubs follow one another, events are numbered without a gap in the order of the commits, and what a verb
has read stays true until its commit. A short write lock on the whole store is the price.

The connection may be lost at any moment, and nobody knows of a commit that was under way then whether it happened. Each
batch therefore leaves its random name in the same transaction. After reconnecting, the store takes the lock (which
waits for what the old connection left behind), looks for the name, and either answers with the outcomes it had or does
the batch again. While the database is away nothing is answered: writes wait, reads raise
:class:`Unavailable`, new submissions are turned away, and the hub goes on.
"""

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import asyncpg
import structlog
from msgspec import Struct

from hub.store.backend import Backend
from hub.store.changes import AnyChange
from hub.store.listening import listen
from hub.store.plain import Plain
from hub.store.postgres_migrate import migrate
from hub.store.postgres_statements import AWAY, REFUSALS, PostgresStatements, said, storable
from hub.store.queries import queries
from hub.store.records import Row
from hub.store.writer import Landed, Written, awaited
from protocol.errors import StoreFailed, Unavailable

log = structlog.get_logger(__name__)

READERS: Final = 4
CONNECT_S: Final = 5.0
STATEMENT_S: Final = 15.0
"""No statement of ours takes this long; one that does waits for something that is broken."""
SILENCE_S: Final = 2.0
"""A hub that says nothing for so long in the middle of a batch stands still, or is cut off: the server takes the lock
from it, for the sake of the others, and it does the batch again. Well below a hub's lease."""
READ_S: Final = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
RETRY_AFTER_S: Final = 1.0
DURABLE: Final = frozenset({"on", "remote_apply"})


class _Tried(Struct):
    """A batch on its way: its name, and what became of it if its commit was sent."""

    name: str
    changes: list[AnyChange]
    is_guarded: bool = False
    done: Written | None = None


class PostgresStore(Backend):
    """A :class:`hub.store.store.Store` in a PostgreSQL database.

    Args:
        url: ``postgresql://user:password@host:port/database``; never logged.
    """

    def __init__(self, url: str) -> None:
        super().__init__("postgresql")
        self._url = url
        self._writer_pid = 0  # of the server's process for our writing connection
        self._sql = queries("postgres")
        self._name = secrets.token_hex(8)  # of this writer, in ``batches``
        self._writing: Any = None
        self._verbs: tuple[PostgresStatements, Plain] | None = None
        self._readers: Any = None
        self._away_since: float | None = None
        self._why_away = ""
        self._closing = asyncio.Event()
        self._write = awaited(self._apply)

    @property
    def trouble(self) -> str:
        """Why the database is away; empty while it answers."""
        return self._why_away

    # --- life ---------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, bring the schema up to date, start the writer.

        Raises:
            StoreFailed: the database cannot be used; the text says why and what to do.
        """
        try:
            connection = await self._connected()
            await migrate(connection)
            await connection.execute(self._sql["forget_batches"])
            self.newest_event = await connection.fetchval(self._sql["last_event"])
            self._readers = await asyncpg.create_pool(
                self._url, min_size=0, max_size=READERS, timeout=CONNECT_S, server_settings=_session()
            )
        except (*AWAY, asyncpg.PostgresError, ValueError) as exc:
            await self._drop()
            # What the driver says of an address may quote it, password and all.
            why = "its address cannot be understood" if isinstance(exc, ValueError) else said(exc)
            raise StoreFailed(
                f"cannot open the store in PostgreSQL: {why}; check --store, and that the server runs"
            ) from None
        except BaseException:
            await self._drop()
            raise
        self._writer.start()

    async def close(self) -> None:
        """Write what waits and close; what cannot be written because the database is away was never acknowledged."""
        self._closing.set()
        await self._writer.close()
        await self._drop()
        if self._readers is not None:
            self._readers.terminate()
            self._readers = None

    async def _connected(self) -> Any:  # noqa: ANN401 - asyncpg ships no types
        """The writing connection, made anew if it is gone."""
        if self._writing is None or self._writing.is_closed():
            self._writing = await asyncpg.connect(
                self._url,
                timeout=CONNECT_S,
                command_timeout=STATEMENT_S + CONNECT_S,
                statement_cache_size=200,
                server_settings=_session(),
            )
            await _assert_durable(self._writing)
            self._writer_pid = self._writing.get_server_pid()
            statements = PostgresStatements(self._writing)
            self._verbs = statements, Plain(statements)
        return self._writing

    async def _drop(self) -> None:
        # Without a goodbye: whatever it was in the middle of, the server takes back.
        if self._writing is not None:
            self._writing.terminate()
            self._writing = None

    # --- writing ------------------------------------------------------------------------------------------------------

    def _begin(self, batch: list[AnyChange], landed: Landed) -> None:
        self._write(batch, landed)

    async def _apply(self, batch: list[AnyChange]) -> Written:
        tried = _Tried(secrets.token_hex(8), batch)
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                done = await self._try(tried)
            except AWAY as exc:
                await self._drop()
                self._is_away(exc)
                await self._pause(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            except REFUSALS as exc:
                if tried.is_guarded:
                    raise StoreFailed(f"the store in PostgreSQL cannot be written: {said(exc)}") from exc
                # A bug in one verb must not take the others of its batch along: once more, each undone by itself.
                log.warning("batch_failed", changes=len(batch), why=said(exc), next="each change by itself")
                tried.is_guarded = True
            except asyncpg.PostgresError as exc:
                raise StoreFailed(f"the store in PostgreSQL cannot be written: {said(exc)}") from exc
            else:
                self._is_back()
                return done

    async def _try(self, tried: _Tried) -> Written:
        connection = await self._connected()
        assert self._verbs is not None, "a connection has its verbs"
        statements, verbs = self._verbs
        await connection.execute("BEGIN; " + self._sql["lock_batches"])
        try:
            if tried.done is not None and await connection.fetch(self._sql["find_batch"], self._name, tried.name):
                done = tried.done  # its commit had arrived, only the answer was lost
                log.info("commit_found", changes=len(tried.changes))
            else:
                tried.done = None
                statements.batch = (self._name, tried.name)
                apply = verbs.each if tried.is_guarded else verbs.batch
                tried.done = done = await apply(tried.changes)
            said = await connection.execute("COMMIT")
            assert said == "COMMIT", "a transaction that has failed would be rolled back silently"
        except REFUSALS:
            await connection.execute("ROLLBACK")
            raise
        return done

    def _is_away(self, exc: BaseException) -> None:
        self._why_away = f"the database does not answer: {said(exc)}"
        if self._away_since is None:
            self._away_since = time.monotonic()
            log.warning("store_away", why=said(exc), next="trying again; nothing is acknowledged until it is back")

    def _is_back(self) -> None:
        if self._away_since is not None:
            log.info("store_back", away_s=round(time.monotonic() - self._away_since, 2))
            self._away_since, self._why_away = None, ""

    async def _pause(self, pause_s: float) -> None:
        if self._closing.is_set():
            raise StoreFailed("the hub stops while the database is away; what waited was not acknowledged")
        try:
            await asyncio.wait_for(self._closing.wait(), pause_s * random.uniform(0.5, 1.0))
        except TimeoutError:
            return

    async def listen(self, on_news: Callable[[int], None]) -> None:
        """See :class:`hub.store.store.Store`."""
        await listen(self._url, _session(), lambda pid: pid == self._writer_pid, on_news, AWAY)

    async def _next_boot(self, now_ms: int) -> int:
        connection = await self._connected()
        return int(await connection.fetchval(self._sql["next_boot"], now_ms))

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _rows(self, name: str, *values: Any) -> Sequence[Row]:
        try:
            return await self._read(name, *values)
        except AWAY:
            pass  # perhaps only this connection was cut: once more, with a new one
        try:
            return await self._read(name, *values)
        except AWAY as exc:
            raise Unavailable(f"the database does not answer: {said(exc)}", RETRY_AFTER_S) from exc

    async def _read(self, name: str, *values: Any) -> Sequence[Row]:
        assert self._readers is not None, "the store is open"
        async with asyncio.timeout(READ_S), self._readers.acquire() as connection:
            rows: Sequence[Row] = await connection.fetch(self._sql[name], *storable(values))
            return rows


def _session() -> dict[str, str]:
    """Settings of every connection. A hub that hangs must not hold the lock of all batches for long."""
    return {
        "application_name": "agentcom-hub",
        "statement_timeout": f"{STATEMENT_S:.0f}s",
        "idle_in_transaction_session_timeout": f"{SILENCE_S:.0f}s",
        "default_transaction_isolation": "read committed",
    }


async def _assert_durable(connection: Any) -> None:  # noqa: ANN401 - as above
    """An acknowledged commit must be on disk, whatever the server's default is."""
    if await connection.fetchval("SHOW fsync") == "off":
        log.warning("store_without_fsync", next="a power cut can destroy the database: set fsync = on at the server")
    if await connection.fetchval("SHOW synchronous_commit") not in DURABLE:
        await connection.execute("SET synchronous_commit = on")
    found = await connection.fetchval("SHOW synchronous_commit")
    if found not in DURABLE:
        raise StoreFailed(f"synchronous_commit is {found!r} and cannot be set to 'on': commits could be lost")
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise StoreFailed(f"the database is encoded in {encoding}; create one with ENCODING 'UTF8'")
