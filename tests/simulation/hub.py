"""The hub of a simulation: the real parts, wired as ``hub/assembly.py`` wires them, on a real SQLite file.

Only what is around them is simulated: the process, its threads, its clock, the network, and the moments at which the
disk says no. What every commit did is written down at the moment it was applied.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import apsw

from hub.assembly import Parts, assemble
from hub.settings import Settings
from hub.store.changes import AnyChange, Outcome, Record
from hub.store.sqlite import SqliteStore
from hub.store.writer import Landed, Written
from protocol.errors import StoreFailed
from protocol.events import Event, EventKind
from protocol.listing import Listed
from protocol.model import EndpointKind
from tests.simulation.history import History
from tests.simulation.network import End, Network
from tests.simulation.world import Machine, Process, World

SETTINGS: Final = Settings(data_dir="/nowhere", heartbeat_s=5.0, lease_s=30.0, window=8)
"""The usual times; a window so small that classes run dry and are filled again."""
NOTED: Final = 0.8
"""The part of the short batches that goes to the redo journal, as on a disk that is quick at most times."""
OWED_S: Final = 0.05
"""So much later at most the store has them; a hub may die, a batch or a read may come before that."""
DEADLY: Final = 0.02
"""The part of them after which the hub dies at once: few of the plans' own deaths fall into so short a time."""


class RecordedStore(SqliteStore):
    """The real store; tells what it has applied, and fails when the disk is told to."""

    def __init__(self, path: Path, history: History, process: Process) -> None:
        super().__init__(path)
        self.history, self.process = history, process
        self.refuses = ""
        """``before``: the next commit fails and nothing is written; ``after``: it fails though all is written."""
        self.is_full: Callable[[], bool] = lambda: False
        self._chance = process.world.random(f"notes {process.name}")
        self.early = 0
        """Batches that were acknowledged before the store had them."""
        self.on_doom: Callable[[], None] = lambda: None

    def _begin(self, batch: list[AnyChange], landed: Landed) -> None:
        assert self._transactions is not None
        loop = asyncio.get_running_loop()
        if self._transactions.verbs.is_short(batch) and self._chance.random() < NOTED:
            try:
                is_paid = self._pays()
            except StoreFailed as exc:
                landed(exc)
                return
            if is_paid:
                self._note(batch, landed, loop)
                return
        # In the world's own thread, which answers at a later moment than it writes.
        written = loop.run_in_executor(self._write_thread, self._apply_wholly, batch)

        def back(future: "asyncio.Future[Written]") -> None:
            error = future.exception()
            if isinstance(error, apsw.FullError):
                self._write_without_room(batch, landed)
            else:
                landed(error or future.result())

        written.add_done_callback(back)

    def _note(self, batch: list[AnyChange], landed: Landed, loop: asyncio.AbstractEventLoop) -> None:
        assert self._transactions is not None
        if (
            self._write(batch, landed, lambda call, *values: call(*values), may_be_noted=True)
            and self._transactions.owes
        ):
            self.early += 1
            if self._chance.random() < DEADLY:
                self.process.call_soon(self.on_doom)
            loop.call_later(self._chance.random() * OWED_S, self._pay_or_fail)

    def _see_to_log(self, loop: asyncio.AbstractEventLoop) -> None:
        del loop  # the next batch in the thread sees to it: no real one may take part

    def _apply_now(self, batch: list[AnyChange], *, may_be_noted: bool = False) -> tuple[list[Outcome], list[Event]]:
        refuses, self.refuses = self.refuses, ""
        assert self._writing is not None
        self._writing.set_commit_hook(self._look_at_disk)
        if refuses == "before":
            self._writing.set_commit_hook(_disk_says_no)
        outcomes, events = super()._apply_now(batch, may_be_noted=may_be_noted)
        self.history.applied(self.process.world.now, batch, outcomes, events)
        for event in events:
            self.process.world.tell(
                "hub",
                f"{event.seq} {event.kind.value} {event.task or event.agent or ''}"
                + (f" e{event.epoch}" if event.epoch else "")
                + (f"{event.facts['rule']} {event.facts['subject']}" if "rule" in event.facts else ""),
            )
        if refuses == "after":
            raise StoreFailed("fsync said no")
        return outcomes, events

    def _look_at_disk(self) -> bool:
        if self.is_full():
            raise apsw.FullError("database or disk is full")
        return False

    def die(self) -> None:
        """The process is gone; what it had committed stays, and what its journal has."""
        if self._transactions is not None:
            for beside in (self._transactions._mark, self._transactions._redo):
                if beside is not None:
                    beside.close()
        for connection in {id(c): c for c in (self._reading, self._writing) if c is not None}.values():
            connection.close(True)


def _disk_says_no() -> bool:
    raise apsw.IOError("disk I/O error")


