"""The owner of a machine wants its GPU back: the wish goes to the sidecar there, which keeps it and says what is so.

Nothing is stored here: a sidecar whose GPU was taken back says so in its capabilities, over every restart of either.
Work elsewhere that uses such a GPU through an endpoint that people have added is told to stop at the end of its turn.
"""

import asyncio
from typing import Final

import structlog

from hub.core.agent import Agent
from hub.core.ending import AgentPort
from hub.core.fleet import Fleet
from hub.store.changes import Record
from hub.store.store import Store
from protocol.clock import Clock
from protocol.errors import Conflict, NotFound, Unavailable
from protocol.events import Event, EventKind
from protocol.messages import Pause, Reclaim
from protocol.model import AgentState, AttemptId
from protocol.progress import PAUSE, RECLAIMED

log = structlog.get_logger(__name__)
CONFIRM_S: Final = 10.0
_LOOK_S: Final = 0.05
_EVERY_S: Final = 1.0


class Reclaiming:
    """The use cases of whoever owns a machine."""

    def __init__(self, store: Store, fleet: Fleet, agents: AgentPort, clock: Clock) -> None:
        self._store, self._fleet, self._agents, self._clock = store, fleet, agents, clock
        self._told: set[AttemptId] = set()

    async def run(self) -> None:
        """Look again and again, until cancelled: an owner may have said it to the machine itself."""
        while True:
            await asyncio.sleep(_EVERY_S)
            self.look()

    def look(self) -> None:
        """Tell work that uses somebody's GPU through an endpoint that people have added that it is to stop, once."""
        if not self._fleet.has_owners:
            self._told.clear()
            return
        added = {endpoint.id: endpoint for endpoint in self._fleet.endpoints}
        told = set[AttemptId]()
        for held in self._fleet.held.values():
            host, name = held.server or ("", "")
            if host or name not in added or not self._fleet.is_taken_back(added[name], held.agent):
                continue
            attempt = AttemptId(held.agent, held.boot, held.task, held.epoch)
            if held.is_committed and attempt not in self._told and PAUSE in self._fleet.agents[held.agent].capabilities:
                reason = f"the owner of the machine of LLM endpoint {name} wants its GPU back"
                self._agents.send(held.agent, held.boot, Pause(attempt=attempt, reason=reason))
                told.add(attempt)
            elif attempt in self._told:
                told.add(attempt)
        self._told = told

    async def reclaim(self, name: str, by: str) -> None:
        """Take the GPU of the agent's machine back; answers when its sidecar has heard it.

        Raises:
            NotFound: there is no such agent.
            Conflict: it is not connected to this hub, or of a version that cannot.
            Unavailable: it does not answer.
        """
        await self._have(name, by, on=True)

    async def give_back(self, name: str, by: str) -> None:
        """Give it to work again. Raises as :meth:`reclaim`."""
        await self._have(name, by, on=False)

    async def _have(self, name: str, by: str, *, on: bool) -> None:
        agent = self._agent(name)
        if (RECLAIMED in agent.capabilities) is on:
            return
        self._agents.send(agent.name, agent.boot, Reclaim(on=on, by=by))
        try:
            async with asyncio.timeout(CONFIRM_S):
                while (RECLAIMED in agent.capabilities) is not on:  # noqa: ASYNC110 - a heartbeat tells it
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            message = f"agent {name} has not confirmed it within {CONFIRM_S:g} s; it will when it hears it"
            raise Unavailable(message) from None
        kind = EventKind.AGENT_RECLAIMED if on else EventKind.AGENT_GIVEN_BACK
        log.info(kind.value, agent=name, by=by)
        await self._store.commit(Record(Event(kind=kind, at_ms=self._clock.now_ms(), agent=name, facts={"by": by})))

    def _agent(self, name: str) -> Agent:
        agent = self._fleet.agents.get(name)
        if agent is None:
            raise NotFound("agent", name)
        if agent.state is AgentState.OFFLINE:
            raise Conflict(f"agent {name} is not connected to this hub; on its machine: agentcom sidecar reclaim")
        if PAUSE not in agent.capabilities:
            raise Conflict(f"agent {name} is of a version that cannot give a GPU back")
        return agent
