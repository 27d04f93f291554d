"""The promises of what waits for the hub, with the two real ends of a session and no line between."""

from protocol import codec
from protocol.limits import MAX_LOG_CHUNK_BYTES, MAX_UNACKED
from protocol.messages import Log, Ordered, Report
from protocol.session import Session
from sidecar.outbox import MAX_LOG_WAITING_BYTES, Outbox
from tests.support.links import attempt, report


def log(size_bytes: int) -> Log:
    return Log(attempt=attempt(1), offset=0, stream="stdout", text="x" * size_bytes)


def exchange(ours: Session, theirs: Session) -> list[Report]:
    """Carry everything across, and the acknowledgements back; the reports that arrived."""
    if not ours.is_connected:
        ours.connected(theirs.received, 0.0)
        theirs.connected(0, 0.0)
    arrived = []
    while frames := ours.data_to_send():
        for message in [message for frame in frames for message in theirs.receive(frame, 0.0)]:
            assert isinstance(message, Ordered)
            theirs.acknowledge(message.n)
            arrived += [message] if isinstance(message, Report) else []
    for frame in theirs.data_to_send():
        ours.receive(frame, 0.0)
    return arrived


def test_live_output_has_the_room_of_what_is_not_acknowledged() -> None:
    session = Session()
    outbox = Outbox(session)
    before = outbox.log_room
    outbox.send(log(MAX_LOG_CHUNK_BYTES))

    assert before == MAX_LOG_WAITING_BYTES
    assert outbox.log_room == before - MAX_LOG_CHUNK_BYTES

    exchange(session, Session())

    assert outbox.settle() == []
    assert outbox.log_room == before


def test_what_the_session_does_not_take_waits_in_order_and_makes_no_room_for_output() -> None:
    session, theirs = Session(), Session()
    outbox = Outbox(session)
    for number in range(MAX_UNACKED + 2):
        outbox.send(report(number))

    assert outbox.log_room == 0
    assert outbox.unacknowledged_reports == MAX_UNACKED + 2

    first = exchange(session, theirs)
    confirmed = outbox.settle()
    second = exchange(session, theirs)
    confirmed += outbox.settle()

    assert [message.attempt for message in first + second] == [attempt(number) for number in range(MAX_UNACKED + 2)]
    assert confirmed == [attempt(number) for number in range(MAX_UNACKED + 2)]
    assert outbox.unacknowledged_reports == 0


def test_what_was_looked_at_before_leaves_as_it_was_encoded_and_so_does_what_was_kept_back() -> None:
    session, theirs = Session(), Session()
    outbox = Outbox(session)
    lean = [codec.encode(report(number)) for number in range(MAX_UNACKED + 2)]
    for number, encoded in enumerate(lean):
        outbox.send(report(number + 20_000), encoded)
    found = exchange(session, theirs)
    outbox.settle()
    found += exchange(session, theirs)

    assert [message.attempt for message in found] == [attempt(number) for number in range(MAX_UNACKED + 2)]


async def test_everything_is_delivered_when_the_last_report_is_confirmed() -> None:
    session = Session()
    outbox = Outbox(session)
    await outbox.delivered()
    outbox.send(report(1))
    exchange(session, Session())
    outbox.settle()
    await outbox.delivered()

    assert outbox.unacknowledged_reports == 0


def test_another_boot_of_the_hub_gets_what_the_last_one_had_not_confirmed() -> None:
    session = Session()
    outbox = Outbox(session)
    outbox.send(log(10))
    outbox.send(report(1))
    exchange(session, Session())
    outbox.settle()
    outbox.send(log(20))
    outbox.send(report(2))
    session.disconnected()
    outbox.start_again()
    arrived = exchange(session, Session())

    assert [message.attempt for message in arrived] == [attempt(2)]
    assert outbox.settle() == [attempt(2)]
    assert outbox.log_room == MAX_LOG_WAITING_BYTES
