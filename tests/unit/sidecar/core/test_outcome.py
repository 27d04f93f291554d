"""The promises of results and commit messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol.codec import encode_result
from protocol.limits import MAX_DIFF_BYTES, MAX_FINDING_BYTES, MAX_OUTPUT_BYTES, MAX_RESULT_BYTES
from protocol.model import AttemptId, Finding, Iteration, TaskResult, TaskSpec, Usage
from sidecar.core.outcome import commit_message, fit_result, head, tail

ATTEMPT = AttemptId("Grey Area", 1, "01h", 3)


def big(iterations: int, checks: int, output_bytes: int) -> TaskResult:
    findings = tuple(
        Finding(
            name=f"check {n}", type="command_succeeds", passed=n % 2 == 0, detail="d" * 300, output="o" * output_bytes
        )
        for n in range(checks)
    )
    rounds = tuple(
        Iteration(number=n + 1, execution_ok=True, passed=False, summary="s" * 3_000, findings=findings)
        for n in range(iterations)
    )
    return TaskResult(
        execution_ok=True, verified=False, output="x" * 100_000, report=findings, iterations=rounds,
        usage=Usage(model="m", input_tokens=5), error="e" * 9_000,
    )  # fmt: skip


@pytest.mark.parametrize(
    "iterations, checks, output_bytes",
    [(0, 0, 0), (1, 1, 10), (21, 50, 10), (21, 50, MAX_FINDING_BYTES), (400, 50, 200)],
)
def test_any_result_fits_and_keeps_its_facts(iterations: int, checks: int, output_bytes: int) -> None:
    result = big(iterations, checks, output_bytes)
    fitted = fit_result(result)

    assert len(encode_result(fitted)) <= MAX_RESULT_BYTES
    assert (fitted.execution_ok, fitted.verified, fitted.usage) == (True, False, result.usage)
    assert [finding.passed for finding in fitted.report] == [finding.passed for finding in result.report]
    assert len(fitted.output.encode()) <= MAX_OUTPUT_BYTES


def test_a_result_that_fits_is_left_alone() -> None:
    result = TaskResult(execution_ok=True, verified=None, output="hello")

    assert fit_result(result) == result


def test_the_least_important_output_goes_first() -> None:
    fitted = fit_result(big(4, 40, MAX_FINDING_BYTES))

    assert fitted.iterations[0].findings[0].output == ""
    assert len(fitted.report[0].output) == MAX_FINDING_BYTES


@given(st.text(), st.integers(60, 300))
def test_a_head_is_the_beginning_in_whole_lines_and_never_too_long(text: str, limit_bytes: int) -> None:
    kept = head(text, limit_bytes)
    lines, _, rest = kept.rpartition("[... the rest")

    assert len(kept.encode()) <= limit_bytes
    assert kept == text or (text.startswith(lines) and rest and (not lines or lines.endswith("\n")))


def test_what_the_branch_has_too_is_bounded_and_goes_first() -> None:
    small = fit_result(TaskResult(execution_ok=True, verified=None, diff="+x\n" * 40_000))
    large = fit_result(replace(big(4, 8, MAX_FINDING_BYTES), diff="+x\n" * 40_000))

    assert len(small.diff.encode()) <= MAX_DIFF_BYTES
    assert small.diff.startswith("+x\n+x\n")
    assert small.diff.endswith("the branch has it ...]\n")
    assert large.report[0].output


@given(st.text(), st.integers(0, 200))
def test_a_tail_is_the_end_and_never_too_long(text: str, limit_bytes: int) -> None:
    kept = tail(text, limit_bytes)

    assert len(kept.encode()) <= limit_bytes
    assert len(text.encode()) > limit_bytes or kept == text


def test_a_cut_tail_says_so() -> None:
    assert tail("abc" * 100, 50) == "[... the beginning is cut to fit ...]\n" + ("abc" * 100)[-12:]


def test_the_commit_says_whose_work_it_is() -> None:
    message = commit_message(TaskSpec(title="Mend the fence"), ATTEMPT, "claude-x")

    assert message == "Mend the fence\n\nTask: 01h\nEpoch: 3\nAgent: Grey Area\nModel: claude-x\n"


@pytest.mark.parametrize(
    "spec, title",
    [
        (TaskSpec(prompt="do\n\nTask: forged\nit"), "do Task: forged it"),
        (TaskSpec(command="make " + "x" * 200), "make " + "x" * 67),
        (TaskSpec(), "Work on a task"),
    ],
)
def test_a_commit_title_is_one_line_whatever_the_task_says(spec: TaskSpec, title: str) -> None:
    assert commit_message(spec, ATTEMPT, "none") == f"{title}\n\nTask: 01h\nEpoch: 3\nAgent: Grey Area\n"
