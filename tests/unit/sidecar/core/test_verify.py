import json

import pytest

from protocol.model import FailureClass, Finding, Iteration
from sidecar.core.verify import Fix, GiveUp, Hold, Pass, Verdict, feedback, report_json, stuck, verdict

GOOD = Finding(name="builds", type="command_succeeds", passed=True, exit_code=0, output="ok")
BAD = Finding(
    name="tests", type="test_passes", passed=False, detail="exit code 1", exit_code=1, output="E  assert 1 == 2\n"
)
DOUBT = Finding(name="tests", type="test_passes", passed=False, doubtful=True, detail="a test was changed")
SILENT = Finding(name="clean", type="git_clean", passed=False)


@pytest.mark.parametrize(
    "execution_ok, findings, iteration, fix_attempts, expected",
    [
        (True, (), 1, 2, Pass(None)),
        (True, (GOOD,), 1, 0, Pass(True)),
        (True, (GOOD, BAD), 1, 2, Fix(("tests",))),
        (True, (GOOD, BAD), 2, 2, Fix(("tests",))),
        (True, (GOOD, DOUBT), 2, 2, Fix(("tests",))),
        (True, (GOOD, DOUBT), 3, 2, Hold("a person has to look at it: tests: a test was changed")),
        (
            True,
            (DOUBT, SILENT),
            1,
            0,
            GiveUp(False, FailureClass.VERIFY, "2 of 2 checks still fail after 1 iteration: tests, clean"),
        ),
        (
            False,
            (DOUBT,),
            1,
            0,
            GiveUp(False, FailureClass.VERIFY, "1 of 1 checks still fail after 1 iteration: tests"),
        ),
        (False, (GOOD,), 1, 1, Fix(())),
        (False, (), 1, 5, GiveUp(None, FailureClass.AGENT, "the work itself failed")),
        (False, (GOOD,), 1, 0, GiveUp(True, FailureClass.AGENT, "the work itself failed")),
        (
            True,
            (GOOD, BAD),
            1,
            0,
            GiveUp(False, FailureClass.VERIFY, "1 of 2 checks still fail after 1 iteration: tests"),
        ),
        (
            False,
            (BAD, SILENT),
            3,
            2,
            GiveUp(False, FailureClass.VERIFY, "2 of 2 checks still fail after 3 iterations: tests, clean"),
        ),
    ],
)
def test_only_work_that_went_well_and_failed_no_check_passes(
    execution_ok: bool, findings: tuple[Finding, ...], iteration: int, fix_attempts: int, expected: Verdict
) -> None:
    found = verdict(execution_ok=execution_ok, findings=findings, iteration=iteration, fix_attempts=fix_attempts)

    assert found == expected


def test_the_next_iteration_is_told_what_failed_and_what_passed() -> None:
    text = feedback(Iteration(number=1, execution_ok=True, passed=False, findings=(GOOD, BAD, SILENT)))

    assert text == (
        "Iteration 1 did not pass. Repair what failed; do not start over.\n"
        "FAILED (2):\n"
        "- tests (test_passes): exit code 1\n"
        "```\nE  assert 1 == 2\n```\n"
        "- clean (git_clean)\n"
        "PASSED (1), keep it so:\n"
        "- builds"
    )


@pytest.mark.parametrize("summary, told", [("exit code 3", "exit code 3"), ("", "no reason was given")])
def test_work_that_ended_with_an_error_is_told_so(summary: str, told: str) -> None:
    text = feedback(Iteration(number=2, execution_ok=False, passed=None, summary=summary))

    assert text.endswith(f"The work itself ended with an error: {told}")


def test_of_long_output_the_end_is_told() -> None:
    noisy = Finding(name="n", type="test_passes", passed=False, output="x" * 10_000 + " the reason")

    text = feedback(Iteration(number=1, execution_ok=True, passed=False, findings=(noisy,)))

    assert "the reason" in text
    assert len(text) < 4_000


def test_a_program_gets_the_same_as_data() -> None:
    report = report_json(Iteration(number=1, execution_ok=True, passed=False, findings=(GOOD, BAD)))

    assert json.loads(json.dumps(report)) == report
    assert (report["iteration"], report["execution_ok"], report["passed"]) == (1, True, False)
    assert (report["failing"], report["passing"]) == (["tests"], ["builds"])
    assert report["findings"][1]["output"] == "E  assert 1 == 2\n"


def test_before_the_first_iteration_the_report_is_there_and_empty() -> None:
    assert report_json(None) == {
        "iteration": 0,
        "execution_ok": None,
        "passed": None,
        "findings": [],
        "failing": [],
        "passing": [],
    }


def _ended(number: int, detail: str = "2 failed") -> Iteration:
    finding = Finding(name="tests", type="test_passes", passed=False, detail=detail, exit_code=1)
    return Iteration(number=number, execution_ok=True, passed=False, findings=(finding,))


def test_the_same_failure_twice_without_a_change_is_no_progress() -> None:
    found = stuck([_ended(1), _ended(2)], ["tree", "tree"])

    assert found is not None
    assert found.failure is FailureClass.VERIFY
    assert found.reason == "no progress: iteration 2 changed no file, and fails as the one before: tests"


@pytest.mark.parametrize(
    "iterations, trees",
    [
        ([_ended(1)], ["tree"]),
        ([_ended(1), _ended(2)], ["tree"]),
        ([_ended(1), _ended(2)], ["tree", "other"]),
        ([_ended(1), _ended(2, "1 failed")], ["tree", "tree"]),
    ],
)
def test_a_change_or_another_failure_or_an_unknown_tree_is_worth_another_try(
    iterations: list[Iteration], trees: list[str]
) -> None:
    assert stuck(iterations, trees) is None
