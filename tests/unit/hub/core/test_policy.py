"""The promises about failures: each class has its own ceiling, and a dead machine never costs the work its retries."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.agent import Held
from hub.core.policy import MAX_QUOTA_FAILURES, Next, after_end, after_failure, is_plain, retry_delay
from hub.core.task import TASK_EDGES
from protocol.limits import MAX_INFRA_FAILURES, MAX_RETRIES
from protocol.messages import Report
from protocol.model import AttemptId, AttemptState, FailureClass, TaskResult, TaskState, Usage

COUNTS = st.integers(0, 40)


@pytest.mark.parametrize("attempt, seconds", [(1, 1.0), (2, 2.0), (3, 4.0), (9, 256.0), (10, 300.0), (10_000, 300.0)])
def test_the_wait_doubles_up_to_its_cap(attempt: int, seconds: float) -> None:
    assert retry_delay(attempt) == seconds


@pytest.mark.parametrize("attempt", [0, -1])
def test_attempts_count_from_one(attempt: int) -> None:
    with pytest.raises(ValueError, match="attempt counts from 1, found"):
        retry_delay(attempt)


@pytest.mark.parametrize(
    "failure",
    [FailureClass.INPUT, FailureClass.BUDGET, FailureClass.DEADLINE, FailureClass.DEPENDENCY, FailureClass.VERIFY],
)
def test_what_would_fail_again_is_not_tried_again(failure: FailureClass) -> None:
    assert after_failure(failure, retries=1, max_retries=3, infra_failures=2) == Next(
        TaskState.FAILED, "fail", 0.0, 1, 2
    )


@pytest.mark.parametrize("failure", [FailureClass.INFRA, FailureClass.CANCELLED])
def test_the_machinery_costs_no_retry_until_it_has_failed_too_often(failure: FailureClass) -> None:
    for before, delay_s in enumerate([0.0, 5.0, 10.0, 20.0]):
        after = after_failure(failure, retries=2, max_retries=0, infra_failures=before)
        assert after == Next(TaskState.QUEUED, "requeue", delay_s, 2, before + 1)

    last = after_failure(failure, retries=2, max_retries=0, infra_failures=MAX_INFRA_FAILURES - 1)
    assert last == Next(TaskState.DEAD, "give_up", 0.0, 2, MAX_INFRA_FAILURES)


def test_the_work_is_tried_again_as_often_as_the_submitter_allows() -> None:
    delays = []
    retries = 0
    while (
        after := after_failure(FailureClass.AGENT, retries=retries, max_retries=3, infra_failures=1)
    ).event == "requeue":
        retries = after.retries
        delays.append(after.delay_s)

    assert delays == [1.0, 2.0, 4.0]
    assert after == Next(TaskState.DEAD, "give_up", 0.0, 3, 1)


def test_an_endpoint_without_quota_gets_more_tries_and_longer_waits() -> None:
    first = after_failure(FailureClass.QUOTA, retries=0, max_retries=1, infra_failures=0)
    last = after_failure(FailureClass.QUOTA, retries=MAX_QUOTA_FAILURES, max_retries=1, infra_failures=0)
    over = after_failure(FailureClass.QUOTA, retries=MAX_QUOTA_FAILURES + 1, max_retries=1, infra_failures=0)

    assert (first.delay_s, last.delay_s) == (5.0, 300.0)
    assert (first.event, last.event, over.event) == ("requeue", "requeue", "give_up")


@pytest.mark.parametrize("failure", [FailureClass.AGENT, FailureClass.QUOTA])
def test_who_allows_no_retry_gets_none(failure: FailureClass) -> None:
    assert after_failure(failure, retries=0, max_retries=0, infra_failures=0).state is TaskState.DEAD


@given(st.sampled_from(FailureClass), COUNTS, st.integers(0, MAX_RETRIES), COUNTS)
def test_every_failure_leads_along_an_edge_of_the_table(
    failure: FailureClass, retries: int, max_retries: int, infra_failures: int
) -> None:
    after = after_failure(failure, retries=retries, max_retries=max_retries, infra_failures=infra_failures)

    assert TASK_EDGES[TaskState.RUNNING, after.event] is after.state
    assert after.delay_s == 0.0 or after.event == "requeue"
    assert after.retries - retries + after.infra_failures - infra_failures in {0, 1}


@given(st.lists(st.sampled_from(FailureClass), min_size=60, max_size=60), st.integers(0, MAX_RETRIES))
def test_no_task_is_tried_for_ever(failures: list[FailureClass], max_retries: int) -> None:
    retries = infra_failures = 0
    for failure in failures:
        after = after_failure(failure, retries=retries, max_retries=max_retries, infra_failures=infra_failures)
        if after.state is not TaskState.QUEUED:
            return
        retries, infra_failures = after.retries, after.infra_failures
    pytest.fail(f"still tried after {len(failures)} failures")


def test_the_end_of_an_attempt_leads_where_it_says() -> None:
    held = Held("x", 1, "a", 1, 0.0, retries=1, infra_failures=2, max_retries=3)

    assert after_end(held, None, is_counted=True, asks=True) == Next(TaskState.WAITING, "ask", 0.0, 1, 2)
    assert after_end(held, FailureClass.INFRA, is_counted=False, asks=False) == Next(
        TaskState.QUEUED, "requeue", 0.0, 1, 2
    )
    assert after_end(held, None, is_counted=True, asks=False) == Next(TaskState.COMPLETED, "complete", 0.0, 1, 2)
    assert after_end(held, FailureClass.AGENT, is_counted=True, asks=False) == after_failure(
        FailureClass.AGENT, retries=1, max_retries=3, infra_failures=2
    )


WELL = {"execution_ok": True, "verified": None}


@pytest.mark.parametrize(
    "told, held",
    [
        ({"state": AttemptState.FAILED}, {}),
        ({"failure": FailureClass.AGENT}, {}),
        ({"execution_ok": False}, {}),
        ({"verified": True}, {}),
        ({"checks": "0" * 64}, {}),
        ({"error": "no"}, {}),
        ({"usage": Usage(model="m")}, {}),
        ({}, {"is_charged": True}),
        ({}, {"is_proof": True}),
        ({}, {"model": "m"}),
    ],
)
def test_an_end_of_which_some_rule_may_say_something_is_not_plain(told: dict[str, Any], held: dict[str, Any]) -> None:
    def found(told: dict[str, Any], held: dict[str, Any]) -> bool:
        state, failure = told.pop("state", AttemptState.PASSED), told.pop("failure", None)
        report = Report(
            attempt=AttemptId("a", 1, "x", 1), state=state, result=TaskResult(**{**WELL, **told}), failure=failure
        )
        return is_plain(Held("x", 1, "a", 1, 0.0, **{"is_charged": False, **held}), report)

    assert found({}, {})
    assert not found(told, held)
