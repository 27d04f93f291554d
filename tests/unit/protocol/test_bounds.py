"""Every field of every message, and of all that it is made of, has a largest size: a new one without fails here."""

import math
from typing import Any

import msgpack
import msgspec
import pytest

from protocol import codec
from protocol.bounds import FEW, MAX_SENTENCE_CHARS, MAX_TEXT_CHARS, MAX_WORD_CHARS
from protocol.endpoints import EndpointKind
from protocol.errors import MalformedFrame
from protocol.limits import MAX_FRAME_BYTES, MAX_LOG_CHUNK_BYTES, MAX_OUTPUT_BYTES, MAX_RESULT_BYTES, MAX_SPEC_BYTES
from protocol.messages import KINDS, Message
from protocol.model import TaskSpec
from tests.support.bounds import unbounded

ATTEMPT = ["Falling Outside", 3, "01m7yb3s0000000000000000xx", 2]
FREE = {"Assign.spec", "CheckJsonSchema.schema (values)", "CheckPlugin.settings (values)"}
"""A spec is read by itself (and stands below); free JSON is bounded by the size of the spec that it is in."""


class Holes(msgspec.Struct):
    """What the walk has to find."""

    text: str
    entries: tuple[int, ...]
    named: dict[str, float]
    number: int
    raw: bytes
    anything: Any


def test_the_walk_finds_what_has_no_bound() -> None:
    found = unbounded(Holes)

    inner = ("entries[]", "named (keys)", "named (values)")
    assert set(found) == {f"Holes.{name}" for name in ("anything", "entries", "named", "number", "raw", "text", *inner)}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_field_of_a_message_has_a_bound(kind: str) -> None:
    assert set(unbounded(KINDS[kind])) <= FREE


def test_every_field_of_a_task_has_a_bound() -> None:
    assert set(unbounded(TaskSpec)) <= FREE


@pytest.mark.parametrize(
    "field, value, problem",
    [
        ("stream", "x" * (MAX_WORD_CHARS + 1), "stream: 2,049 characters; at most 2,048"),
        ("offset", -1, "offset: -1; from 0 to"),
        ("n", 2**63, "n: 9.22337e+18; from -9.22337e+18 to"),
        ("attempt", [*ATTEMPT[:2], "x" * 3_000, 2], "attempt[2]: 3,000 characters; at most 2,048"),
        ("attempt", ATTEMPT[:3], "attempt: expected a list of 4 entries"),
    ],
)
def test_a_field_beyond_its_bound_is_refused_by_name(field: str, value: object, problem: str) -> None:
    log = {"t": "log", "n": 1, "attempt": ATTEMPT, "offset": 0, "stream": "stdout", "text": "x"}
    codec.decode(msgpack.packb(log))

    with pytest.raises(MalformedFrame) as told:
        codec.decode(msgpack.packb(log | {field: value}))
    error = codec.in_full(told.value)
    assert problem in str(error)
    assert len(error.problems) == 1


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(number: float) -> None:
    usage = {"cost_usd": number}
    result = {"execution_ok": True, "verified": None, "usage": usage}
    report = {"t": "report", "attempt": ATTEMPT, "state": "passed", "result": result}

    with pytest.raises(MalformedFrame, match=r"usage\.cost_usd"):
        codec.decode(msgpack.packb(report))


@pytest.mark.parametrize("used", [{"input_tokens": -1}, {"cost_usd": -1.0}, {"seconds": -1.0}])
def test_nobody_uses_less_than_nothing(used: dict[str, float]) -> None:
    report = {"t": "report", "attempt": ATTEMPT, "state": "passed"}
    result = {"execution_ok": True, "verified": None, "usage": used}

    with pytest.raises(MalformedFrame):
        codec.decode(msgpack.packb(report | {"result": result}))


def test_one_error_names_every_problem_of_a_frame() -> None:
    sick = [{"t": "ping", "token": "one"}, {"t": "log", "attempt": [1, 2], "offset": -1, "stream": 5}]

    with pytest.raises(MalformedFrame) as told:
        codec.decode(msgpack.packb(sick))
    assert [problem.path for problem in codec.in_full(told.value).problems] == [
        "[0].token",
        "[1].attempt",
        "[1].offset",
        "[1].stream",
        "[1].text",
    ]


@pytest.mark.parametrize("frame", [b"", b"\xc1", b"\x91" * 5_000, b"\x81\x90\x01", b"\x81\x81\x01\x02\x03"])
def test_what_is_no_message_at_all_stays_one_problem(frame: bytes) -> None:
    with pytest.raises(MalformedFrame) as told:
        codec.decode(frame)

    assert codec.in_full(told.value).problems


def test_the_bounds_are_beyond_all_that_this_project_sends() -> None:
    """A text is cut by its sender long before; no bound may be nearer than that cut."""
    assert max(MAX_OUTPUT_BYTES, MAX_RESULT_BYTES, MAX_LOG_CHUNK_BYTES, MAX_SPEC_BYTES) <= MAX_TEXT_CHARS
    assert MAX_SENTENCE_CHARS >= 10 * 4_000
    assert MAX_TEXT_CHARS <= MAX_FRAME_BYTES
    models = [{"name": f"m{number}"} for number in range(FEW // 2)]
    endpoint = {"id": "e", "kind": EndpointKind.OLLAMA.value, "url": "http://x", "local": True, "models": models}
    hello = {"t": "hello", "protocol": [1, 1], "sidecar": "a", "boot": 1, "host": "h", "slots": 1, "version": "1"}
    [found] = codec.decode(msgpack.packb(hello | {"endpoints": [endpoint]}))

    assert isinstance(found, Message)
