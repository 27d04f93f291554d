import json

import pytest

from protocol.model import Budget, FailureClass, Finding, Iteration
from sidecar.core.diff import Change
from sidecar.core.verify import Fix, GiveUp, Hold, Pass, Verdict, feedback, left_of, report_json, stuck, verdict

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


def test_the_next_iteration_is_told_what_was_changed_and_what_is_left() -> None:
    budget = Budget(tokens=183_400, usd=0.4125, seconds=519.6, fix_attempts=2)
    changes = (
        Change("calc.py", ((2, "    return a * b"),), ("    return a - b",)),
        Change("new.py", ((1, "x"), (2, "y")), is_new=True),
        Change("old.py", is_gone=True),
        Change("logo.png", is_new=True, is_opaque=True),
    )

    previous = Iteration(number=1, execution_ok=True, passed=False, findings=(BAD,))
    text = feedback(previous, changes=changes, left=left_of(budget, 2))

    assert text.endswith(
        "\nCHANGED SO FAR (4 files):\n"
        "calc.py: +1 -1 lines\n"
        "-    return a - b\n"
        "+    return a * b\n"
        "new.py: new, +2 -0 lines\n"
        "+x\n"
        "+y\n"
        "old.py: deleted\n"
        "logo.png: new, not read line by line\n"
        "LEFT: this iteration and 1 more, 183,400 tokens, $0.4125, 520 seconds."
    )


@pytest.mark.parametrize(
    "budget, iteration, words",
    [
        (Budget(tokens=None, seconds=900, fix_attempts=2), 1, "this iteration and 2 more, 900 seconds"),
        (Budget(tokens=None, seconds=9, fix_attempts=1), 2, "this iteration, the last one, 9 seconds"),
        (Budget(seconds=0.2, fix_attempts=0, tokens=0), 4, "this iteration, the last one, 0 tokens, 0 seconds"),
    ],
)
def test_what_is_left_is_said_in_words_and_what_has_no_limit_is_not(budget: Budget, iteration: int, words: str) -> None:
    assert left_of(budget, iteration) == words


def test_a_large_change_is_told_in_part() -> None:
    lines = tuple((number, f"line {number}" * 100) for number in range(1_000))
    changes = [Change(f"f{number}.py", lines) for number in range(80)]

    text = feedback(Iteration(number=1, execution_ok=True, passed=False), changes=changes)

    assert len(text) < 8_000
    assert "CHANGED SO FAR (80 files)" in text
    assert "f0.py: +1000 -0 lines\n+line 0line 0" in text
    assert "more lines]" in text
    assert text.endswith("more files]")


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
