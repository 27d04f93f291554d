"""Promises of :mod:`protocol.session` about who lives: pings, their answers, and silence."""

import pytest

from protocol import codec
from protocol.limits import LONGEST_FRAME_S
from protocol.messages import Ping, Pong
from protocol.session import MAX_PINGS, Session
from tests.support.sessions import carry, joined


@pytest.fixture
def pair() -> tuple[Session, Session]:
    a, b = Session(), Session()
    joined(a, b)
    return a, b


def test_a_peer_whose_frame_is_still_coming_lives_but_not_for_ever() -> None:
    a, b = Session(), Session()
    joined(a, b)
    for now in range(1, int(LONGEST_FRAME_S) + 1):
        a.heard(100 + now, float(now))
        assert not a.is_dead(float(now))

    a.heard(200, LONGEST_FRAME_S + 10)
    assert a.is_dead(LONGEST_FRAME_S + 15)


def test_an_answer_counts_from_when_it_came_not_from_when_somebody_looked() -> None:
    a, b = Session(heartbeat_s=5.0), Session()
    joined(a, b)
    a.tick(5.0)
    carry(a, b, 5.1)
    a.read_bytes = 40  # of the frame that comes now
    carry(b, a, 5.2)

    a.heard(40, 10.5)  # a look soon after the deadline
    a.tick(10.5)
    assert a.has_words, "the second ping leaves a heartbeat after the first one's answer"


def test_a_ping_is_answered_and_the_answer_is_no_news(pair: tuple[Session, Session]) -> None:
    a, b = pair
    a.ping(3.0)
    carried = carry(a, b, 3.1), carry(b, a, 3.2)

    assert carried == ([], [])
    assert a.proven_at == 3.0


def test_an_answer_proves_only_what_was_sent_before_its_ping(pair: tuple[Session, Session]) -> None:
    a, b = pair
    a.ping(1.0)
    carry(a, b, 1.0)
    a.ping(2.0)
    a.data_to_send()  # the second ping is lost
    carry(b, a, 2.5)

    assert a.proven_at == 1.0
    a.receive(codec.encode(Pong(token=99)), 3.0)  # nobody asked
    assert a.proven_at == 1.0


def test_pings_that_nobody_answers_do_not_pile_up(pair: tuple[Session, Session]) -> None:
    a, _ = pair
    for number in range(MAX_PINGS * 3):
        a.ping(float(number))

    assert len(a._unanswered) == MAX_PINGS


def test_without_a_line_there_is_no_ping() -> None:
    session = Session()
    session.ping(1.0)
    session.tick(100.0)

    assert not session.is_dead(1_000.0)
    assert session.next_deadline(5.0) == 5.0 + session.heartbeat_s


def test_a_silent_peer_is_asked_and_then_counts_as_dead() -> None:
    session = Session(heartbeat_s=5, dead_after_s=15)
    session.connected(0, 0.0)
    session.tick(4.9)

    assert session.data_to_send() == []
    assert session.next_deadline(4.9) == 5.0

    session.tick(5.0)
    (frame,) = session.data_to_send()

    assert isinstance(codec.decode(frame)[0], Ping)
    assert session.next_deadline(5.0) == 10.0
    assert not session.is_dead(14.9)
    assert session.is_dead(15.0)

    session.receive(codec.encode(Ping(token=1)), 15.0)

    assert not session.is_dead(20.0)
