"""The promises of lean results: nothing is lost by what is left out, and nothing usual is told."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec
from protocol.lean import LeanResult, lean, lean_routing
from protocol.model import (
    Artifact,
    Finding,
    Iteration,
    Routing,
    Strategy,
    TaskResult,
    Tier,
    TierDecision,
    Timing,
    Usage,
)

TEXTS = st.sampled_from(["", "none", "x"])
SECONDS = st.sampled_from([0.0, 1.5])
USAGES = st.builds(
    Usage,
    model=TEXTS,
    output_tokens=st.integers(0, 1),
    cost_usd=st.sampled_from([None, 0.0, 0.5]),
    seconds=SECONDS,
    timing=st.none() | st.builds(Timing, model_s=SECONDS, queue_s=st.none() | SECONDS),
)
FINDINGS = st.lists(
    st.builds(Finding, name=TEXTS, type=TEXTS, passed=st.booleans(), output=TEXTS, seconds=SECONDS), max_size=2
).map(tuple)
RESULTS = st.builds(
    TaskResult,
    execution_ok=st.booleans(),
    verified=st.none() | st.booleans(),
    output=TEXTS,
    report=FINDINGS,
    iterations=st.lists(
        st.builds(Iteration, number=st.integers(0, 1), execution_ok=st.booleans(), findings=FINDINGS, passed=st.none()),
        max_size=2,
    ).map(tuple),
    usage=USAGES,
    pushed=st.booleans(),
    artifacts=st.just((Artifact(path="p", size_bytes=0, sha256=""),)) | st.just(()),
    exit_code=st.none() | st.just(0),
)


def told(result: TaskResult) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.msgpack.decode(codec.encode_result(result))
    return found


@given(RESULTS)
def test_a_lean_result_is_read_as_the_result_that_it_was_made_of(result: TaskResult) -> None:
    found = codec.decode_result(codec.encode_result(lean(result)))

    assert found == result
    assert type(found.usage) is Usage


@given(RESULTS)
def test_what_is_left_out_is_all_that_is_usual(result: TaskResult) -> None:
    usual = told(TaskResult(execution_ok=True, verified=None))
    expected = {name for name, value in told(result).items() if value != usual[name]}

    assert set(told(lean(result))) == expected | {"execution_ok", "verified"}


def test_a_lean_result_is_lean_in_all_of_its_parts() -> None:
    usage = Usage(model="no" + "ne", seconds=float("0"))  # equal to what is usual, and not the same object
    rounds = (Iteration(number=1, execution_ok=True, passed=None, usage=usage),)
    found = told(lean(TaskResult(execution_ok=True, verified=None, iterations=rounds, usage=usage)))

    assert found == {
        "execution_ok": True,
        "verified": None,
        "iterations": [{"number": 1, "execution_ok": True, "passed": None}],
    }


def test_a_lean_routing_is_read_as_the_routing_that_it_was_made_of() -> None:
    tier = TierDecision(explicit=None, inferred=Tier.TRIVIAL, effective=Tier.TRIVIAL, confidence=1.0, signals=("s",))
    for routing in (
        Routing(tier=tier),
        Routing(
            tier=tier, strategy=Strategy.LOCAL_LLM, executor="chat", model="m", at=datetime(2026, 1, 1, tzinfo=UTC)
        ),
    ):
        encoded = msgspec.msgpack.encode(lean_routing(routing))
        usual = {name for name in routing.__struct_fields__ if not getattr(routing, name)}
        assert msgspec.msgpack.decode(encoded, type=Routing) == routing
        assert set(msgspec.msgpack.decode(encoded)) == set(routing.__struct_fields__) - usual


@pytest.mark.parametrize("odd", [float("nan"), -1, True, "\ud800", [1]])
def test_what_no_result_may_hold_is_left_to_whoever_looks_for_it(odd: Any) -> None:  # noqa: ANN401 - the wrong types
    result = lean(TaskResult(execution_ok=True, verified=None, exit_code=odd))

    assert type(result) is LeanResult
    assert result.exit_code is odd
    assert lean(result).exit_code is odd
