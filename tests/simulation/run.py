"""Run one plan: build the world, let its faults happen, heal it, wait until all is quiet, and judge."""

import contextlib
import gc
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import apsw

from hub.store import records
from protocol.model import TaskState
from tests.simulation.faults import Faults
from tests.simulation.history import Excuse, History, Rest, figures
from tests.simulation.hub import Hub, make_template
from tests.simulation.judging import judge
from tests.simulation.network import Network
from tests.simulation.people import People
from tests.simulation.plan import Plan
from tests.simulation.plants import NONE, Plant
from tests.simulation.sidecar import Sidecar
from tests.simulation.world import Machine, World

LOOK_S: Final = 1.0
"""How often a healed world is asked whether all is quiet."""
PATIENCE_S: Final = 1_500.0
"""How long that may take: far longer than every delay that production has."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a plan."""

    plan: Plan
    violations: tuple[str, ...]
    trace: str
    seconds: float
    lines: tuple[tuple[float, str, str], ...]
    figures: dict[str, object]


def run(plan: Plan, plant: Plant = NONE) -> Outcome:
    """Run a plan to its end; ``plant`` puts a bug in."""
    with _folder() as folder, _no_garbage():
        world = World(plan.seed)
        stage = Stage(world, plan, plant, folder)
        try:
            world.run(plan.seconds + PATIENCE_S)
            if stage.rest is None:
                stage.give_up()
            world.look_for_errors()
            stage.history.problems += world.problems
            violations = tuple(judge(stage.history))
        finally:
            stage.strike()
    return Outcome(plan, violations, world.trace, world.now, tuple(world.lines), figures(stage.history))


