"""The promise of taking work away: the slot is free at once and the agent that held it, and only that one, is told."""

from hub.core.agent import Held
from hub.core.ending import stop
from hub.core.fleet import Fleet
from protocol.messages import Cancel, Message
from protocol.model import AgentState, AttemptId


class Post:
    """A way to reach agents that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int, Message]] = []

    def send(self, agent: str, boot: int, message: Message) -> None:
        self.sent.append((agent, boot, message))


def fleet() -> Fleet:
    made = Fleet()
    made.agent("a").state = AgentState.IDLE
    made.take(Held("t", 2, "a", 7, 0.0))
    return made


def test_who_holds_the_attempt_is_told_to_stop_and_its_slot_is_free() -> None:
    made, post = fleet(), Post()
    stop(made, post, "t", 2, "cancelled")

    assert post.sent == [("a", 7, Cancel(attempt=AttemptId("a", 7, "t", 2), reason="cancelled"))]
    assert made.agents["a"].free_slots == 1


def test_another_attempt_is_left_alone() -> None:
    made, post = fleet(), Post()
    stop(made, post, "t", 1, "cancelled")
    stop(made, post, "u", 2, "cancelled")

    assert post.sent == []
    assert set(made.held) == {"t"}
