"""The promises of frames: packed within the limits, and two errors for everything that is no frame of ours."""

import contextlib

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import fields, replace

from protocol import codec
from protocol.checks import CheckGitClean
from protocol.errors import BadInput, FrameTooLarge, MalformedFrame
from protocol.limits import MAX_FRAME_BYTES, MAX_FRAME_MESSAGES
from protocol.messages import KINDS, Ack, Log, Message, Ordered, Ping
from protocol.model import (
    Artifact,
    AttemptId,
    Finding,
    Iteration,
    TaskResult,
    TaskSpec,
    Tier,
    TierDecision,
    Timing,
    Usage,
)
from tests.unit.protocol.test_messages import GOLDEN, read

ME = AttemptId("a", 1, "t", 1)


def log(size: int) -> bytes:
    """A log message of exactly ``size`` bytes."""
    empty = len(codec.encode(Log(n=1, attempt=ME, offset=0, stream="stdout", text="x" * 70_000))) - 70_000
    return codec.encode(Log(n=1, attempt=ME, offset=0, stream="stdout", text="x" * (size - empty)))


def test_one_message_travels_bare() -> None:
    assert codec.frames([codec.encode(Ping(token=1))]) == [codec.encode(Ping(token=1))]


@pytest.mark.parametrize("count", [2, 15, 16, 17, 999, 1_000, 1_001, 2_500])
def test_messages_keep_their_order_in_as_few_frames_as_the_limits_allow(count: int) -> None:
    packed = codec.frames(codec.encode(Ping(token=number)) for number in range(count))

    assert len(packed) == -(-count // MAX_FRAME_MESSAGES)
    tokens = [message.token for frame in packed for message in codec.decode(frame) if isinstance(message, Ping)]
    assert tokens == list(range(count))


def test_nothing_to_send_is_no_frame() -> None:
    assert codec.frames([]) == []


def test_large_messages_are_spread_over_frames_within_the_limit() -> None:
    packed = codec.frames([log(400_000)] * 7)

    assert [len(codec.decode(frame)) for frame in packed] == [2, 2, 2, 1]
    assert all(len(frame) <= MAX_FRAME_BYTES for frame in packed)


@given(st.lists(st.integers(70_000, MAX_FRAME_BYTES), max_size=8))
def test_no_frame_is_ever_over_the_limit(sizes: list[int]) -> None:
    packed = codec.frames(log(size) for size in sizes)

    assert all(len(frame) <= MAX_FRAME_BYTES for frame in packed)
    assert sum(len(codec.decode(frame)) for frame in packed) == len(sizes)


def test_a_message_of_exactly_the_limit_passes_and_one_byte_more_does_not() -> None:
    assert codec.decode(codec.frames([log(MAX_FRAME_BYTES)])[0])

    with pytest.raises(FrameTooLarge, match="1048577 bytes, at most 1048576"):
        codec.frames([log(MAX_FRAME_BYTES + 1)])
    with pytest.raises(FrameTooLarge):
        codec.decode(log(MAX_FRAME_BYTES + 1))


def test_a_frame_of_too_many_messages_is_refused() -> None:
    piece = codec.encode(Ack(n=1))

    fits = b"\xdc" + (1_000).to_bytes(2, "big") + piece * 1_000
    assert len(codec.decode(fits)) == MAX_FRAME_MESSAGES
    with pytest.raises(MalformedFrame, match="1001 messages in a frame, at most 1000"):
        codec.decode(b"\xdc" + (1_001).to_bytes(2, "big") + piece * 1_001)


def test_an_array_of_any_header_is_read() -> None:
    piece = codec.encode(Ack(n=1))

    assert codec.decode(b"\x91" + piece) == [Ack(n=1)]
    assert codec.decode(b"\xdc\x00\x02" + piece * 2) == [Ack(n=1)] * 2
    assert codec.decode(b"\xdd\x00\x00\x00\x02" + piece * 2) == [Ack(n=1)] * 2
    assert codec.decode(b"\x90") == []


HELLO = {"t": "hello", "protocol": [1, 1], "sidecar": "a", "boot": 1, "host": "h", "slots": 1, "version": "0"}


def heartbeat_at(at: object) -> bytes:
    """A heartbeat with the report of a host at this time."""
    space = {"total_bytes": 2, "used_bytes": 1}
    host = {"cpu": {"percent": 1.0, "cores": 1}, "ram": space, "disk": space, "at": at}
    return bytes(msgpack.packb({"t": "heartbeat", "sidecar": "a", "boot": 1, "host": host}))


MALFORMED = {
    "nothing": b"",
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "json": b'{"t": "ping", "token": 1}',
    "nil": b"\xc0",
    "a reserved byte": b"\xc1",
    "a number": msgpack.packb(5),
    "no kind": msgpack.packb({"token": 1}),
    "an unknown kind": msgpack.packb({"t": "explode"}),
    "a kind that is no text": msgpack.packb({"t": 5}),
    "a missing field": msgpack.packb({"t": "ping"}),
    "a field of the wrong type": msgpack.packb({"t": "ping", "token": "1"}),
    "a float for a whole number": msgpack.packb({"t": "ping", "token": 1.5}),
    "half a message": codec.encode(Ping(token=70_000))[:-2],
    "two messages without an array": codec.encode(Ping(token=1)) * 2,
    "an array with a stranger": msgpack.packb([{"t": "ping", "token": 1}, 7]),
    "arrays in arrays": msgpack.packb([[{"t": "ping", "token": 1}]]),
    "not UTF-8": b"\x81\xa1t\xa4\xff\xfe\xfd\xfc",
    "a depth bomb": b"\x91" * 100_000,
    "a depth bomb of maps": b"\x81\xa1t" * 100_000,
    "a depth bomb in an unknown field": b"\x83\xa1t\xa4ping\xa5token\x01\xa1x" + b"\x91" * 100_000 + b"\xc0",
    "a 4 G array": b"\xdd\xff\xff\xff\xff",
    "a 4 G map": b"\xdf\xff\xff\xff\xff",
    "a 4 G string": b"\xdb\xff\xff\xff\xff",
    "a 4 G binary": b"\xc6\xff\xff\xff\xff",
    "a 4 G array inside": b"\x81\xa1t\xdd\xff\xff\xff\xff",
    "a megabyte of empty maps": b"\xdd\x00\x0f\xff\x00" + b"\x80" * 0xFFF00,
    "an extension": msgpack.packb(msgpack.ExtType(1, b"x")),
    "an attempt of three parts": msgpack.packb({"t": "accept", "n": 1, "attempt": ["a", 1, "t"]}),
    "an attempt that is a map": msgpack.packb({"t": "accept", "n": 1, "attempt": {"sidecar": "a"}}),
    "an unknown state": msgpack.packb({"t": "progress", "n": 1, "attempt": ["a", 1, "t", 1], "state": "done"}),
    "a boot beyond 63 bits": msgpack.packb({**HELLO, "boot": 2**63}),
    "a boot below zero": msgpack.packb({**HELLO, "boot": -1}),
    "an epoch beyond 63 bits": msgpack.packb({"t": "accept", "n": 1, "attempt": ["a", 1, "t", 2**63]}),
    "an epoch below zero": msgpack.packb({"t": "accept", "n": 1, "attempt": ["a", 1, "t", -1]}),
    "an offset below zero": msgpack.packb(
        {"t": "log", "n": 1, "attempt": ["a", 1, "t", 1], "offset": -1, "stream": "stdout", "text": ""}
    ),
    "a time beyond the year 9999": heartbeat_at(msgpack.Timestamp(253_402_300_800)),
    "a time of nowhere": heartbeat_at("2026-01-01T00:00:00"),
}


@pytest.mark.parametrize("frame", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_frame_of_ours_is_malformed(frame: bytes) -> None:
    with pytest.raises(MalformedFrame):
        codec.decode(frame)


def test_a_hello_of_the_largest_boot_is_read() -> None:
    assert codec.decode(msgpack.packb({**HELLO, "boot": 2**63 - 1}))


@pytest.mark.parametrize("at", [msgpack.Timestamp(253_402_300_799), "2026-01-01T00:00:00+02:00"])
def test_any_time_of_a_place_on_earth_is_read(at: object) -> None:
    assert codec.decode(heartbeat_at(at))


def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    assert codec.decode(b"\x83\xa1t\xa4ping\xa5token\x01\xa5token\x02") == [Ping(token=2)]


def test_fields_of_a_newer_peer_are_ignored() -> None:
    assert codec.decode(msgpack.packb({"t": "ping", "token": 1, "mood": {"deep": [1, 2]}})) == [Ping(token=1)]


@given(st.binary(max_size=400))
@example(b"\xd9")
def test_random_bytes_raise_nothing_else(frame: bytes) -> None:
    with contextlib.suppress(BadInput):
        codec.decode(frame)


THINGS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from(["n", "attempt", "state", "result", "spec", "token", "sidecar"]), THINGS), THINGS
)
@example({}, [])
def test_well_formed_nonsense_raises_nothing_else(fields: dict[str, object], extra: object) -> None:
    for kind in ("hello", "assign", "report", "log", "ack", "heartbeat"):
        with contextlib.suppress(BadInput):
            codec.decode(msgpack.packb({**fields, "t": kind, "extra": extra}))