class Hub:
    """One hub machine; its process may come and go.

    Args:
        make_store: makes the store of a new process; a planted bug may be in it.
        wrap, tamper: put something between a sidecar's connection and the gateway, or into the hub's parts: bugs.
    """

    def __init__(
        self,
        world: World,
        network: Network,
        history: History,
        folder: Path,
        *,
        template: Path | None = None,
        make_store: Callable[[Path, History, Process], RecordedStore] = RecordedStore,
        wrap: Callable[["Hub", End], Any] = lambda _hub, end: end,
        tamper: Callable[["Hub", Parts], None] = lambda _hub, _parts: None,
    ) -> None:
        self.world, self.network, self.history = world, network, history
        self.machine = Machine("hub")
        self._file, self._make_store, self._wrap = folder / "hub.sqlite", make_store, wrap
        self._tamper = tamper
        if template is not None:
            shutil.copytree(template, folder, dirs_exist_ok=True)
        self.process: Process | None = None
        self.store: RecordedStore | None = None
        self.parts: Parts | None = None
        self.is_listening = False
        self.starts = 0
        self.slow_disk_s = 0.0
        self.full_until = 0.0
        self.is_doomed = False
        """It dies of itself now and then, with an acknowledged batch that its store lacks."""
        self.on_end: Callable[[], None] = lambda: None

    def _doom(self) -> None:
        if self.is_doomed:
            self.kill()

    def start(self) -> None:
        """Start a process."""
        self.starts += 1
        process = self.process = Process(self.world, self.machine, f"hub{self.starts}")
        chance = self.world.random(f"disk{self.starts}")
        process.thread_s = lambda: chance.random() * 0.003 + chance.random() * self.slow_disk_s
        self.world.tell("hub", f"start {self.starts}")
        process.create_task(self._live(process))

    async def _live(self, process: Process) -> None:
        try:
            await self._run(process)
        except (StoreFailed, apsw.Error) as exc:
            self.world.tell("hub", f"does not start: {type(exc).__name__}")
        self.kill()

    async def _run(self, process: Process) -> None:
        store = self.store = self._make_store(self._file, self.history, process)
        store.is_full = lambda: self.full_until > self.world.now
        store.on_doom = self._doom
        await store.open()
        start = await store.start(process.clock.now_ms(), node="node", version="0")
        failed: Any = process.create_future()
        parts = assemble(
            store,
            start,
            SETTINGS,
            clock=process.clock,
            chance=self.world.random(f"hub{self.starts}"),
            probe=probe,
            version="0",
            node="node",
            on_failure=lambda error: None if failed.done() else failed.set_result(error),
        )
        self._tamper(self, parts)
        await store.commit(Record(Event(kind=EventKind.HUB_STARTED, at_ms=process.clock.now_ms())))
        for loop in parts.loops:
            process.create_task(loop()).add_done_callback(_ends(failed))
        self.parts, self.is_listening = parts, True
        self.world.tell("hub", "ready")
        error = await failed
        self.world.tell("hub", f"ends itself: {type(error).__name__}")
        if not isinstance(error, StoreFailed):
            self.world.problems.append(f"the hub died of {error!r}")

    def accept(self, line: End) -> None:
        """A sidecar has dialled."""
        if self.process is not None and self.parts is not None:
            self.process.create_task(self.parts.gateway.serve(self._wrap(self, line)))

    def kill(self, *, silently: bool = False) -> None:
        """The process is gone at once; with ``silently`` the whole machine is."""
        if self.process is None or self.process.is_dead:
            return
        self.world.tell("hub", "is gone")
        self.process.kill()
        self.is_listening = False
        if self.store is not None:
            self.store.die()
        self.parts = self.store = None
        self.network.gone(self.process, silently=silently)
        self.on_end()

    def ask(self, process: Process, verb: Callable[[Parts], Awaitable[Any]], timeout_s: float = 30.0) -> Awaitable[Any]:
        """A request over HTTP: ``verb`` runs in the hub's process."""

        async def handle() -> Any:  # noqa: ANN401 - what the verb answers
            assert self.parts is not None, "a hub that listens has parts"
            return await verb(self.parts)

        return self.network.ask(process, self, handle, timeout_s)


async def probe(_kind: EndpointKind, _url: str) -> Listed:
    """No endpoints here."""
    return Listed(())


def _ends(failed: Any) -> Callable[[Any], None]:  # noqa: ANN401 - futures of two kinds
    def ended(task: Any) -> None:  # noqa: ANN401 - as above
        if not task.cancelled() and (error := task.exception()) is not None and not failed.done():
            failed.set_result(error)

    return ended


def make_template(folder: Path) -> None:
    """An empty store with today's schema, so that no world has to make its own."""

    async def make() -> None:
        store = SqliteStore(folder / "hub.sqlite")
        await store.open()
        await store.close()

    asyncio.run(make())
