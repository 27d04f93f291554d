"""Machines: what sidecars report of them, for people and for the scheduler."""

from hub.core.agent import Agent
from hub.core.fleet import Fleet
from hub.core.hosts import report_of
from protocol.api import HostList, HostView
from protocol.messages import Heartbeat
from protocol.model import AgentState


class Hosts:
    """The use cases around machines."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def heard(self, agent: Agent, heartbeat: Heartbeat) -> None:
        """A heartbeat may tell how the machine is."""
        if heartbeat.reading is not None:
            agent.report = report_of(heartbeat.reading, agent.report)
        elif heartbeat.host is not None:
            agent.report = heartbeat.host

    def hosts(self) -> HostList:
        """All machines, by name, each with the newest report of its agents."""
        found: dict[str, list[Agent]] = {}
        for agent in self._fleet.agents.values():
            found.setdefault(agent.host or agent.name, []).append(agent)
        return HostList(hosts=tuple(_view(name, agents) for name, agents in sorted(found.items())))


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
