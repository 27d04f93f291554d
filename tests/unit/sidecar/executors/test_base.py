import json
from pathlib import Path

import pytest

from protocol.errors import (
    BudgetSpent,
    EndpointBusy,
    EndpointDown,
    ModelFailed,
    ModelMissing,
    PromptTooLong,
    WorkFailed,
)
from protocol.model import Budget, FailureClass, Finding, Iteration, TaskSpec, Usage
from sidecar.executors import executors
from sidecar.executors.base import Spending, failed, summary, task_env
from sidecar.llm.endpoints import Endpoints
from tests.support.attempts import Bench


@pytest.mark.parametrize(
    "error, failure",
    [
        (EndpointDown("e", "gone"), FailureClass.QUOTA),
        (EndpointBusy("e", "429", 30), FailureClass.QUOTA),
        (BudgetSpent("tokens", 10, 11), FailureClass.BUDGET),
        (ModelFailed("refuses"), FailureClass.AGENT),
        (ModelMissing("e", "m"), FailureClass.AGENT),
        (PromptTooLong("m", 9, 5), FailureClass.AGENT),
    ],
)
def test_every_error_has_its_class(error: WorkFailed, failure: FailureClass) -> None:
    execution = failed(error, Usage(input_tokens=3), "said")

    assert (execution.ok, execution.failure, execution.error_code) == (False, failure, error.code)
    assert execution.error == execution.summary == str(error)
    assert (execution.usage.input_tokens, execution.output) == (3, "said")


def test_there_are_four_executors() -> None:
    assert list(executors(Endpoints([]))) == ["noop", "shell", "chat", "agent"]


def test_a_program_finds_the_report_of_the_iteration_before(bench: Bench) -> None:
    finding = Finding(name="tests", type="test_passes", passed=False)
    previous = Iteration(number=1, execution_ok=True, passed=False, findings=(finding,))

    env = task_env(bench.work(TaskSpec(command="true"), previous=previous))

    assert env["AGENTCOM_ITERATION"] == "2"
    assert json.loads(Path(env["AGENTCOM_REPORT"]).read_text())["failing"] == ["tests"]
    assert env["AGENTCOM_REPORT"].startswith(str(bench.scratch))


@pytest.mark.parametrize(
    "used, budget, deadline_s, kind",
    [
        (Usage(input_tokens=60, output_tokens=40), Budget(tokens=100), 10, "100 tokens"),
        (Usage(input_tokens=1, cost_usd=0.6), Budget(usd=0.5), 10, "0.5 usd"),
        (Usage(), Budget(), 0, "0 seconds"),
    ],
)
async def test_what_is_spent_ends_the_work(
    bench: Bench, used: Usage, budget: Budget, deadline_s: float, kind: str
) -> None:
    spending = Spending(bench.work(TaskSpec(title="x"), remaining=budget, deadline_s=deadline_s))
    spending.add(used)

    with pytest.raises(BudgetSpent, match=f"budget of {kind} is spent"):
        spending.refuse_if_spent()


async def test_what_is_left_bounds_the_next_answer(bench: Bench) -> None:
    spending = Spending(bench.work(TaskSpec(title="x"), remaining=Budget(tokens=100, usd=1.0)))
    spending.add(Usage(input_tokens=70, cost_usd=None))

    spending.refuse_if_spent()
    assert spending.answer_tokens(4096) == 30
    assert spending.answer_tokens(20) == 20
    assert Spending(bench.work(TaskSpec(title="x"), remaining=Budget(tokens=None))).answer_tokens(50) == 50


def test_a_summary_is_one_short_line() -> None:
    assert summary(" first\nline \n\nsecond paragraph") == "first line"
    assert len(summary("x" * 1000)) == 500
