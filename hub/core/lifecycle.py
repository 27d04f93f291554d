"""The states of an agent as a machine of the table in ``agent.py``; ``hub/services/presence.py`` lets things happen."""

from transitions import Machine

from hub.core.agent import AGENT_EDGES, Agent
from protocol.model import AgentState


class Lifecycle:
    """Joining, draining and leaving of agents, driven by the one table of agent states."""

    def __init__(self) -> None:
        self._machine = Machine(
            model=None,
            states=[state.value for state in AgentState],
            initial=AgentState.OFFLINE.value,
            auto_transitions=False,
            transitions=[[event, was.value, now.value] for (was, event), now in AGENT_EDGES.items()],
        )

    def fire(self, agent: Agent, event: str) -> None:
        """Let ``event`` happen to ``agent`` if its state allows it; an event that changes nothing is no error."""
        if event in self._machine.get_triggers(agent.state.value):
            agent.fire(event)
