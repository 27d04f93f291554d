"""The promise of a link: an acknowledgement tells only of what is safe."""

from hub.gateway.connection import Link
from protocol import codec
from protocol.messages import Accept, Ack
from protocol.model import AttemptId
from protocol.session import Session


def accept(number: int) -> bytes:
    return codec.encode(Accept(n=number, attempt=AttemptId("a", 1, f"{number}", 1)))


def acknowledged(link: Link) -> list[int]:
    found = [message for frame in link.session.data_to_send() for message in codec.decode(frame)]
    return [message.n for message in found if isinstance(message, Ack)]


def test_what_was_safe_before_the_peer_counted_anew_acknowledges_nothing_after_it() -> None:
    link = Link("a", 1, Session())
    link.session.connected(0, 0.0)
    for number in (1, 2):
        link.session.receive(accept(number), 0.0)
    before = link.session.count
    link.answered(1, before)
    assert acknowledged(link) == [1]

    link.session.peer_restarted()
    link.session.connected(0, 1.0)
    for number in (1, 2):
        link.session.receive(accept(number), 1.0)
    link.answered(2, before)  # of the old count: stored late, but the peer means another message by this number
    link.answered(1, link.session.count)
    assert acknowledged(link) == [1]

    link.answered(2, link.session.count)
    assert acknowledged(link) == [2]
