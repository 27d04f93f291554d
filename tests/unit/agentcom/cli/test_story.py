"""Promises of :mod:`agentcom.cli.story`."""

from typing import Any

import msgspec
import pytest

from agentcom.cli import story
from protocol.api import TaskView
from protocol.model import Usage
from tests.unit.agentcom.conftest import view

FINDINGS = [
    {"name": "pytest -q", "type": "test_passes", "passed": False, "detail": "exit code 1", "output": "a\n1 failed\n"},
    {"name": "", "type": "git_clean", "passed": True},
]
ITERATION = {"number": 1, "execution_ok": True, "passed": False, "findings": FINDINGS, "usage": {"seconds": 1.5}}


def task(**over: Any) -> TaskView:
    return msgspec.convert(view(**over), TaskView, strict=False)


@pytest.mark.parametrize(
    "state, verified, is_good",
    [("completed", True, True), ("completed", None, True), ("completed", False, False), ("failed", None, False)],
)
def test_only_completed_and_not_failed_by_checks_is_good(state: str, verified: bool | None, is_good: bool) -> None:
    assert story.is_good(task(state=state, verified=verified)) is is_good


def test_a_failed_task_tells_what_failed_what_passed_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    attempt = {
        "epoch": 1,
        "agent": "Boo",
        "host": "h",
        "state": "failed",
        "accepted": True,
        "assigned_at": "2026-01-01T00:00:00Z",
    }
    result = {"execution_ok": True, "verified": False, "output": "line\n" * 30, "error": "checks fail", "branch": "b/1"}
    story.tell(
        task(
            state="dead",
            verified=False,
            agent="Boo",
            attempts=[attempt],
            iterations=[ITERATION],
            result=result,
            usage={"model": "m", "endpoint": "e", "input_tokens": 1200, "output_tokens": 5, "cost_usd": None},
        )
    )

    said = capsys.readouterr()
    for words in (
        "result  not verified",
        "agent   Boo on h",
        "cost    m on e, 1,200 tokens in, 5 out, unknown price",
        "iteration 1: done, checks failed, 1.50 s",
        "FAILED  pytest -q: exit code 1",
        "| 1 failed",
        "passed  git_clean",
        "error   checks fail",
        "output (the last 20 of 30 lines)",
    ):
        assert words in said.out
    assert "agentcom tasks retry" in said.err


def test_a_task_that_is_not_final_names_the_command_that_explains_it(capsys: pytest.CaptureFixture[str]) -> None:
    story.tell(task(state="queued"))

    assert "agentcom tasks explain" in capsys.readouterr().err


def test_words_of_tasks_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    result = {"execution_ok": True, "verified": None, "output": "\x1b[31mred"}
    story.tell(task(title="a\x1b[2Jb", state="completed", result=result))

    assert "\x1b" not in capsys.readouterr().out


def test_work_without_a_model_says_so() -> None:
    assert story.cost(Usage()) == "no model, 0 tokens"
    assert story.cost(Usage(model="m", input_tokens=1, cost_usd=0.5)) == "m, 1 tokens in, 0 out, $0.5000"