class Stage:
    """The world of one plan, with everything in it."""

    def __init__(self, world: World, plan: Plan, plant: Plant, folder: Path) -> None:
        self.world, self.plan, self.folder = world, plan, folder
        self.history, self.network = History(), Network(world)
        self.rest: Rest | None = None
        self._looking: apsw.Connection | None = None
        self.hub = Hub(
            world,
            self.network,
            self.history,
            folder,
            template=_template(),
            make_store=plant.make_store,
            wrap=plant.wrap_line,
            tamper=plant.tamper,
        )
        self.sidecars = {seat.name: self._sidecar(seat.name, plant) for seat in plan.seats}
        self.people = People(world, self.hub, self.history, plan)
        people = self.network.route("people")
        people.loses = plan.loses
        for machine in ("people", *self.sidecars):
            route = self.network.route(machine)
            route.delay_s, route.jitter_s = plan.delay_s, plan.jitter_s
        self.faults = Faults(self)
        self.hub.is_doomed = any(fault.kind == "hub_kill" for fault in plan.faults)
        world.later(0.0, self.hub.start)
        for seat in plan.seats:
            world.later(0.1 + seat.joins_at, self.faults.first_start, self.sidecars[seat.name])
        self.people.start()
        for fault in plan.faults:
            world.later(fault.at, self.faults.happen, fault)
        world.later(plan.seconds, self._heal)

    def _sidecar(self, name: str, plant: Plant) -> Sidecar:
        seat = next(seat for seat in self.plan.seats if seat.name == name)
        return Sidecar(
            self.world,
            self.network,
            self.history,
            self.hub,
            self.folder / name,
            name=name,
            machine=Machine(name, rate=seat.rate, wall_ms=seat.wall_ms),
            slots=seat.slots,
            capabilities=seat.capabilities,
            make_leases=plant.make_leases,
        )

    def _heal(self) -> None:
        self.world.tell("world", "faults are over")
        self.faults.heal()
        self.hub.is_doomed = False
        self.people.heal()
        self.world.later(LOOK_S, self._look)

    def _look(self) -> None:
        if self.people.is_done and self.hub.parts is not None and not self._open_tasks() and not self._unsettled():
            self.rest = self.history.rest = self._measure()
            self.world.tell("world", "all is quiet")
            self.world.stop()
            return
        self.world.later(LOOK_S, self._look)

    def _open_tasks(self) -> list[tuple[str, str]]:
        rows = self._rows("SELECT id, state FROM tasks WHERE ended_ms IS NULL")
        return [(str(task), str(state)) for task, state in rows]

    def _unsettled(self) -> list[str]:
        return [
            name
            for name, sidecar in self.sidecars.items()
            if sidecar.running is None
            or sidecar.running.link.unacknowledged_reports
            or sidecar.running.runner.inventory()
            or not sidecar.running.link.online.is_set()
        ]

    def _rows(self, query: str) -> list[tuple[object, ...]]:
        """What the file says, over a connection of our own: the store's gives up by the real clock."""
        if self._looking is None:
            self._looking = apsw.Connection(str(self.folder / "hub.sqlite"))
        return self._looking.execute(query).fetchall()

    def _measure(self) -> Rest:
        """Read every memory there is."""
        rest, store, parts = Rest(), self.hub.store, self.hub.parts
        assert store is not None
        assert parts is not None
        for task, state, retries, most in self._rows("SELECT id, state, retries, max_retries FROM tasks ORDER BY id"):
            rest.states[str(task)] = TaskState(str(state))
            rest.retries[str(task)], rest.max_retries[str(task)] = int(str(retries)), int(str(most))
        for task, epoch, accepted in self._rows("SELECT task, epoch, accepted FROM attempts ORDER BY task, epoch"):
            rest.epochs[str(task)] = (*rest.epochs.get(str(task), ()), int(str(epoch)))
            if accepted:
                rest.accepted[str(task)] = (*rest.accepted.get(str(task), ()), int(str(epoch)))
        rest.counts = {TaskState(str(state)): int(str(n)) for state, n in self._rows(store._sql["counts"])}
        rows = self._rows("SELECT seq, at_ms, kind, task, agent, epoch, facts FROM events ORDER BY seq")
        rest.events = tuple(records.event(row) for row in rows)
        rest.held = tuple(parts.fleet.held)
        for name, sidecar in self.sidecars.items():
            assert sidecar.running is not None
            assert sidecar.journal is not None
            sidecar.journal.commit()
            rest.journals[name] = len(sidecar.journal.held()) + len(sidecar.journal.reports())
            rest.unsent[name] = sidecar.running.link.unacknowledged_reports
            rest.inventories[name] = len(sidecar.running.runner.inventory())
        return rest

    def give_up(self) -> None:
        """It never became quiet: say what is stuck."""
        open_tasks = self._open_tasks()
        self.history.stuck += [f"task {task} is stuck: {state}" for task, state in open_tasks[:5]]
        self.history.stuck += [f"sidecar {name} does not come to rest" for name in self._unsettled()]
        if not self.people.is_done:
            self.history.stuck.append("somebody waits for an answer")
        if not self.history.stuck:
            self.history.stuck.append("the world did not come to rest")

    def strike(self) -> None:
        """Close all files and take the processes apart."""
        if self._looking is not None:
            self._looking.close()
        with contextlib.suppress(apsw.Error):
            if self.hub.store is not None:
                self.hub.store.die()
        for sidecar in (*self.sidecars.values(), *self.faults.clones):
            with contextlib.suppress(apsw.Error):
                if sidecar.journal is not None:
                    sidecar.journal._db.close(True)
        self.world.end()


def excuse(history: History, process: str, began: float, ended: float, why: str) -> None:
    """Note a span in which a process could not stop its work."""
    history.excuses.append(Excuse(process, began, ended, why))


@cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="agentcom-template-", dir=_memory()))
    make_template(folder)
    return folder


def _memory() -> str | None:
    """Files of a simulation lie in memory where there is a file system for that."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="agentcom-world-", dir=_memory()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """What is not referenced any more must not be finalised at a moment that no seed decides."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
