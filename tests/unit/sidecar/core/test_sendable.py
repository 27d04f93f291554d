"""The promises about what is sent: the hub can read it; an attempt whose result cannot be told fails and says why."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol.codec import decode, encode, flaw_of
from protocol.limits import MAX_FRAME_BYTES
from protocol.loads import Answering
from protocol.machine import HostReading
from protocol.messages import Accept, Heartbeat, HeldAttempt, Hello, Log, Message, Progress, Reject, Report
from protocol.model import (
    Artifact,
    AttemptId,
    AttemptState,
    EndpointReport,
    FailureClass,
    Finding,
    Iteration,
    TaskResult,
    Usage,
)
from sidecar.core.sendable import UNSENDABLE, in_plain_text, sendable

ATTEMPT = AttemptId("A", 1, "t", 1)
GOOD = TaskResult(execution_ok=True, verified=True, output="done", branch="b", commit="c", usage=Usage(model="m"))
ODD: dict[str, Any] = {
    "commit": "c" * 3_000,
    "usage": Usage(input_tokens=-5),
    "exit_code": 2**70,
    "artifacts": (Artifact(path="p" * 2_049, size_bytes=1, sha256="x"),),
    "report": (Finding(name="n" * 70_000, type="x", passed=True),),
    "iterations": (Iteration(number=1, execution_ok=True, passed=True, usage=Usage(seconds=float("nan"))),),
    "output": "x" * MAX_FRAME_BYTES,
}


def report(state: AttemptState = AttemptState.PASSED, **result: Any) -> Report:
    return Report(attempt=ATTEMPT, state=state, result=replace(GOOD, **result))


def told(message: Message) -> Message:
    found, why = sendable(message)
    assert why
    assert found is not None
    assert decode(encode(found)) == [found]
    return found


def test_what_is_right_is_sent_as_it_is() -> None:
    for message in (report(), Accept(attempt=ATTEMPT), Heartbeat(sidecar="A", boot=1)):
        assert sendable(message) == (message, "")
        assert sendable(message)[0] is message


@pytest.mark.parametrize("field", ODD)
def test_an_attempt_whose_result_cannot_be_told_has_failed_and_says_why_and_keeps_the_rest(field: str) -> None:
    found = told(report(**{field: ODD[field]}))

    assert isinstance(found, Report)
    assert (found.state, found.failure) == (AttemptState.FAILED, FailureClass.INFRA)
    result = found.result
    assert (result.execution_ok, result.verified, result.error_code) == (False, None, UNSENDABLE)
    assert result.error.startswith("what came of it cannot be told to the hub: ")
    kept = {name: getattr(result, name) for name in ("output", "usage", "branch", "commit")}
    wrong = {field} & kept.keys()
    assert {name: value for name, value in kept.items() if name not in wrong} == {
        name: getattr(GOOD, name) for name in kept if name not in wrong
    }


@pytest.mark.parametrize("state", [AttemptState.LOST, AttemptState.CANCELLED])
def test_one_that_was_lost_or_stopped_stays_so_and_says_how(state: AttemptState) -> None:
    found = told(replace(report(state, commit="c" * 3_000, error_code="paused"), failure=FailureClass.CANCELLED))

    assert isinstance(found, Report)
    assert (found.state, found.failure, found.result.error_code) == (state, FailureClass.CANCELLED, "paused")


def test_signs_that_are_no_text_cost_nothing_but_themselves() -> None:
    found = told(report(output="a\udcffb", artifacts=(Artifact(path="n\udce4me", size_bytes=1, sha256="x"),)))

    assert isinstance(found, Report)
    assert (found.state, found.result.verified, found.result.output) == (AttemptState.PASSED, True, "a?b")
    assert found.result.artifacts[0].path == "n?me"


def test_a_refusal_is_cut_and_a_step_loses_its_words() -> None:
    refusal = told(Reject(attempt=ATTEMPT, code="x" * 5_000, reason="y" * 70_000))
    step = told(Progress(attempt=ATTEMPT, state=AttemptState.RUNNING, detail="y" * 70_000))

    assert refusal == Reject(attempt=ATTEMPT, code="x" * 64, reason="y" * 500)
    assert step == Progress(attempt=ATTEMPT, state=AttemptState.RUNNING)


def test_live_output_that_cannot_be_sent_is_left_out() -> None:
    found, why = sendable(Log(attempt=ATTEMPT, offset=-1, stream="stdout", text="x"))

    assert (found, bool(why)) == (None, True)


def test_a_heartbeat_loses_what_is_wrong_and_keeps_the_leases() -> None:
    answering = Answering(phase="reading", endpoint="e" * 3_000, model="m", seconds=1.0)
    held = HeldAttempt(attempt=ATTEMPT, state=AttemptState.RUNNING, answering=answering)
    reading = HostReading(
        at=datetime(2026, 1, 1, tzinfo=UTC), cpu_percent=float("nan"), cores=b"", ram=(2, 1), disk=(2, 1)
    )
    beat = Heartbeat(sidecar="A", boot=1, attempts=(held,), reading=reading, capabilities=("x",))

    assert told(beat) == replace(beat, attempts=(replace(held, answering=None),), reading=None)


def test_a_hello_loses_endpoints_that_nobody_can_read() -> None:
    report = EndpointReport(id="e" * 3_000, kind="ollama", url="http://x", local=True)
    hello = Hello(
        protocol=(1, 1), sidecar="A", boot=1, host="h", slots=1, version="1", capabilities=("x",), endpoints=(report,)
    )

    assert told(hello) == replace(hello, endpoints=())
    assert sendable(replace(hello, host="h" * 3_000))[0] is None


@given(text=st.text(st.characters(exclude_categories=())), number=st.integers() | st.floats())
def test_of_every_report_there_is_something_that_the_hub_can_read(text: str, number: float) -> None:
    odd = report(
        output=text, branch=text * 500, exit_code=cast("int", number), usage=Usage(model=text, cost_usd=number)
    )
    found, why = sendable(odd)

    assert isinstance(found, Report)
    assert flaw_of(found) == ""
    assert bool(why) is (found != odd)
    assert in_plain_text(found) == found
