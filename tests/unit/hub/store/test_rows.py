"""The promises of views: a row is shown as it is, the accepted result is the result, costs of all attempts add up."""

from datetime import UTC, datetime
from typing import Any

import pytest

from hub.core.routing import Placement, encode_placement
from hub.store import rows
from hub.store.store import AttemptRow, LogRow, TaskRow
from protocol import codec
from protocol.events import Event, EventKind
from protocol.model import (
    AttemptState,
    FailureClass,
    Iteration,
    Strategy,
    TaskResult,
    TaskSpec,
    TaskState,
    Tier,
    TierDecision,
    Usage,
)
from tests.support.stores import new_task

TIER = TierDecision(explicit=None, inferred=Tier.STANDARD, effective=Tier.STANDARD, confidence=0.5, signals=("x",))
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
AT_MS = 1_769_860_800_000


def row(**changes: Any) -> TaskRow:
    values: dict[str, Any] = {
        "id": "t",
        "state": TaskState.COMPLETED,
        "class_text": "{}",
        "priority": 1,
        "epoch": 2,
        "agent": "a",
        "title": "x",
        "labels": {"team": "x"},
        "retries": 1,
        "max_retries": 3,
        "infra_failures": 0,
        "ready_ms": None,
        "submitted_ms": AT_MS,
        "queued_ms": AT_MS + 1_000,
        "started_ms": None,
        "ended_ms": None,
        "execution_ok": True,
        "verified": None,
        "reason": "because",
    }
    return TaskRow(**{**values, **changes})


def attempt(
    epoch: int, *, accepted: bool = False, cost_usd: float | None = None, output: str | None = None
) -> AttemptRow:
    usage = Usage(model="m", input_tokens=10, cost_usd=cost_usd)
    iterations = (Iteration(number=1, execution_ok=True, passed=None, summary=f"of {epoch}", usage=usage),)
    result = TaskResult(execution_ok=True, verified=None, output=output or "", iterations=iterations, usage=usage)
    return AttemptRow(
        task="t",
        epoch=epoch,
        agent=f"a{epoch}",
        host="h",
        boot=1,
        state=AttemptState.PASSED if accepted else AttemptState.FAILED,
        accepted=accepted,
        failure=None if accepted else FailureClass.AGENT,
        reason="",
        assigned_ms=AT_MS,
        started_ms=AT_MS,
        ended_ms=None,
        placement=encode_placement(
            Placement(strategy=Strategy.TRIVIAL, executor="noop", agent=f"a{epoch}", reason=f"r{epoch}", at_ms=AT_MS)
        ),
        result=None if output is None else codec.encode_result(result),
    )


def test_times_are_utc_and_what_has_not_happened_has_none() -> None:
    assert rows.moment(AT_MS) == AT
    assert rows.at(AT_MS) == AT
    assert rows.at(None) is None
    assert rows.at(0) == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "spec, title",
    [
        (TaskSpec(title="x", prompt="y"), "x"),
        (TaskSpec(prompt="\n  first line\nsecond"), "first line"),
        (TaskSpec(command="make\ntest"), "make"),
        (TaskSpec(prompt="y" * 500), "y" * 200),
        (TaskSpec(), ""),
        (TaskSpec(title=" "), ""),
    ],
)
def test_a_task_without_a_title_is_called_by_its_first_line(spec: TaskSpec, title: str) -> None:
    assert rows.task_title(spec) == title


def test_a_task_in_a_list_shows_its_row() -> None:
    shown = rows.summary(row())

    assert (shown.id, shown.state, shown.priority, shown.agent, shown.epoch) == (
        "t",
        TaskState.COMPLETED,
        "high",
        "a",
        2,
    )
    assert (shown.labels, shown.reason, shown.execution_ok, shown.verified) == ({"team": "x"}, "because", True, None)
    assert shown.submitted_at == AT
    assert (shown.started_at, shown.ended_at) == (None, None)


@pytest.mark.parametrize("state, queued_at", [(TaskState.QUEUED, AT), (TaskState.BLOCKED, None)])
def test_a_task_that_was_just_stored_looks_as_its_row_will(state: TaskState, queued_at: datetime | None) -> None:
    shown = rows.new_summaries([new_task(1, priority=0, labels={"a": "b"})], [state], AT_MS)[0]

    assert (shown.state, shown.priority, shown.labels, shown.agent, shown.epoch) == (
        state,
        "urgent",
        {"a": "b"},
        None,
        0,
    )
    assert (shown.submitted_at, shown.queued_at, shown.verified) == (AT, queued_at, None)


def test_the_result_is_that_of_the_accepted_attempt_and_all_attempts_cost() -> None:
    attempts = [
        attempt(1, cost_usd=0.5, output="first"),
        attempt(2, accepted=True, cost_usd=0.25, output="second"),
        attempt(3),
    ]
    shown = rows.task(row(), TaskSpec(title="x"), TIER, attempts)

    assert shown.result is not None
    assert shown.result.output == "second"
    assert (shown.usage.input_tokens, shown.usage.cost_usd) == (20, 0.75)
    assert [i.summary for i in shown.iterations] == ["of 2"]
    assert [a.epoch for a in shown.attempts] == [1, 2, 3]
    assert shown.routing.reason == "r3"
    assert shown.retries_left == 2


def test_a_task_that_nobody_had_has_no_result_and_no_cost() -> None:
    shown = rows.task(row(max_retries=0), TaskSpec(title="x"), TIER, [])

    assert (shown.result, shown.iterations, shown.usage, shown.attempts) == (None, (), Usage(), ())
    assert shown.routing.reason == "not assigned yet"
    assert shown.retries_left == 0


def test_an_attempt_shows_its_decision_and_its_end() -> None:
    shown = rows.attempt(attempt(2), TIER)

    assert (shown.agent, shown.failure, shown.result, shown.ended_at) == ("a2", FailureClass.AGENT, None, None)
    assert shown.routing is not None
    assert (shown.routing.reason, shown.routing.tier, shown.routing.at) == ("r2", TIER, AT)


def test_facts_and_output_are_shown_with_their_numbers() -> None:
    fact = rows.event(Event(kind=EventKind.TASK_QUEUED, at_ms=AT_MS, seq=7, task="t", facts={"by": "me"}))
    piece = rows.log_piece(LogRow(seq=3, at_ms=AT_MS, epoch=1, stream="stderr", text="x"))

    assert (fact.seq, fact.kind, fact.at, fact.facts) == (7, "task_queued", AT, {"by": "me"})
    assert (piece.seq, piece.at, piece.stream, piece.text) == (3, AT, "stderr", "x")
