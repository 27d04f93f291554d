"""Take work away from an agent: the task has ended without it."""

from typing import Protocol

from hub.core.fleet import Fleet
from protocol.messages import Cancel, Message
from protocol.model import AttemptId


class AgentPort(Protocol):
    """How to reach an agent's sidecar; the gateway is one."""

    def send(self, agent: str, boot: int, message: Message) -> None:
        """Send now, or when that boot of the sidecar is back; dropped if it is gone for good."""
        ...


def stop(fleet: Fleet, agents: AgentPort, task: str, epoch: int, reason: str) -> None:
    """Free the slot of an attempt, if anybody holds it, and tell its agent to stop."""
    held = fleet.release(task, epoch)
    if held is not None:
        agents.send(held.agent, held.boot, Cancel(attempt=AttemptId(held.agent, held.boot, task, epoch), reason=reason))
