"""Machines: what sidecars report of them, their last minute and hour, and what is remembered of both over a restart.

Readings cost no commit. Each machine that reports is stored once a minute, its hour every ten; so is what has not been
when the hub ends in order. A hub that is killed forgets a minute of readings, which its sidecars tell again, and up to
ten minutes of the hour.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import msgspec
import structlog

from hub.core.agent import Agent
from hub.core.fleet import Fleet
from hub.core.history import History
from hub.core.hosts import cramped, report_of
from hub.core.measures import Measure
from hub.store.hub_changes import KeepMeasures
from hub.store.store import Start, Store
from protocol.clock import Clock
from protocol.errors import NotFound
from protocol.host_views import HostHistory, HostList, HostView, Series
from protocol.machine import HostReport
from protocol.messages import Heartbeat
from protocol.model import AgentState

log = structlog.get_logger(__name__)

MINUTE, HOUR = "minute", "hour"
SPANS: Final = (MINUTE, HOUR)
LOOK_S: Final = 5.0
SAVE_S: Final = 60.0
SAVES_AN_HOUR_BLOB: Final = 10
"""Every so many times that a machine is stored, its hour is too."""
MAX_SAVED: Final = 100
"""Machines that are stored at a time, so that a large fleet is spread over the minute."""
MAX_KEPT: Final = 20_000
"""Machines that are remembered over a restart; the one that reported longest ago goes first."""
REPORT, LAST_HOUR = "host", "host_hour"
SILENT_S: Final = 15.0
"""After this another sidecar on the same machine writes its history: two at a time would make it jump."""


@dataclass(slots=True)
class Machine:
    """What is kept of a machine beside the reports of its agents.

    Attributes:
        by: the agent whose readings its history is made of; heard_at: when the last one came.
        saved_at: when it was last stored, and saves: how often; is_told: there is something that is not stored.
    """

    history: History = field(default_factory=History)
    by: str = ""
    heard_at: float = float("-inf")
    saved_at: float = float("-inf")
    saves: int = 0
    is_told: bool = False
    report: HostReport | None = None


class Hosts:
    """The use cases around machines; ``on_report`` is told of the agent whose machine has reported."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        clock: Clock,
        on_report: Callable[[Agent], None] = lambda _agent: None,
        *,
        workspace_bytes: int = 0,
    ) -> None:
        self._store, self._fleet, self._clock, self._on_report = store, fleet, clock, on_report
        self._workspace_bytes = workspace_bytes
        self._machines: dict[str, Machine] = {}

    def restore(self, start: Start) -> None:
        """What a previous hub knew; agents have been restored before."""
        on = self._by_name()
        for measure in start.measures:
            if measure.about not in {REPORT, LAST_HOUR} or measure.name not in on:
                continue
            machine = self._machines.setdefault(measure.name, Machine())
            try:
                if measure.about == LAST_HOUR:
                    machine.history = History.of(measure.value)
                else:
                    machine.report = msgspec.msgpack.decode(measure.value, type=HostReport)
            except ValueError as exc:  # written by another version; the sidecars will tell it anew
                log.warning("host_forgotten", host=measure.name, why=str(exc))
            for agent in on[measure.name]:
                agent.report = machine.report
                self._judge(agent)

    def heard(self, agent: Agent, heartbeat: Heartbeat) -> None:
        """A heartbeat may tell how the machine is."""
        if heartbeat.reading is not None:
            report = report_of(heartbeat.reading, agent.report)
        elif heartbeat.host is not None:
            report = heartbeat.host
        else:
            return
        agent.report = report
        self._judge(agent)
        self._on_report(agent)
        now = self._clock.monotonic()
        name = _name(agent)
        machine = self._machines.get(name)
        if machine is None:
            machine = self._machines[name] = Machine()
        if machine.by != agent.name and now - machine.heard_at < SILENT_S:
            return
        machine.by, machine.heard_at, machine.report, machine.is_told = agent.name, now, report, True
        machine.history.add(report, self._clock.now_ms() / 1000)

    def _judge(self, agent: Agent) -> None:
        """Whether the disk of the agent's machine can hold one more workspace; a change makes others look again."""
        was = agent.cramped
        found = cramped(agent.report, self._workspace_bytes, was=bool(was))
        if bool(found) is not bool(was):
            agent.cramped = found
            self._fleet.changed(agent)
            self._store.wake()
            log.warning("disk_cramped" if found else "disk_roomy", agent=agent.name, host=agent.host, why=found)

    # --- people -------------------------------------------------------------------------------------------------------

    def hosts(self) -> HostList:
        """All machines, by name, each with the newest report of its agents."""
        return HostList(hosts=tuple(_view(name, agents) for name, agents in sorted(self._by_name().items())))

    def host(self, name: str) -> HostView:
        """One machine.

        Raises:
            NotFound: no agent is on a machine of that name.
        """
        agents = self._by_name().get(name)
        if agents is None:
            raise NotFound("host", name)
        return _view(name, agents)

    def history(self, name: str, span: str) -> HostHistory:
        """What a machine did in the last minute, reading by reading, or in the last hour, minute by minute.

        Raises:
            NotFound: no agent is on a machine of that name.
        """
        self.host(name)
        history = self._machines[name].history if name in self._machines else History()
        now = self._clock.now_ms() / 1000
        times, shown = history.minute(now) if span == MINUTE else history.hour(now)
        return HostHistory(
            host=name,
            span=span,
            at=tuple(datetime.fromtimestamp(at, UTC) for at in times),
            series=tuple(Series(metric=s.metric, gpu=s.gpu, mean=s.mean, low=s.low, high=s.high) for s in shown),
        )

    def _by_name(self) -> dict[str, list[Agent]]:
        found: dict[str, list[Agent]] = {}
        for agent in self._fleet.agents.values():
            found.setdefault(_name(agent), []).append(agent)
        return found

    # --- what is remembered -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Store what is due, until cancelled; then all that is not stored."""
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                self.save()
        finally:
            self.save_all()

    def save_all(self) -> None:
        """Store all that is not stored, hours too: the hub ends."""
        self._save(self._machines, with_hour=True)

    def save(self) -> None:
        """Store the machines whose turn it is, and forget those that no agent is on any more."""
        now = self._clock.monotonic()
        due = sorted((m.saved_at, name) for name, m in self._machines.items() if m.saved_at <= now - SAVE_S)
        self._save((name for _, name in due[:MAX_SAVED]), with_hour=False)
        for name in self._machines.keys() - self._by_name().keys():
            del self._machines[name]

    def _save(self, names: Iterable[str], *, with_hour: bool) -> None:
        measures = []
        for name in names:
            machine = self._machines[name]
            if not machine.is_told or machine.report is None:
                continue
            hour = with_hour or machine.saves % SAVES_AN_HOUR_BLOB == SAVES_AN_HOUR_BLOB - 1
            machine.saved_at, machine.is_told = self._clock.monotonic(), False
            machine.saves += 1
            measures.append(Measure(REPORT, name, msgspec.msgpack.encode(machine.report)))
            if hour:
                measures.append(Measure(LAST_HOUR, name, machine.history.kept()))
        if measures:
            self._store.post(KeepMeasures(at_ms=self._clock.now_ms(), measures=tuple(measures), most=MAX_KEPT))


def _name(agent: Agent) -> str:
    return agent.host or agent.name


def _view(name: str, agents: list[Agent]) -> HostView:
    reports = [agent.report for agent in agents if agent.report is not None]
    newest = max(reports, key=lambda report: report.at, default=None)
    models = {model.name for agent in agents for endpoint in agent.endpoints for model in endpoint.models}
    return HostView(
        name=name,
        agents=tuple(sorted(agent.name for agent in agents)),
        cpu=newest.cpu if newest else None,
        ram=newest.ram if newest else None,
        swap=newest.swap if newest else None,
        disk=newest.disk if newest else None,
        workspace=newest.workspace if newest else None,
        gpus=newest.gpus if newest else (),
        notes=newest.notes if newest else {},
        models=tuple(sorted(models)),
        at=newest.at if newest else None,
        online=any(agent.state is not AgentState.OFFLINE for agent in agents),
    )
