"""The table of failures in the documentation gives the ceilings that the code has."""

from pathlib import Path

from hub.core.policy import after_failure
from protocol.limits import ALONE_FROM_DEATHS, MAX_DEATHS, MAX_INFRA_FAILURES, MAX_QUOTA_FAILURES
from protocol.model import FailureClass, TaskState

PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text("utf-8")
ROWS = {line.split("|")[1].strip(): line for line in PAGE.split("## What a failure does")[1].split("\n") if "|" in line}


def test_every_class_has_its_row() -> None:
    named = {name for cell in ROWS for name in cell.replace("`", "").split(", ")}

    assert {failure.value for failure in FailureClass} - named == {"cancelled"}  # it is no failure


def test_the_ceilings_are_those_of_the_code() -> None:
    assert f"the {MAX_INFRA_FAILURES}th time the task is dead" in ROWS["`infra`"]
    assert f"and {MAX_QUOTA_FAILURES} tries more" in ROWS["`quota`"]
    assert f"after death {ALONE_FROM_DEATHS} it runs only on an agent that runs nothing else" in ROWS["a death"]
    assert f"after death {MAX_DEATHS} the task is dead" in ROWS["a death"]


def test_what_the_table_says_is_never_retried_is_not() -> None:
    for name in ("`verify`", "`input`, `budget`, `deadline`, `dependency`"):
        assert "failed" in ROWS[name].split("|")[3]
        for failure in name.replace("`", "").split(", "):
            after = after_failure(FailureClass(failure), retries=0, max_retries=3, infra_failures=0)
            assert after.state is TaskState.FAILED
