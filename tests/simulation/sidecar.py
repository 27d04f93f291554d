"""A sidecar of a simulation: the real link, runner, outbox, session and journal; only the work is made up.

The work takes the time that its task says, in steps that production takes too (execute, verify, fix, deliver), and
pushes at its end under the guard that production has. Every start of work and every push is written down with the true
time. What ends a process here ends its work at the same moment: a guard process does that for a real one.
"""

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final

import apsw
from msgspec import json

from protocol.errors import AgentComError, WorkFailed
from protocol.machine import HostReading
from protocol.messages import Carry, Proof
from protocol.model import AttemptId, EndpointReport, FailureClass, Finding, Iteration, Routing, TaskResult, TaskSpec
from sidecar.app import Running
from sidecar.core.outcome import Ending
from sidecar.dial import EVICTED, Connection, HubRefused
from sidecar.errors import failure_of
from sidecar.executors.base import Called
from sidecar.identity import EVICTED_FILE, INSTANCE_FILE, Identity, check_not_evicted, instance_of, note_eviction
from sidecar.journal import Journal
from sidecar.leases import NEVER, Leases
from sidecar.lifecycle import Lifecycle
from sidecar.link import Link
from sidecar.parts import Answers
from sidecar.process import GRACE_S
from sidecar.runner import Runner
from tests.simulation.history import History, Span
from tests.simulation.hub import Hub
from tests.simulation.network import End, Network
from tests.simulation.world import Machine, Process, World

HOST: Final = HostReading(
    at=datetime(2026, 1, 1, tzinfo=UTC), cpu_percent=1, cores=b"\x01\x01", ram=(2, 1), disk=(2 << 40, 1), notes={}
)
STAYS_S: Final = 0.01
"""How long a process tree takes to die once it is killed."""


class Work:
    """The work of one attempt; a :class:`sidecar.workshop.Work`."""

    def __init__(
        self,
        shop: "Workshop",
        attempt: AttemptId,
        spec: TaskSpec,
        on_step: Callable[[str], None],
        log: Callable[[str, str], None],
    ) -> None:
        self._shop, self._attempt, self._on_step, self._log = shop, attempt, on_step, log
        self._plan: dict[str, Any] = json.decode(spec.command)
        self._chance = Random(f"{shop.world.seed}/{spec.title}/{attempt.epoch}")
        self._iterations: list[Iteration] = []
        self._ok = False
        self.ending: Ending | None = None
        self.hurried = asyncio.Event()
        self.noted: Callable[[Ending], None] = lambda _ending: None

    async def work(self) -> Ending:
        """Do it all."""
        shop, attempt = self._shop, self._attempt
        span = shop.history.began(attempt, shop.process.name, shop.world.now)
        shop.spans.append(span)
        try:
            try:
                ending = await self._rounds()
            except WorkFailed as exc:  # its lease is over
                ending = self._end("fail", failure_of(exc), str(exc))
            self.ending = ending
            self.noted(ending)
        except asyncio.CancelledError:
            # A process tree gets its grace, unless somebody else may be at the task already.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._chance.random() * GRACE_S * self._plan.get("stubborn", 0)):
                    await self.hurried.wait()
            await asyncio.sleep(STAYS_S)
            raise
        finally:
            shop.leases.drop(attempt)
            span.ended = span.ended if span.ended is not None else shop.world.now
            shop.running.pop(attempt, None)
        return ending

    async def _rounds(self) -> Ending:
        plan, event = self._plan, "start"
        fails = self._chance.random() < plan.get("fails", 0.0)
        for number in range(1, plan.get("rounds", 1) + 1):
            self._on_step(event)
            self._shop.leases.check(self._attempt)
            event = "fix"
            for _ in range(plan.get("says", 1)):
                await asyncio.sleep(plan["seconds"] * (0.5 + self._chance.random()) / plan.get("says", 1))
                self._log("stdout", f"{self._attempt.task} e{self._attempt.epoch} round {number}\n")
            self._ok = not fails
            if fails and plan.get("how") in {"infra", "quota"}:
                return self._end("fail", FailureClass(plan["how"]), "it broke")
            self._on_step("verify")
            self._shop.leases.check(self._attempt)
            await asyncio.sleep(0.1 * self._chance.random())
            is_last = number == plan.get("rounds", 1)
            self._iterations.append(Iteration(number=number, execution_ok=self._ok, passed=is_last and not fails))
        if fails:
            return self._end("fail", FailureClass(plan.get("how", "agent")), "it did not work")
        await self._push()
        return self._end("pass", None, "")

    async def _push(self) -> None:
        """Commit, and let the world see it; the check stands right before that, as before every program that starts."""
        await asyncio.sleep(0.05 + 0.2 * self._chance.random())
        self._shop.leases.check(self._attempt)
        self._shop.history.pushed(self._attempt, self._shop.process.name, self._shop.world.now)

    def _end(self, event: str, failure: FailureClass | None, error: str) -> Ending:
        return Ending(event, self.result(error, error and "simulated"), failure)

    def result(self, error: str = "", error_code: str = "") -> TaskResult:
        """What there is so far; the output says whose work it is."""
        verified = self._iterations[-1].passed if self._iterations else None
        return TaskResult(
            execution_ok=self._ok,
            verified=verified,
            output=f"{self._attempt.task} {self._attempt.epoch} {self._attempt.sidecar}",
            report=(Finding(name="simulated", type="command", passed=bool(verified)),) if self._iterations else (),
            iterations=tuple(self._iterations),
            error_code=error_code,
            error=error,
        )


