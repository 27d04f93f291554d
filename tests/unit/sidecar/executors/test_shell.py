import asyncio

import pytest

from protocol.model import FailureClass, TaskSpec, Usage
from sidecar.executors.noop import NoopExecutor
from sidecar.executors.shell import ShellExecutor
from tests.support.attempts import ATTEMPT, Bench

SHELL = ShellExecutor()


async def test_a_command_works_in_the_workspace_and_costs_no_token(bench: Bench) -> None:
    done = await SHELL.execute(bench.work(TaskSpec(command="echo one; echo two >&2; touch made")))

    assert done.ok
    assert (done.exit_code, done.failure, done.error) == (0, None, "")
    assert sorted(done.output.split()) == ["one", "two"]
    assert (bench.workspace / "made").exists()
    assert (done.usage.model, done.usage.input_tokens, done.usage.output_tokens, done.usage.cost_usd) == (
        "none",
        0,
        0,
        0.0,
    )
    assert {stream for stream, _ in bench.logged} == {"stdout", "stderr"}


async def test_the_command_is_told_its_task_its_iteration_and_an_empty_report(bench: Bench) -> None:
    script = 'echo $AGENTCOM_TASK $AGENTCOM_ITERATION; cat "$AGENTCOM_REPORT"'

    done = await SHELL.execute(bench.work(TaskSpec(command=script)))

    assert done.output.startswith(f"{ATTEMPT.task} 1\n")
    assert '"findings": []' in done.output


@pytest.mark.parametrize(
    "command, code, error_code, error",
    [
        ("echo why; exit 3", 3, "command_failed", "exit code 3; last line: why"),
        ("no-such-program-here", 127, "command_failed", "a command is not installed here"),
        ("kill -9 $$", -9, "killed", "the command died of signal 9: something killed it"),
        ("echo MemoryError; exit 1", 1, "out_of_memory", "exit code 1: memory ran out"),
    ],
)
async def test_a_command_that_fails_says_how(
    bench: Bench, command: str, code: int, error_code: str, error: str
) -> None:
    done = await SHELL.execute(bench.work(TaskSpec(command=command)))

    assert not done.ok
    assert (done.exit_code, done.failure, done.error_code) == (code, FailureClass.AGENT, error_code)
    assert error in done.error


async def test_a_command_that_takes_too_long_has_spent_its_budget(bench: Bench) -> None:
    done = await SHELL.execute(bench.work(TaskSpec(command="echo begun; sleep 60"), deadline_s=0.3))

    assert (done.ok, done.failure, done.error_code) == (False, FailureClass.BUDGET, "budget_spent")
    assert done.output.startswith("begun\n")  # a shell that is told to end may say so


@pytest.mark.parametrize("command", ["", "  ", "a\0b"])
async def test_no_usable_command_is_bad_input(bench: Bench, command: str) -> None:
    done = await SHELL.execute(bench.work(TaskSpec(title="x", command=command)))

    assert (done.ok, done.failure) == (False, FailureClass.INPUT)
    assert done.error


async def test_cancelling_passes_through_and_leaves_no_process(bench: Bench) -> None:
    running = asyncio.create_task(SHELL.execute(bench.work(TaskSpec(command="echo begun; sleep 60"))))
    async with asyncio.timeout(5):
        await bench.until_logged("begun")
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert await bench.processes.end_attempt(ATTEMPT) == 0


async def test_noop_does_nothing_and_succeeds(bench: Bench) -> None:
    done = await NoopExecutor().execute(bench.work(TaskSpec(title="x")))

    assert (done.ok, done.output, done.usage) == (True, "", Usage())
