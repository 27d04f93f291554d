"""The promise to the owner of a machine: who works elsewhere with its GPU is told to stop, once."""

from hub.clock import SystemClock
from hub.core.agent import Held
from hub.core.fleet import Fleet
from hub.services.reclaiming import Reclaiming
from protocol.messages import Message, Pause
from protocol.model import AgentState, EndpointKind, EndpointReport
from protocol.progress import PAUSE, RECLAIMED


class Line:
    """A line to sidecars that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Message]] = []

    def send(self, agent: str, _boot: int, message: Message) -> None:
        """Keep it."""
        self.sent.append((agent, message))


def held(task: str, agent: str, server: tuple[str, str] | None) -> Held:
    return Held(task=task, epoch=1, agent=agent, boot=1, lease_until=1e9, server=server, is_committed=True)


def test_work_that_uses_the_gpu_through_an_endpoint_that_people_have_added_is_told_to_stop_once() -> None:
    fleet, line = Fleet(), Line()
    for name in ("a", "b"):
        agent = fleet.agent(name)
        agent.state, agent.host, agent.capabilities = AgentState.IDLE, name, frozenset({PAUSE})
    fleet.endpoints = (
        EndpointReport(id="box", kind=EndpointKind.OLLAMA, url="http://b:11434", local=True),
        EndpointReport(id="other", kind=EndpointKind.OLLAMA, url="http://c:11434", local=True),
    )
    for each in (
        held("1", "a", ("", "box")),
        held("2", "a", ("", "other")),
        held("3", "a", ("a", "box")),
        held("4", "a", None),
    ):
        fleet.take(each)
    reclaiming = Reclaiming(None, fleet, line, SystemClock())  # type: ignore[arg-type]  # nothing is stored here
    reclaiming.look()
    assert line.sent == []
    fleet.agents["b"].capabilities |= {RECLAIMED}
    fleet.changed(fleet.agents["b"])
    for _ in range(3):
        reclaiming.look()

    ((agent_name, message),) = line.sent
    assert agent_name == "a"
    assert isinstance(message, Pause)
    assert (message.attempt.task, message.on) == ("1", True)
    assert "LLM endpoint box wants its GPU back" in message.reason