class Workshop:
    """Where attempts are worked on; a :class:`sidecar.workshop.Workshop`."""

    def __init__(self, world: World, history: History, process: Process, leases: Leases) -> None:
        self.world, self.history, self.process, self.leases = world, history, process, leases
        self._fed = 0
        leases.on_change = self._feed
        self.running: dict[AttemptId, Work] = {}
        self.spans: list[Span] = []
        self.executors: Mapping[str, object] = {"noop": None, "shell": None}

    def begin(  # noqa: PLR0913 - as the real one
        self,
        attempt: AttemptId,
        spec: TaskSpec,
        routing: Routing,
        *,
        executor: str,
        on_step: Callable[[str], None],
        log: Callable[[str, str], None],
        carry: Carry | None = None,
        answering: Answers = lambda _ask: None,
        called: Called = lambda _turn, _calls: None,
        proof: Proof | None = None,
    ) -> Work:
        """The work of an attempt, not begun yet."""
        del routing, executor, carry, answering, called, proof
        work = self.running[attempt] = Work(self, attempt, spec, on_step, log)
        return work

    def hurry(self, attempt: AttemptId) -> None:
        """No grace any more."""
        if (work := self.running.get(attempt)) is not None:
            work.hurried.set()

    def adopt(self, endpoint: EndpointReport) -> None:
        """There are no endpoints here."""

    def _feed(self, left_s: float) -> None:
        """The dead man's switch beside every sidecar: unless it is fed again in time, it ends all work."""
        self._fed += 1
        if left_s != NEVER:
            self.world.later(max(0.0, left_s) / self.process.machine.rate, self._starve, self._fed)

    def _starve(self, fed: int) -> None:
        if fed != self._fed or self.process.is_dead:
            return
        if self.process.is_asleep:  # the machine, and the switch with it
            self.world.later(max(0.0, self.process.stopped_until - self.world.now) + 1e-3, self._starve, fed)
            return
        self.die()

    def die(self) -> None:
        """The process is gone, and with it all its work."""
        for span in self.spans:
            if span.ended is None:
                span.ended = self.world.now


