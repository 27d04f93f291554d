"""The promises about a frame with a message that cannot be read: what it was is told, and the others count."""

import msgpack
import pytest

from protocol import codec
from protocol.errors import MalformedFrame, ProtocolViolation
from protocol.limits import MAX_FRAME_MESSAGES
from protocol.messages import Accept, Heartbeat
from protocol.model import AttemptId
from protocol.salvage import Unreadable, readable, salvage
from protocol.session import Session

ATTEMPT = ["A", 1, "01hzy0m5k3v8f6c2q9w4e7r1t0", 1]
GOOD = {"t": "accept", "n": 1, "attempt": ATTEMPT}
BAD = {
    "t": "report",
    "n": 2,
    "attempt": ATTEMPT,
    "state": "passed",
    "result": {"execution_ok": True, "verified": None, "commit": "c" * 3_000},
}


def salvaged(*messages: object) -> list[object]:
    frame = msgpack.packb(messages[0] if len(messages) == 1 else list(messages))
    with pytest.raises(MalformedFrame) as refused:
        codec.decode(frame)
    return list(salvage(frame, refused.value))


def test_what_stands_before_it_is_read_and_it_tells_its_number_its_kind_and_whose_it_is() -> None:
    accept, bad, after = salvaged(GOOD, BAD, GOOD)

    assert accept == after == Accept(n=1, attempt=AttemptId(*ATTEMPT))
    assert isinstance(bad, Unreadable)
    assert (bad.n, bad.kind, bad.attempt) == (2, "report", AttemptId(*ATTEMPT))
    assert "length <= 2048 - at `$.result.commit`" in bad.error.problem


@pytest.mark.parametrize(
    "message, expected",
    [
        ({"t": "heartbeat", "n": 5, "boot": "x"}, (0, "heartbeat", None)),  # of a kind that has no number
        ({"t": "newer", "n": 5, "attempt": ATTEMPT}, (5, "newer", AttemptId(*ATTEMPT))),
        ({"t": "newer"}, (0, "newer", None)),
        ({"t": "log", "n": -5}, (0, "log", None)),
        ({"t": "log", "n": 5, "attempt": "mine"}, (5, "log", None)),
        ({"t": "log", "n": "5"}, (0, "", None)),
        ({"t": 5, "n": 5}, (0, "", None)),
        ({"n": 5}, (0, "", None)),
        ([], (0, "", None)),
        ({**BAD, "result": {"output": b"\xff\xfe"}}, (2, "report", AttemptId(*ATTEMPT))),
    ],
)
def test_what_cannot_be_told_is_left_out(message: object, expected: object) -> None:
    *_, bad = salvaged(GOOD, message)

    assert isinstance(bad, Unreadable)
    assert (bad.n, bad.kind, bad.attempt) == expected


def test_text_that_is_none_does_not_hide_the_number() -> None:
    frame = msgpack.packb({**BAD, "result": {"output": "X" * 40}}).replace(b"X" * 40, b"\xff" * 40)

    [bad] = salvage(frame, MalformedFrame("no text", frame))

    assert isinstance(bad, Unreadable)
    assert (bad.n, bad.kind) == (2, "report")


@pytest.mark.parametrize(
    "frame", [b"", b"\xc1", b"\x91", b"\x91\x91", msgpack.packb([GOOD] * (MAX_FRAME_MESSAGES + 1))]
)
def test_a_frame_that_cannot_even_be_taken_apart_stays_malformed(frame: bytes) -> None:
    error = MalformedFrame("as it was", frame)

    with pytest.raises(MalformedFrame) as refused:
        salvage(frame, error)
    assert refused.value is error


def test_a_session_takes_its_number_and_what_follows_it_gets_through() -> None:
    session = Session()
    session.connected(0, 0.0)
    after = {**GOOD, "n": 3}
    first = session.receive(msgpack.packb([GOOD, BAD, after]), 1.0)
    again = session.receive(msgpack.packb([BAD, after]), 2.0)  # sent once more: it was not acknowledged yet
    for number in (1, 2, 3):
        session.acknowledge(number)

    assert [getattr(message, "n", None) for message in first] == [1, 2]
    assert again == [Accept(n=3, attempt=AttemptId(*ATTEMPT))]
    assert (session.received, session.safe) == (3, 3)


def test_one_that_jumps_is_a_violation_and_nothing_of_its_frame_counts() -> None:
    session = Session()
    session.connected(0, 0.0)

    with pytest.raises(ProtocolViolation):
        session.receive(msgpack.packb([GOOD, {**BAD, "n": 9}]), 1.0)
    assert session.received == 0


def test_who_does_not_look_for_them_gets_the_error() -> None:
    beat = Heartbeat(sidecar="A", boot=1)
    error = MalformedFrame("bad")

    assert readable([beat]) == [beat]
    with pytest.raises(MalformedFrame, match="bad"):
        readable([beat, Unreadable(error)])
