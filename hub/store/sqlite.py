"""The embedded store: one SQLite file, one writing connection, every commit synced to disk.

The writer thread owns the writing connection and applies batches; a second thread reads from a snapshot, so a slow
query never holds up a commit. apsw brings its own SQLite (3.7.0 to 3.51.2 have a bug that can corrupt a WAL).
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw
import structlog

from hub.store.changes import AnyChange, EndpointRow, Outcome, TokenRow
from hub.store.migrate import migrate
from hub.store.queries import queries
from hub.store.sqlite_verbs import Verbs
from hub.store.store import AgentRow, AttemptRow, Done, LogRow, Start, TaskQuery, TaskRow
from hub.store.writer import Writer
from protocol.errors import Conflict, StoreFailed
from protocol.events import Event, EventKind
from protocol.model import AttemptState, FailureClass, TaskState

log = structlog.get_logger(__name__)
T = TypeVar("T")
OLDEST_SQLITE: Final = (3, 51, 3)
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


class Unwritable(Conflict):
    """The database refuses this one change for good; all others go on."""

    code = "unwritable"

    def __init__(self, verb: str, why: str) -> None:
        self.verb, self.why = verb, why
        super().__init__(verb, why)

    def __str__(self) -> str:
        return f"{self.verb} cannot be stored: {self.why}"


class SqliteStore:
    """A :class:`hub.store.store.Store` in one file; ``:memory:`` for tests."""

    def __init__(self, path: Path | str, *, busy_s: float = 10.0) -> None:
        """Prepare a store; :meth:`open` opens it.

        Args:
            path: the file; it is made if it is new, for its owner alone.
            busy_s: how long another program may hold the file before nothing can be promised any more.
        """
        self._path, self._busy_s = str(path), busy_s
        self._is_memory = self._path == ":memory:"
        self._sql = queries("sqlite")
        self._write_thread = ThreadPoolExecutor(1, "store-write")
        self._read_thread = self._write_thread if self._is_memory else ThreadPoolExecutor(1, "store-read")
        self._writing: apsw.Connection | None = None
        self._reading: apsw.Connection | None = None
        self._verbs: Verbs | None = None
        self._is_closed = False
        self._writer = Writer(self._apply)
        self.newest_event = 0
        self.on_commit: Callable[[Sequence[Event]], None] = lambda _events: None
        self._writer.on_commit = self._committed

    # --- life ---------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the file, bring its schema up to date, start the writer.

        Raises:
            StoreFailed: the file cannot be used; the text says why and what to do.
        """
        await self._in(self._write_thread, self._open)
        self._writer.start()

    def _open(self) -> None:
        try:
            if not self._is_memory:
                Path(self._path).touch(mode=0o600)  # SQLite gives its companions the rights of the file
            self._writing = _connect(self._path, self._busy_s)
            migrate(self._writing)
            last = _number(self._writing, self._sql["last_event"])
            self._verbs = Verbs(self._writing, last)
            self.newest_event = last
            self._reading = self._writing if self._is_memory else _connect(self._path, self._busy_s)
        except (apsw.Error, OSError) as exc:
            raise StoreFailed(
                f"cannot open the store {self._path}: {exc}; restore a backup or use another --data-dir"
            ) from exc

    async def close(self) -> None:
        """Write what waits and close; closing twice is closing once."""
        if self._is_closed:
            return
        self._is_closed = True
        await self._writer.close()

        def shut() -> None:
            for connection in {id(c): c for c in (self._reading, self._writing) if c is not None}.values():
                connection.close()

        await self._in(self._write_thread, shut)
        self._write_thread.shutdown()
        self._read_thread.shutdown()

    # --- writing ------------------------------------------------------------------------------------------------------

    @property
    def on_seal(self) -> Callable[[], None]:
        """Called just before a batch is sealed."""
        return self._writer.on_seal

    @on_seal.setter
    def on_seal(self, call: Callable[[], None]) -> None:
        self._writer.on_seal = call

    @property
    def on_failure(self) -> Callable[[BaseException], None]:
        """Called once when nothing can be made durable any more."""
        return self._writer.on_failure

    @on_failure.setter
    def on_failure(self, call: Callable[[BaseException], None]) -> None:
        self._writer.on_failure = call

    @property
    def is_full(self) -> bool:
        """So much waits for a commit that new work should be turned away."""
        return self._writer.is_full

    @property
    def batches(self) -> int:
        """Transactions committed so far."""
        return self._writer.batches

    @property
    def changes(self) -> int:
        """Changes committed so far."""
        return self._writer.changes

    def post(self, change: AnyChange, done: Done | None = None) -> None:
        """See :class:`hub.store.store.Store`."""
        self._writer.post(change, done)

    def wake(self) -> None:
        """See :class:`hub.store.store.Store`."""
        self._writer.wake()

    async def commit(self, change: AnyChange) -> Any:  # noqa: ANN401 - each verb documents its outcome
        """See :class:`hub.store.store.Store`."""
        return await self._writer.commit(change)

    async def _apply(self, batch: list[AnyChange]) -> tuple[list[Outcome], list[Event]]:
        return await self._in(self._write_thread, lambda: self._apply_now(batch))

    def _apply_now(self, batch: list[AnyChange]) -> tuple[list[Outcome], list[Event]]:
        assert self._writing is not None, "the store is open"
        assert self._verbs is not None, "the store is open"
        try:
            return self._transaction(self._writing, self._verbs, batch)
        except REFUSALS:
            # A bug in one verb must not take the others of its batch along: each gets its own transaction.
            log.exception("batch_failed", changes=len(batch))
            return self._one_by_one(self._writing, self._verbs, batch)
        except apsw.Error as exc:
            raise StoreFailed(f"the store {self._path} cannot be written: {exc}") from exc

    def _one_by_one(
        self, connection: apsw.Connection, verbs: Verbs, batch: list[AnyChange]
    ) -> tuple[list[Outcome], list[Event]]:
        outcomes: list[Outcome] = []
        events: list[Event] = []
        for change in batch:
            try:
                done, told = self._transaction(connection, verbs, [change])
            except REFUSALS as exc:
                done, told = [Unwritable(type(change).__name__.lower(), str(exc))], []
            except apsw.Error as exc:
                raise StoreFailed(f"the store {self._path} cannot be written: {exc}") from exc
            outcomes += done
            events += told
        return outcomes, events

    @staticmethod
    def _transaction(
        connection: apsw.Connection, verbs: Verbs, batch: list[AnyChange]
    ) -> tuple[list[Outcome], list[Event]]:
        verbs.begin()
        connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes = [verbs.apply(change) for change in batch]
            events = verbs.seal()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        verbs.last_event += len(events)
        return outcomes, events

    def _committed(self, events: Sequence[Event]) -> None:
        if events:
            self.newest_event = events[-1].seq
        self.on_commit(events)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _in(self, thread: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, call)

    async def _rows(self, name: str, *values: Any) -> list[tuple[Any, ...]]:
        def read() -> list[tuple[Any, ...]]:
            assert self._reading is not None, "the store is open"
            return self._reading.execute(self._sql[name], values).fetchall()

        return await self._in(self._read_thread, read)

    async def task(self, task: str) -> TaskRow | None:
        """A task, or ``None``."""
        rows = await self._rows("task", task)
        return _task(rows[0]) if rows else None

    async def spec(self, task: str) -> tuple[bytes, bytes] | None:
        """Spec and tier decision, MessagePack."""
        rows = await self._rows("spec", task)
        return (bytes(rows[0][0]), bytes(rows[0][1])) if rows else None

    async def attempts(self, task: str) -> list[AttemptRow]:
        """All attempts of a task, in order."""
        return [_attempt(row) for row in await self._rows("attempts", task)]

    async def tasks(self, query: TaskQuery) -> list[TaskRow]:
        """A page of tasks, newest first."""
        states = json.dumps(sorted(query.states)) if query.states else None
        key, value = query.label or (None, None)
        rows = await self._rows("list_tasks", query.before, states, query.agent or None, key, value, query.limit)
        return [_task(row) for row in rows]

    async def summaries(self, ids: Sequence[str]) -> list[TaskRow]:
        """These tasks, in this order."""
        found = [await self.task(task) for task in ids]
        return [row for row in found if row is not None]

    async def blockers(self, task: str) -> list[tuple[str, TaskState]]:
        """Tasks it depends on that have not completed."""
        return [(needed, TaskState(state)) for needed, state in await self._rows("open_needs", task)]

    async def ahead(self, row: TaskRow) -> int:
        """Ready tasks of the same class that go first, counted to 10,000."""
        return int((await self._rows("ahead", row.class_text, row.priority, row.id))[0][0])

    async def events(self, after: int, limit: int, task: str | None = None) -> list[Event]:
        """Events behind ``after``, oldest first."""
        if task is None:
            rows = await self._rows("events", after, limit)
        else:
            rows = await self._rows("events_of_task", after, limit, task)
        return [_event(row) for row in rows]

    async def logs(self, task: str, after: int, limit: int) -> list[LogRow]:
        """Output of a task behind ``after``, oldest first."""
        rows = await self._rows("logs", task, after, limit)
        return [LogRow(seq=r[0], at_ms=r[1], epoch=r[2], stream=r[3], text=r[4]) for r in rows]

    async def counts(self) -> dict[TaskState, int]:
        """Tasks by state."""
        return {TaskState(state): n for state, n in await self._rows("counts")}

    async def tokens(self) -> list[TokenRow]:
        """All tokens, newest first."""
        return [
            TokenRow(
                id=r[0],
                role=r[1],
                label=r[2],
                digest=bytes(r[3]),
                created_ms=r[4],
                expires_ms=r[5],
                last_used_ms=r[6],
                revoked_ms=r[7],
            )
            for r in await self._rows("tokens")
        ]

    async def start(self, now_ms: int = 0) -> Start:
        """What a hub needs to know when it starts; counts its boot."""
        boot = await self._in(self._write_thread, lambda: self._next_boot(now_ms))
        held = []
        for row in [_task(r) for r in await self._rows("held_tasks")]:
            attempts = await self._rows("attempt", row.id, row.epoch)
            held.append((row, _attempt(attempts[0])))
        classes: list[str] = []
        found = (await self._rows("first_class"))[0][0]
        while found is not None:
            classes.append(found)
            found = (await self._rows("next_class", found))[0][0]
        return Start(
            hub_boot=boot,
            last_task=(await self._rows("last_task"))[0][0] or "",
            last_event=self.newest_event,
            held=tuple(held),
            classes=tuple(classes),
            agents=tuple(_agent(row) for row in await self._rows("agents")),
            endpoints=tuple(
                EndpointRow(id=r[0], kind=r[1], url=r[2], local=bool(r[3]), default_model=r[4])
                for r in await self._rows("endpoints")
            ),
            next_ready_ms=(await self._rows("next_ready"))[0][0],
            next_deadline_ms=(await self._rows("next_deadline"))[0][0],
        )

    def _next_boot(self, now_ms: int) -> int:
        assert self._writing is not None, "the store is open"
        return _number(self._writing, self._sql["next_boot"], now_ms)


