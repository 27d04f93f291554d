"""The promises of the session: every ordered message exactly once and in order, whatever the line and the peer do."""

import pytest

from protocol import codec
from protocol.bounds import MAX_SENTENCE_CHARS
from protocol.errors import FrameTooLarge, MalformedFrame, Overloaded, ProtocolViolation
from protocol.limits import BULK_FRAME_BYTES, MAX_FRAME_BYTES, MAX_UNACKED, MAX_UNACKED_BYTES
from protocol.messages import Accept, Ack, Cancel, Drain, Error, Heartbeat, Log, Ordered
from protocol.model import AttemptId
from protocol.session import Session
from tests.support.sessions import carry, joined, note, said


def output(number: int, size_bytes: int) -> Log:
    return Log(attempt=AttemptId("A", 1, "t", 1), offset=number, stream="stdout", text="x" * size_bytes)


def everything(a: Session) -> list[bytes]:
    """All frames that a line would carry."""
    found: list[bytes] = []
    while frames := a.data_to_send():
        found += frames
    return found


@pytest.fixture
def pair() -> tuple[Session, Session]:
    a, b = Session(), Session()
    joined(a, b)
    return a, b


def test_messages_arrive_in_order_and_are_acknowledged(pair: tuple[Session, Session]) -> None:
    a, b = pair
    numbers = [a.send(note(number)) for number in (1, 2, 3)]
    taken = carry(a, b)
    carry(b, a)

    assert numbers == [1, 2, 3]
    assert [said(message) for message in taken] == [1, 2, 3]
    assert (a.unacked, a.acknowledged) == (0, 3)


def test_what_was_said_without_a_line_waits_for_one() -> None:
    a, b = Session(), Session()
    a.send(note(1))
    number = a.send(Heartbeat(sidecar="A", boot=1))

    assert number == 0
    assert a.data_to_send() == []

    joined(a, b)

    assert [said(message) for message in carry(a, b)] == [1]


def test_nothing_is_acknowledged_before_it_is_safe(pair: tuple[Session, Session]) -> None:
    a, b = pair
    for number in (1, 2, 3):
        a.send(note(number))
    for frame in a.data_to_send():
        b.receive(frame, 0)
    b.acknowledge(1)
    b.acknowledge(3)
    carry(b, a)

    assert a.acknowledged == 1

    b.acknowledge(2)
    b.acknowledge(2)
    carry(b, a)

    assert a.acknowledged == 3


def test_a_lost_acknowledgement_is_told_again_on_the_next_line(pair: tuple[Session, Session]) -> None:
    a, b = pair
    a.send(note(1))
    carry(a, b)
    b.data_to_send()  # lost
    a.disconnected()
    b.disconnected()
    joined(a, b)

    assert carry(a, b) == []

    carry(b, a)

    assert a.unacked == 0


def test_a_message_that_comes_twice_is_acted_on_once(pair: tuple[Session, Session]) -> None:
    a, b = pair
    a.send(note(1))
    (frame,) = a.data_to_send()

    assert len(b.receive(frame, 0)) == 1
    assert b.receive(frame, 0) == []


@pytest.mark.parametrize("number", [0, 2, 7, -1])
def test_an_order_number_that_jumps_is_refused(number: int) -> None:
    session = Session()
    session.connected(0, 0)
    with pytest.raises(ProtocolViolation):
        session.receive(codec.encode(Drain(on=True, n=number)), 0)

    assert session.received == 0


def test_good_messages_before_a_bad_one_are_not_lost_with_the_frame() -> None:
    a, b = Session(), Session()
    joined(a, b)
    a.send(note(1))
    (good,) = a.data_to_send()
    frame = b"\x92" + good + codec.encode(Drain(on=True, n=9))
    with pytest.raises(ProtocolViolation, match="expected message 2, found message 9"):
        b.receive(frame, 0)
    a.disconnected()
    b.disconnected()
    joined(a, b)

    assert [said(message) for message in carry(a, b)] == [1]


def test_an_acknowledgement_of_what_was_never_sent_is_refused(pair: tuple[Session, Session]) -> None:
    a, _ = pair
    a.send(note(1))

    assert a.receive(codec.encode(Ack(n=1)), 0) == []
    with pytest.raises(ProtocolViolation, match="an acknowledgement below 2"):
        a.receive(codec.encode(Ack(n=2)), 0)


