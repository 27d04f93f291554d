"""One line an agent, a machine or a GPU: the long part of ``/metrics``, written before it is asked for.

With a thousand agents these are thousands of lines, and a scrape may not stop the hub for longer than a heartbeat can
wait. So while somebody reads them, the lines of a machine are written when its report comes, and a scrape only puts
them together. Their number is bounded. Callers: ``hub/metrics.py`` (asks), ``hub/services/hosts.py`` (reports).
"""

from collections.abc import Iterator, Sequence
from typing import Final

from hub.core import series
from hub.core.agent import Agent
from hub.core.fleet import Fleet
from hub.core.hosts import free_bytes
from hub.exposition import head, told
from protocol.machine import GpuReport, HostReport
from protocol.model import AgentState

MOST: Final = 2_000
"""Agents, machines and endpoints that have lines of their own, the first by name."""
MOST_UNREAD: Final = 60
"""After so many reports of a machine that nobody has read its lines are written when somebody asks again."""
_Metrics = tuple[tuple[str, str], ...]
_AGENTS: Final[_Metrics] = (
    ("agentcom_agent_slots", "Attempts that the agent may hold"),
    ("agentcom_agent_slots_busy", "Attempts that the agent holds"),
)
_MACHINES: Final[_Metrics] = (
    ("agentcom_host_cpu_ratio", "Load of all processors together"),
    ("agentcom_host_memory_ratio", "Share of main memory in use"),
    ("agentcom_host_disk_free_bytes", "Free on the disk with workspaces"),
    ("agentcom_host_disk_ratio", "Share of the disk with workspaces in use"),
    ("agentcom_gpu_utilization_ratio", "How busy the GPU is"),
    ("agentcom_gpu_memory_ratio", "Share of the GPU's memory in use"),
    ("agentcom_gpu_temperature_celsius", "Temperature of the GPU"),
)


class _Lines:
    """The lines of one agent and of its machine; ``unread``: reports since somebody has read them."""

    __slots__ = ("_busy", "_report", "_where", "agent", "machine", "unread")

    def __init__(self) -> None:
        self._busy, self._where = (-1, -1), ""
        self._report: HostReport | None = None
        self.agent: tuple[bytes, ...] = ()
        self.machine: tuple[bytes, ...] = ()
        self.unread = 0

    def look(self, agent: Agent) -> None:
        """Write those anew that say something else by now."""
        busy = (agent.slots, len(agent.held) + len(agent.away))
        if busy != self._busy:
            self._busy, name = busy, told(agent.name)
            values = zip(_AGENTS, busy, strict=True)
            self.agent = tuple(f'{metric}{{agent="{name}"}} {value}\n'.encode() for (metric, _), value in values)
        where = agent.host or agent.name
        if agent.report is not None and (agent.report is not self._report or where != self._where):
            self._report, self._where = agent.report, where
            self.machine = (*_machine(f'host="{told(where)}"', agent.report),)


class Gauges:
    """What is told of agents, machines and GPUs, in a form that is both the text format's and OpenMetrics'."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._kept: dict[str, _Lines] = {}

    def heard(self, agent: Agent) -> None:
        """A report of its machine has come."""
        lines = self._kept.get(agent.name)
        if lines is not None and lines.unread < MOST_UNREAD:
            lines.unread += 1
            lines.look(agent)

    def written(self) -> bytes:
        """All lines, as things are now."""
        found, kept = self._fleet.agents, self._kept
        online = [found[name] for name in sorted(found)[:MOST] if found[name].state is not AgentState.OFFLINE]
        self._kept = {agent.name: kept.get(agent.name) or _Lines() for agent in online}
        agents: list[tuple[bytes, ...]] = []
        machines: dict[str, tuple[bytes, ...]] = {}
        for agent in online:
            lines = self._kept[agent.name]
            lines.look(agent)
            lines.unread = 0
            agents.append(lines.agent)
            if agent.report is not None:
                machines[agent.host or agent.name] = lines.machine
        return b"".join((*_columns(_AGENTS, agents), *_columns(_MACHINES, list(machines.values()))))


def _columns(metrics: _Metrics, rows: Sequence[tuple[bytes, ...]]) -> Iterator[bytes]:
    """Metric by metric what was written thing by thing."""
    for place, (name, text) in enumerate(metrics):
        yield head(name, "gauge", text).encode()
        yield b"".join([row[place] for row in rows])


def _machine(host: str, report: HostReport) -> Iterator[bytes]:
    """For each of ``_MACHINES`` the lines of a machine; ``host``: its label."""
    ram, disk = report.ram, report.workspace or report.disk
    figures: list[float | None] = [report.cpu.percent / 100, series.percent_of(ram.used_bytes, ram.total_bytes)]
    if disk is None:
        figures += (None, None)
    else:
        figures += (max(0, disk.total_bytes - disk.used_bytes), series.percent_of(disk.used_bytes, disk.total_bytes))
    for (name, _), figure in zip(_MACHINES[:4], figures, strict=True):
        yield b"" if figure is None else f"{name}{{{host}}} {_number(figure)}\n".encode()
    gpus = [(f'{host},gpu="{place}"', gpu) for place, gpu in enumerate(report.gpus)]
    for (name, _), figure_of in zip(_MACHINES[4:], (_busy, _full, _hot), strict=True):
        known = [(labels, figure) for labels, gpu in gpus if (figure := figure_of(gpu)) is not None]
        yield "".join(f"{name}{{{labels}}} {_number(figure)}\n" for labels, figure in known).encode()


def _number(figure: float) -> str:
    """Bytes to the last one; of what is measured more digits would say nothing."""
    return str(figure) if isinstance(figure, int) else f"{figure:.4g}"


def _busy(gpu: GpuReport) -> float | None:
    return None if gpu.utilization is None else gpu.utilization / 100


def _full(gpu: GpuReport) -> float | None:
    free = free_bytes(gpu)
    return None if free is None or not gpu.vram_total_bytes else 1 - free / gpu.vram_total_bytes


def _hot(gpu: GpuReport) -> float | None:
    return gpu.temperature_c
