"""What happens to a task when an attempt ends: plain functions, no state.

Failures come in classes, each with its own ceiling, so that a dead machine does not use up the retries that are meant
for the work itself.
"""

from typing import Final

from msgspec import Struct

from hub.core.agent import Held
from protocol.limits import MAX_INFRA_FAILURES, MAX_QUOTA_FAILURES
from protocol.messages import Report
from protocol.model import AttemptState, FailureClass, TaskResult, TaskState

LONGEST_DELAY_S: Final = 300.0
"""No attempt that failed makes its task wait longer than this."""

_PASSED: Final = AttemptState.PASSED
_NEVER_RETRIED: Final = frozenset(
    {FailureClass.INPUT, FailureClass.BUDGET, FailureClass.DEADLINE, FailureClass.DEPENDENCY, FailureClass.VERIFY}
)


class Next(Struct, frozen=True):
    """What becomes of the task: its ``state``, the ``event`` that led there, and the wait before it may run again."""

    state: TaskState
    event: str
    delay_s: float = 0.0
    retries: int = 0
    infra_failures: int = 0


def retry_delay(attempt: int, *, base_s: float = 1.0, cap_s: float = LONGEST_DELAY_S) -> float:
    """Seconds to wait before the next attempt.

    Args:
        attempt: attempts already made, from 1.
        base_s, cap_s: first and longest delay, in seconds.
    Returns:
        ``base_s * 2 ** (attempt - 1)``, at most ``cap_s``. Jitter is the caller's, who owns the random source.
    Raises:
        ValueError: ``attempt`` is below 1.
    Source: doubling as in RFC 9002 section 6.2.1; the cap is our choice.
    """
    if attempt < 1:
        message = f"attempt counts from 1, found {attempt}"
        raise ValueError(message)
    return min(cap_s, base_s * 2.0 ** min(attempt - 1, 60))


def after_failure(failure: FailureClass, *, retries: int, max_retries: int, infra_failures: int) -> Next:
    """What becomes of a task whose attempt failed.

    Args:
        retries: retries used before this failure.
        max_retries: retries that the submitter allows.
        infra_failures: attempts that the machinery lost before this failure.
    """
    if failure in _NEVER_RETRIED:
        return Next(TaskState.FAILED, "fail", 0.0, retries, infra_failures)
    if failure in {FailureClass.INFRA, FailureClass.CANCELLED}:
        if infra_failures + 1 >= MAX_INFRA_FAILURES:
            return Next(TaskState.DEAD, "give_up", 0.0, retries, infra_failures + 1)
        # The first loss is made good at once; a machine or a link that stays broken gets time to come back.
        delay_s = retry_delay(infra_failures, base_s=5.0) if infra_failures else 0.0
        return Next(TaskState.QUEUED, "requeue", delay_s, retries, infra_failures + 1)
    ceiling = max_retries + (MAX_QUOTA_FAILURES if failure is FailureClass.QUOTA and max_retries else 0)
    if retries >= ceiling:
        return Next(TaskState.DEAD, "give_up", 0.0, retries, infra_failures)
    base_s = 5.0 if failure is FailureClass.QUOTA else 1.0
    return Next(TaskState.QUEUED, "requeue", retry_delay(retries + 1, base_s=base_s), retries + 1, infra_failures)


def after_end(held: Held, failure: FailureClass | None, *, is_counted: bool, asks: bool) -> Next:
    """What becomes of a task whose attempt has ended.

    Args:
        held: the attempt.
        failure: why it failed; ``None``: it did not.
        is_counted: it counts against the task if it failed.
        asks: a person has to look at it.
    """
    if asks:
        return Next(TaskState.WAITING, "ask", 0.0, held.retries, held.infra_failures)
    if not is_counted:
        return Next(TaskState.QUEUED, "requeue", 0.0, held.retries, held.infra_failures)
    if failure is None:
        return Next(TaskState.COMPLETED, "complete", 0.0, held.retries, held.infra_failures)
    return after_failure(
        failure, retries=held.retries, max_retries=held.max_retries, infra_failures=held.infra_failures
    )


def is_plain(held: Held, report: Report) -> bool:
    """Whether an attempt went well without a model, checks or a reservation: no rule but the first has a say then."""
    result = report.result
    return not (
        report.state is not _PASSED
        or report.failure is not None
        or not result.execution_ok
        or result.verified is not None
        or result.checks
        or result.error
        or result.usage.model != "none"
        or held.is_charged
        or held.is_proof
        or held.model
    )


def awaits_person(result: TaskResult) -> bool:
    """Whether nothing but doubts are against the work of an attempt that ended in good order."""
    failed = [finding for finding in result.report if not finding.passed]
    return result.execution_ok and bool(failed) and all(finding.doubtful for finding in failed)


def avoided(held: Held, failure: FailureClass | None) -> str:
    """Where a task whose attempt failed so should not be tried again while there is another place; empty: nowhere.

    The machinery fails with its machine; an endpoint that is down or out of quota fails whoever asks it. What the work
    itself did wrong it would do anywhere.
    """
    if failure is FailureClass.INFRA:
        return f"agent:{held.agent}"
    if failure is FailureClass.QUOTA and held.server is not None:
        return f"endpoint:{held.server[0]}/{held.server[1]}"
    return ""
