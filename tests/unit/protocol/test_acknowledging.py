"""The promise of acknowledging many at once: it says what one by one would say, and leaves nothing behind."""

import pytest

from protocol.messages import Accept
from protocol.model import AttemptId
from protocol.session import Session


@pytest.fixture
def session() -> Session:
    """One that has received nine messages."""
    a, b = Session(), Session()
    for each in (a, b):
        each.connected(0, 0.0)
    for number in range(1, 10):
        a.send(Accept(attempt=AttemptId("a", 1, str(number), 1)))
    for frame in a.data_to_send():
        b.receive(frame, 0.0)
    return b


def test_many_that_are_safe_are_acknowledged_as_one_by_one(session: Session) -> None:
    session.acknowledge(9)
    session.acknowledge(5, 6)
    session.acknowledge(2, 3)
    assert session.safe == 0

    session.acknowledge(1)
    assert session.safe == 3

    session.acknowledge(4, 7)
    session.acknowledge(1, 2)
    assert session.safe == 7

    session.acknowledge(8)
    assert session.safe == 9
    assert not session._safe_later


def test_everything_up_to_a_number_is_safe_in_one_go(session: Session) -> None:
    session.acknowledge(3)
    session.acknowledge(5)
    session.acknowledge_all(4)
    session.acknowledge_all(2)
    assert session.safe == 4

    session.acknowledge_all(5)
    session.acknowledge(6)
    assert session.safe == 6