@pytest.mark.parametrize("name", [name for name in GOLDEN if issubclass(KINDS[GOLDEN[name]["value"]["t"]], Ordered)])
def test_a_number_is_put_into_the_bytes_of_a_message_as_if_it_were_encoded_with_it(name: str) -> None:
    message = read(name)
    bare = codec.encode(replace(message, n=0))

    for number in (1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63 - 1):
        expected = codec.encode(replace(message, n=number))
        assert codec.numbered(bare, number) == expected
        assert codec.numbered(codec.numbered(bare, 2**63 - number), number) == expected


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if issubclass(kind, Ordered)])
def test_no_message_has_so_many_fields_that_a_number_would_need_another_head(kind: type[Message]) -> None:
    assert len(fields(kind)) + 1 < 15  # the MessagePack specification's fixmap bound


def test_a_spec_a_result_and_a_tier_can_be_read_back() -> None:
    spec = TaskSpec(title="x", verification=(CheckGitClean(),), labels={"a": "b"})
    result = TaskResult(execution_ok=True, verified=None)
    tier = TierDecision(explicit=None, inferred=Tier.STANDARD, effective=Tier.STANDARD, confidence=0.5, signals=("s",))

    assert codec.decode_spec(codec.encode_spec(spec)) == spec
    assert codec.decode_spec(codec.raw(codec.encode_spec(spec))) == spec
    assert codec.decode_result(codec.kept_result(result)) == result
    assert codec.decode_result(codec.encode_result(result)) == result
    assert codec.decode_tier(codec.encode_tier(tier)) == tier