def test_a_peer_that_has_received_what_was_never_sent_means_another_session() -> None:
    session = Session()
    with pytest.raises(ProtocolViolation, match="expected a count below 1, found 4"):
        session.connected(4, 0)

    assert not session.is_connected


def test_a_peer_that_restarted_gets_what_it_had_not_acknowledged_under_new_numbers(
    pair: tuple[Session, Session],
) -> None:
    a, b = pair
    for number in (1, 2, 3, 4):
        a.send(note(number))
    for frame in a.data_to_send():
        b.receive(frame, 0)
    b.acknowledge(1)
    b.acknowledge(2)
    carry(b, a)
    a.disconnected()
    fresh = Session()
    renumbered = a.peer_restarted()
    joined(a, fresh)

    assert renumbered == {3: 1, 4: 2}
    assert [said(message) for message in carry(a, fresh)] == [3, 4]


def test_what_comes_encoded_is_sent_as_it_stands_under_the_number_of_its_turn(pair: tuple[Session, Session]) -> None:
    a, b = pair
    beat = Heartbeat(sidecar="A", boot=1)
    a.send(note(1))
    a.send(note(2), codec.encode(note(3)))
    a.send(beat, codec.encode(beat))
    found = carry(a, b)

    assert found[0] == beat
    assert [(said(message), message.n) for message in found if isinstance(message, Ordered)] == [(1, 1), (3, 2)]

    a.disconnected()
    a.send(note(4), codec.encode(note(4)))
    a.peer_restarted()
    fresh = Session()
    joined(a, fresh)

    assert [said(message) for message in carry(a, fresh)] == [1, 3, 4]
    with pytest.raises(FrameTooLarge):
        a.send(note(5), codec.encode(note(5)) + bytes(MAX_FRAME_BYTES))


def test_a_frame_that_is_no_frame_changes_nothing(pair: tuple[Session, Session]) -> None:
    a, b = pair
    for frame in (b"", b"\xc1", b"\x91\x91", b"\x90\xc1"):
        with pytest.raises(MalformedFrame):
            b.receive(frame, 0)
    with pytest.raises(FrameTooLarge):
        b.receive(b"\xc0" * (MAX_FRAME_BYTES + 1), 0)
    a.send(note(1))

    assert [said(message) for message in carry(a, b)] == [1]


@pytest.mark.parametrize(
    "message",
    [
        Log(attempt=AttemptId("A", 1, "t", 1), offset=0, stream="stdout", text="x" * MAX_FRAME_BYTES),
        Error(code="x", detail="x" * MAX_FRAME_BYTES),
    ],
)
def test_a_message_that_fits_no_frame_is_refused_and_harms_no_other(message: Log | Error) -> None:
    a, b = Session(), Session()
    joined(a, b)
    a.send(note(1))
    with pytest.raises(FrameTooLarge):
        a.send(message)
    a.send(note(2))

    assert [said(taken) for taken in carry(a, b)] == [1, 2]


def test_messages_that_belong_together_are_sent_all_or_none() -> None:
    a, b = Session(), Session()
    joined(a, b)
    a.send_all([note(1), note(2)])
    with pytest.raises(FrameTooLarge):
        a.send_all([note(3), output(4, MAX_FRAME_BYTES)])
    a.send_all([note(5)])
    found = carry(a, b)
    assert [(said(message), message.n) for message in found if isinstance(message, Ordered)] == [(1, 1), (2, 2), (5, 3)]

    full = Session()
    full.send_all([note(number) for number in range(MAX_UNACKED - 1)])
    with pytest.raises(Overloaded):
        full.send_all([note(1), note(2)])
    full.send_all([note(1)])
    assert full.unacked == MAX_UNACKED


def test_more_than_a_peer_may_leave_unacknowledged_is_refused() -> None:
    session = Session()
    for number in range(MAX_UNACKED):
        session.send(note(number))
    with pytest.raises(Overloaded):
        session.send(note(0))

    assert session.send(Heartbeat(sidecar="A", boot=1)) == 0
    assert session.unacked == MAX_UNACKED


def test_a_large_backlog_goes_out_in_frames_that_fit() -> None:
    a, b = Session(), Session()
    for number in range(100):
        a.send(output(number, 30_000))
    joined(a, b)
    frames = everything(a)

    assert len(frames) > 1
    assert max(map(len, frames)) <= BULK_FRAME_BYTES + 5
    assert sum(len(b.receive(frame, 0)) for frame in frames) == 100