class Sidecar:
    """One sidecar: its machine, its state directory, and the process that runs at the time."""

    def __init__(  # noqa: PLR0913 - what a sidecar is made of
        self,
        world: World,
        network: Network,
        history: History,
        hub: Hub,
        folder: Path,
        *,
        name: str,
        machine: Machine,
        slots: int,
        capabilities: tuple[str, ...] = (),
        make_leases: Callable[[Callable[[], float]], Leases] = Leases,
    ) -> None:
        self.world, self.network, self.history, self.hub = world, network, history, hub
        self.name, self.machine, self.slots, self._make_leases = name, machine, slots, make_leases
        self.capabilities = tuple(sorted({"executor:noop", "executor:shell", *capabilities}))
        self.folder = folder
        self.process: Process | None = None
        self.starts = 0
        self.journal: Journal | None = None
        self.running: Running | None = None
        self._shop: Workshop | None = None
        self.refuses_until = 0.0
        self.on_end: Callable[[], None] = lambda: None

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a process."""
        self.starts += 1
        self.process = Process(self.world, self.machine, f"{self.machine.name}/{self.starts}")
        self.world.tell(self.machine.name, f"start {self.starts}")
        self.process.create_task(self._run(self.process))

    async def _run(self, process: Process) -> None:
        try:
            await self._start(process)
        except (AgentComError, apsw.Error) as exc:
            self.world.tell(self.machine.name, f"ends itself: {type(exc).__name__}")
        self.kill()

    async def _start(self, process: Process) -> None:
        """As ``sidecar/app.py`` does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        journal = self.journal = Journal(self.folder / "journal.db")
        journal._db.set_commit_hook(self._disk)
        lifecycle = Lifecycle()
        instance = self.folder / INSTANCE_FILE
        if not instance.exists():
            instance.write_text(f"{self.machine.name}-{self.starts}\n", encoding="utf-8")
        check_not_evicted(self.folder, self.name, journal.last_boot)
        boot = journal.next_boot(process.clock.now_ms())
        leases = self._make_leases(process.clock.monotonic)
        link = Link(
            "http://hub",
            lambda: "token",
            Identity(self.name, boot, self.machine.name, self.slots, "0", instance_of(self.folder)),
            clock=process.clock,
            chance=self.world.random(f"{self.machine.name}/{self.starts}").random,
            dial=self._dial,
            leases=leases,
            on_event=lambda event: _fire(lifecycle, event),
        )
        shop = self._shop = Workshop(self.world, self.history, process, leases)
        runner = Runner(self.name, self.slots, shop, journal, link, leases)
        link.tell(capabilities=self.capabilities, reading=HOST)
        runner.recover()
        work = process.create_task(self._line(link, runner, boot))

        async def close() -> None:
            journal.close()

        self.running = Running(self.name, boot, link, runner, lifecycle, work, close)
        self.world.tell(self.machine.name, f"boot {boot}")
        running = self.running
        try:
            await running.ended()
        except AgentComError:
            await running.stop()
            raise
        except asyncio.CancelledError:
            return

    async def _line(self, link: Link, runner: Runner, boot: int) -> None:
        """As ``sidecar/app.py``: a sidecar whose name is taken away ends its work at once, and starts no more."""
        try:
            await link.run(runner)
        except HubRefused as exc:
            if exc.reason == EVICTED:
                runner.hurry()
                note_eviction(self.folder, self.name, boot)
            raise

    def take_name_back(self) -> None:
        """A person has decided who has the name."""
        (self.folder / EVICTED_FILE).unlink(missing_ok=True)

    def _disk(self) -> bool:
        if self.refuses_until > self.world.now:
            raise apsw.FullError("database or disk is full")
        return False

    def kill(self, *, silently: bool = False) -> None:
        """The process is gone at once; with ``silently`` the whole machine is."""
        if self.process is None or self.process.is_dead:
            return
        self.world.tell(self.machine.name, "is gone")
        self.process.kill()
        if self._shop is not None:
            self._shop.die()
        if self.journal is not None:
            self.journal._db.close(True)
        self.running = self.journal = self._shop = None
        self.network.gone(self.process, silently=silently)
        self.on_end()

    def leave(self, timeout_s: float) -> None:
        """SIGTERM: let running work end, then go."""
        if self.running is not None and self.process is not None:
            self.world.tell(self.machine.name, "leaves")
            self.process.create_task(self.running.drain(timeout_s))

    def lose_state(self) -> None:
        """The state directory is gone; the next start is somebody new under the old name."""
        assert self.process is None or self.process.is_dead, "a directory in use cannot be lost here"
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def is_up(self) -> bool:
        """Whether a process runs."""
        return self.process is not None and not self.process.is_dead

    def _dial(self, _hub: str, _token: str, _version: str, timeout_s: float) -> "_Dialled":
        assert self.process is not None, "only a process dials"
        return _Dialled(self.network, self.process, self.hub, timeout_s)


class _Dialled:
    """A connection to the hub for as long as the block runs."""

    def __init__(self, network: Network, process: Process, hub: Hub, timeout_s: float) -> None:
        self._network, self._process, self._hub, self._timeout_s = network, process, hub, timeout_s
        self._end: End | None = None

    async def __aenter__(self) -> Connection:
        async with asyncio.timeout(self._timeout_s):
            self._end = await self._network.dial(self._process, self._hub)
        return self._end

    async def __aexit__(self, *_exc: object) -> None:
        if self._end is not None:
            await self._end.close()


def _fire(lifecycle: Lifecycle, event: str) -> None:
    if lifecycle.may(event):
        lifecycle.fire(event)