def _number(connection: apsw.Connection, query: str, *values: int) -> int:
    found: Any = connection.execute(query, values).fetchall()[0][0]
    return int(found or 0)


def _connect(path: str, busy_s: float) -> apsw.Connection:
    if tuple(int(part) for part in apsw.sqlite_lib_version().split(".")) < OLDEST_SQLITE:
        message = f"SQLite {apsw.sqlite_lib_version()} has a known corruption bug; install apsw 3.51.3 or newer"
        raise StoreFailed(message)
    connection = apsw.Connection(path, statementcachesize=200)
    connection.set_busy_timeout(int(busy_s * 1000))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # NORMAL loses acknowledged commits in a power cut
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _task(r: tuple[Any, ...]) -> TaskRow:
    return TaskRow(
        id=r[0],
        state=TaskState(r[1]),
        class_text=r[2],
        priority=r[3],
        epoch=r[4],
        agent=r[5],
        title=r[6],
        labels=json.loads(r[7]),
        retries=r[8],
        max_retries=r[9],
        infra_failures=r[10],
        ready_ms=r[11],
        submitted_ms=r[12],
        queued_ms=r[13],
        started_ms=r[14],
        ended_ms=r[15],
        execution_ok=None if r[16] is None else bool(r[16]),
        verified=None if r[17] is None else bool(r[17]),
        reason=r[18],
    )


def _attempt(r: tuple[Any, ...]) -> AttemptRow:
    return AttemptRow(
        task=r[0],
        epoch=r[1],
        agent=r[2],
        host=r[3],
        boot=r[4],
        state=AttemptState(r[5]),
        accepted=bool(r[6]),
        failure=FailureClass(r[7]) if r[7] else None,
        reason=r[8],
        assigned_ms=r[9],
        started_ms=r[10],
        ended_ms=r[11],
        placement=bytes(r[12]),
        result=bytes(r[13]) if r[13] is not None else None,
    )


def _event(r: tuple[Any, ...]) -> Event:
    return Event(
        seq=r[0],
        at_ms=r[1],
        kind=EventKind(r[2]),
        task=r[3],
        agent=r[4],
        epoch=r[5],
        facts=json.loads(r[6]) if r[6] else {},
    )


def _agent(r: tuple[Any, ...]) -> AgentRow:
    return AgentRow(
        name=r[0],
        host=r[1],
        boot=r[2],
        slots=r[3],
        version=r[4],
        capabilities=tuple(json.loads(r[5])),
        draining=bool(r[6]),
        last_seen_ms=r[7],
    )