def test_a_heartbeat_has_at_most_one_frame_of_bulk_before_it() -> None:
    a, b = Session(), Session()
    joined(a, b)
    for number in range(100):
        a.send(output(number, 30_000))
    (first,) = a.data_to_send()
    a.send(Heartbeat(sidecar="A", boot=1))
    urgent, second = a.data_to_send()

    assert len(first) <= BULK_FRAME_BYTES + 5
    assert len(b.receive(first, 0)) == 8
    assert b.receive(urgent, 0) == [Heartbeat(sidecar="A", boot=1)]
    assert len(b.receive(second, 0)) == 8


def test_what_is_small_shares_a_frame_with_what_is_urgent() -> None:
    a, b = Session(), Session()
    joined(a, b)
    a.send(output(0, 1_000))
    a.send(Heartbeat(sidecar="A", boot=1))
    (frame,) = a.data_to_send()

    assert [type(message).__name__ for message in b.receive(frame, 0)] == ["Heartbeat", "Log"]


def test_it_tells_how_much_waits_to_be_written() -> None:
    session = Session()
    session.connected(0, 0.0)
    session.ping(0.0)
    ping = session.waiting_bytes
    session.send(Log(attempt=AttemptId("A", 1, "t", 1), offset=0, stream="stdout", text="x" * 1_000))
    both = session.waiting_bytes
    (frame,) = session.data_to_send()

    assert 0 < ping < both - 1_000
    assert both == len(frame) - 1  # the head of the frame
    assert session.waiting_bytes == 0


def test_a_message_larger_than_a_frame_of_bulk_goes_alone() -> None:
    a, b = Session(), Session()
    joined(a, b)
    for number, size in enumerate((10, BULK_FRAME_BYTES + 1, 10)):
        a.send(output(number, size))

    assert [len(b.receive(frame, 0)) for frame in everything(a)] == [1, 1, 1]


def test_unacknowledged_bytes_have_a_limit_too_and_make_room_again() -> None:
    a, b = Session(), Session()
    joined(a, b)
    number = 0
    while a.unacked_bytes < MAX_UNACKED_BYTES:
        a.send(output(number := number + 1, 500_000))
    with pytest.raises(Overloaded, match="unacknowledged"):
        a.send(output(0, 1))

    assert number < MAX_UNACKED
    carry(a, b)
    carry(b, a)
    assert a.unacked_bytes == 0


def test_an_accept_is_numbered_by_the_session_alone(pair: tuple[Session, Session]) -> None:
    a, b = pair
    a.send(Accept(attempt=AttemptId("A", 1, "t", 1), n=77))
    (message,) = carry(a, b)

    assert isinstance(message, Accept)
    assert message.n == 1


def test_a_message_without_a_number_is_handed_over_every_time_it_comes() -> None:
    session = Session()
    session.connected(0, 0.0)
    heartbeat = Heartbeat(sidecar="a", boot=1)
    frame = codec.encode(heartbeat)

    assert session.receive(frame, 1.0) == session.receive(frame, 2.0) == [heartbeat]
    assert session.received == 0


def test_what_has_become_wrong_is_sent_again_as_something_else_under_its_number() -> None:
    session = Session()
    session.connected(0, 0.0)
    first, second = (AttemptId("a", 1, task, 1) for task in "tu")
    for attempt in (first, second):
        session.send(Cancel(attempt=attempt, reason="old"))
    session.disconnected()
    session.revise(lambda m: Cancel(attempt=first, reason="new") if m.n == 1 else m)
    session.connected(0, 1.0)
    sent = [message for frame in session.data_to_send() for message in codec.decode(frame)]

    assert sent == [Cancel(attempt=first, reason="new", n=1), Cancel(attempt=second, reason="old", n=2)]


def test_what_the_peer_will_refuse_stays_as_it_is_and_keeps_its_number() -> None:
    session = Session()
    session.connected(0, 0.0)
    attempt = AttemptId("a", 1, "t", 1)
    session.send(Cancel(attempt=attempt, reason="x" * (MAX_SENTENCE_CHARS + 1)))
    session.send(Cancel(attempt=attempt, reason="old"))
    session.disconnected()
    session.revise(lambda _message: Cancel(attempt=attempt, reason="new"))
    session.connected(0, 1.0)
    (frame,) = session.data_to_send()

    assert frame.endswith(codec.encode(Cancel(attempt=attempt, reason="new", n=2)))
    assert session.unacked == 2