@pytest.mark.parametrize(
    "raw", [b"", b"\xc0", b"\x81\xa5title\x05", b"\x81\xa4nope\x05", b"\x81\xa5title" + b"\x91" * 99_999]
)
def test_what_is_no_spec_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedFrame, match="task spec: "):
        codec.decode_spec(raw)


def test_a_kept_result_is_short_and_comes_back_whole_and_one_kept_whole_before_is_read_as_well() -> None:
    bare = TaskResult(
        execution_ok=True, verified=None, iterations=(Iteration(number=1, execution_ok=True, passed=None),)
    )
    full = TaskResult(
        execution_ok=False,
        verified=False,
        output="x" * 2_000,
        report=(Finding(name="a", type="b", passed=False, exit_code=2, seconds=1.5),),
        iterations=(
            Iteration(
                number=1,
                execution_ok=True,
                passed=False,
                findings=(Finding(name="a", type="b", passed=True),),
                usage=Usage(model="m", output_tokens=3, cost_usd=None, timing=Timing(model_s=2.0)),
            ),
        ),
        usage=Usage(cost_usd=0.5),
        artifacts=(Artifact(path="p", size_bytes=0, sha256="0"),),
        exit_code=0,
    )

    for result in (bare, full, bare):
        kept = codec.kept_result(result)
        assert codec.decode_result(kept) == codec.decode_result(codec.encode_result(result)) == result
        assert type(codec.decode_result(kept).usage) is Usage
    assert len(codec.kept_result(bare)) < 0.5 * len(codec.encode_result(bare))


def test_every_result_that_was_ever_kept_for_a_moment_is_forgotten_in_time() -> None:
    results = [TaskResult(execution_ok=True, verified=None, output=f"{number}") for number in range(600)]

    assert [codec.decode_result(codec.kept_result(result)).output for result in results] == [r.output for r in results]
    assert len(codec._lean) <= 256
