"""What each kind of fault does, and what brings things back: the supervisor of every machine."""

import shutil
from typing import TYPE_CHECKING

from tests.simulation.history import Excuse
from tests.simulation.plan import MARGIN_S, Fault
from tests.simulation.sidecar import Sidecar
from tests.simulation.world import Machine

if TYPE_CHECKING:
    from tests.simulation.run import Stage


class Faults:
    """Makes faults happen on a stage, and starts again what ends."""

    def __init__(self, stage: "Stage") -> None:
        self._stage, self._world = stage, stage.world
        self._chance = self._world.random("supervisor")
        self._is_over = False
        self._wiped: set[str] = set()
        self._stopped: dict[str, int] = {}
        self._away_s: dict[str, float] = {}
        self.clones: list[Sidecar] = []
        stage.hub.on_end = self._hub_ended
        for sidecar in stage.sidecars.values():
            sidecar.on_end = lambda sidecar=sidecar: self._sidecar_ended(sidecar)

    def first_start(self, sidecar: Sidecar) -> None:
        """A sidecar joins for the first time, unless a fault has started it before."""
        if not sidecar.starts:
            sidecar.start()

    def happen(self, fault: Fault) -> None:
        """Let a fault happen."""
        self._world.tell("fault", f"{fault.kind} {fault.who} {fault.seconds:.3f} {fault.amount:.3g}")
        getattr(self, f"_{fault.kind}")(fault)

    def heal(self) -> None:
        """End all faults, and see that everything runs."""
        self._is_over = True
        for machine in ("people", *self._stage.sidecars):
            route = self._stage.network.route(machine)
            route.up_until = route.down_until = route.refuses_until = 0.0
            route.delay_s, route.jitter_s, route.loses = 0.001, 0.002, 0.0
        for clone in self.clones:
            clone.kill()
        for process in self._world.processes:
            process.stopped_until = min(process.stopped_until, self._world.now)
        for sidecar in self._stage.sidecars.values():
            sidecar.refuses_until = 0.0
            # Somebody sets the clocks right; a boot that was made up while one ran ahead must not bar the next ones.
            sidecar.machine.wall_ms = 30 * 86_400_000
        self._stage.hub.slow_disk_s = self._stage.hub.full_until = 0.0

    # --- supervisors --------------------------------------------------------------------------------------------------

    def _hub_ended(self) -> None:
        self._world.later(self._pause_s(), self._start_hub)

    def _start_hub(self) -> None:
        if not (self._stage.hub.process and not self._stage.hub.process.is_dead):
            self._stage.hub.start()
            self._stage.network.revived("hub")

    def _sidecar_ended(self, sidecar: Sidecar) -> None:
        self._world.later(self._away_s.pop(sidecar.name, 0.0) or self._pause_s(), self._start_sidecar, sidecar)

    def _start_sidecar(self, sidecar: Sidecar) -> None:
        if not sidecar.is_up:
            if sidecar.name in self._wiped:
                self._wiped.discard(sidecar.name)
                sidecar.lose_state()
            if self._is_over:
                sidecar.take_name_back()
            sidecar.start()
            self._stage.network.revived(sidecar.machine.name)

    def _pause_s(self) -> float:
        if self._is_over:
            return 2.0
        return self._chance.choice([0.05, self._chance.uniform(0.1, 3.0), self._chance.uniform(3.0, 45.0)])

    # --- the hub ------------------------------------------------------------------------------------------------------

    def _hub_kill(self, _fault: Fault) -> None:
        self._stage.hub.kill()

    def _hub_off(self, _fault: Fault) -> None:
        self._stage.hub.kill(silently=True)

    def _hub_stop(self, fault: Fault) -> None:
        if (process := self._stage.hub.process) is not None:
            process.stop_for(fault.seconds)

    def _hub_disk_before(self, _fault: Fault) -> None:
        if self._stage.hub.store is not None:
            self._stage.hub.store.refuses = "before"

    def _hub_disk_after(self, _fault: Fault) -> None:
        if self._stage.hub.store is not None:
            self._stage.hub.store.refuses = "after"

    def _hub_slow_disk(self, fault: Fault) -> None:
        hub = self._stage.hub
        hub.slow_disk_s = fault.amount
        self._world.later(fault.seconds, setattr, hub, "slow_disk_s", 0.0)

    def _hub_full(self, fault: Fault) -> None:
        self._stage.hub.full_until = self._world.now + fault.seconds

    def _hub_wall(self, fault: Fault) -> None:
        self._stage.hub.machine.wall_ms += int(fault.amount)

    # --- sidecars -----------------------------------------------------------------------------------------------------

    def _of(self, fault: Fault) -> Sidecar:
        return self._stage.sidecars[fault.who]

    def _kill(self, fault: Fault) -> None:
        self._of(fault).kill()

    def _gone(self, fault: Fault) -> None:
        """Killed, and nobody starts it again for so long; no seed draws this."""
        self._away_s[fault.who] = fault.seconds
        self._of(fault).kill()

    def _off(self, fault: Fault) -> None:
        self._of(fault).kill(silently=True)

    def _wipe(self, fault: Fault) -> None:
        self._wiped.add(fault.who)
        self._of(fault).kill()

    def _stop(self, fault: Fault) -> None:
        sidecar = self._of(fault)
        if sidecar.process is not None and sidecar.is_up:
            sidecar.process.stop_for(fault.seconds)

    def _sleep(self, fault: Fault) -> None:
        sidecar = self._of(fault)
        if sidecar.process is not None and sidecar.is_up:
            sidecar.process.stop_for(fault.seconds, asleep=True)
            sidecar.machine.asleep_s += fault.seconds * sidecar.machine.rate
            if fault.seconds > MARGIN_S:
                self._excuse(f"{fault.who}/", fault.seconds + 2.0, "its machine was asleep")

    def _disk(self, fault: Fault) -> None:
        self._of(fault).refuses_until = self._world.now + fault.seconds

    def _wall(self, fault: Fault) -> None:
        self._of(fault).machine.wall_ms += int(fault.amount)

    def _leave(self, fault: Fault) -> None:
        self._of(fault).leave(fault.seconds)

    def _clone(self, fault: Fault) -> None:
        """Somebody starts another sidecar of the same name elsewhere, with a copy of its state directory or without."""
        like, number = self._of(fault), len(self.clones)
        if int(fault.at * 1000) % 2 and like.folder.exists():
            shutil.copytree(like.folder, self._stage.folder / f"clone{number}")
        clone = Sidecar(
            self._world,
            self._stage.network,
            self._stage.history,
            self._stage.hub,
            self._stage.folder / f"clone{number}",
            name=like.name,
            machine=Machine(f"clone{number}"),
            slots=like.slots,
            capabilities=like.capabilities,
        )
        self.clones.append(clone)
        clone.start()
        self._world.later(fault.seconds, clone.kill)
        for process in (f"{like.name}/", f"clone{number}/"):
            self._excuse(process, 1e9, "somebody else had its name", is_push_excused=True)

    def _excuse(self, process: str, seconds: float, why: str, *, is_push_excused: bool = False) -> None:
        now = self._world.now
        self._stage.history.excuses.append(Excuse(process, now, now + seconds, why, is_push_excused=is_push_excused))

    # --- the network --------------------------------------------------------------------------------------------------

    def _cut(self, fault: Fault) -> None:
        self._stage.network.cut(fault.who)

    def _block_up(self, fault: Fault) -> None:
        self._stage.network.route(fault.who).up_until = self._world.now + fault.seconds

    def _block_down(self, fault: Fault) -> None:
        self._stage.network.route(fault.who).down_until = self._world.now + fault.seconds

    def _block(self, fault: Fault) -> None:
        self._block_up(fault)
        self._block_down(fault)

    def _refuse(self, fault: Fault) -> None:
        self._stage.network.route(fault.who).refuses_until = self._world.now + fault.seconds

    def _slow(self, fault: Fault) -> None:
        route = self._stage.network.route(fault.who)
        before = route.jitter_s
        route.jitter_s = fault.amount
        self._world.later(fault.seconds, setattr, route, "jitter_s", before)
