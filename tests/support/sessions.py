"""Two sessions that talk, without a line between them."""

from protocol.messages import Ordered, Progress
from protocol.model import AttemptId, AttemptState
from protocol.session import Session


def note(number: int) -> Progress:
    """A message that must arrive, told from others by its number."""
    return Progress(attempt=AttemptId("A", 1, "t", number), state=AttemptState.RUNNING)


def said(message: object) -> int:
    """The number of a note."""
    assert isinstance(message, Progress)
    return message.attempt.epoch


def joined(a: Session, b: Session, now: float = 0.0) -> None:
    a_received, b_received = a.received, b.received
    a.connected(b_received, now)
    b.connected(a_received, now)


def carry(a: Session, b: Session, now: float = 0.0) -> list[object]:
    """All that ``a`` has to send arrives at ``b``; what ``b`` acts on, made safe at once."""
    taken: list[object] = []
    while frames := a.data_to_send():
        for message in [message for frame in frames for message in b.receive(frame, now)]:
            taken.append(message)
            if isinstance(message, Ordered):
                b.acknowledge(message.n)
    return taken
