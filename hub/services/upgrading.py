"""Machines get another release because people at the hub want it: the wish goes to the sidecar, the machine does it.

Nothing of it is stored: the machine keeps how far it has come and tells each step; a hub that restarts hears the next.
Callers: ``hub/web/agents.py``, ``hub/web/joining.py``.
"""

from typing import Final

import structlog

from hub.core.agent import Agent
from hub.core.ending import AgentPort
from hub.core.fleet import Fleet
from hub.store.changes import Record
from hub.store.store import Store
from protocol.clock import Clock
from protocol.errors import Conflict, NotFound
from protocol.events import Event, EventKind
from protocol.joining import UPGRADE, UpgradeTold
from protocol.messages import Upgrade
from protocol.model import AgentState

log = structlog.get_logger(__name__)
ASKED: Final = "asked"
"""The step before the machine has told one."""
LAST: Final = frozenset({"tidy", "back"})
"""The last step of an upgrade, and of one that was taken back."""
_SHOWN: Final = 300


class Upgrading:
    """The use cases of machines that get another release."""

    def __init__(self, store: Store, fleet: Fleet, agents: AgentPort, clock: Clock) -> None:
        self._store, self._fleet, self._agents, self._clock = store, fleet, agents, clock

    def check(self, name: str) -> Agent:
        """The agent, if its machine can be asked.

        Raises:
            NotFound: there is no such agent.
            Conflict: it is not connected to this hub, or its machine does not do it by itself.
        """
        agent = self._fleet.agents.get(name)
        if agent is None:
            raise NotFound("agent", name)
        if agent.state is AgentState.OFFLINE:
            raise Conflict(f"agent {name} is not connected to this hub; on its machine: agentcom upgrade")
        if UPGRADE not in agent.capabilities:
            raise Conflict(f"nobody upgrades the machine of agent {name} from here; on it: agentcom upgrade")
        return agent

    async def upgrade(self, name: str, by: str) -> None:
        """Have its machine get the release that this hub offers. Raises as :meth:`check`."""
        agent = self.check(name)
        agent.upgrade, agent.upgrade_failed = ASKED, ""
        facts = {"by": by, "from": agent.version}
        event = Event(kind=EventKind.AGENT_UPGRADING, at_ms=self._clock.now_ms(), agent=name, facts=facts)
        await self._store.commit(Record(event))
        log.info("agent_upgrading", agent=name, **facts)
        self._agents.send(agent.name, agent.boot, Upgrade(by=by))

    async def told(self, name: str, body: UpgradeTold) -> None:
        """The machine tells how it comes along."""
        agent = self._fleet.agents.get(name)
        if agent is None:
            return
        why = "".join(ch for ch in body.why if ch.isprintable())[:_SHOWN]
        step = "".join(ch for ch in body.step if ch.isalnum())[:20]
        agent.upgrade = "" if why or step in LAST else step
        if why or step != "back":
            agent.upgrade_failed = f"{step}: {why}" if why else ""
        if why:
            facts = {"step": step, "why": why}
            event = Event(kind=EventKind.AGENT_UPGRADE_FAILED, at_ms=self._clock.now_ms(), agent=name, facts=facts)
            await self._store.commit(Record(event))
            log.warning("agent_upgrade_failed", agent=name, **facts)
