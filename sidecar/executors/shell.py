"""The executor ``shell``: runs the task's command in the workspace. Costs no token."""

from typing import Final

from protocol.errors import BudgetSpent
from protocol.model import FailureClass, Usage
from sidecar.core.cause import cause
from sidecar.errors import CannotStart, SandboxFailed
from sidecar.executors.base import Execution, Pauses, Work, failed, summary, task_env
from sidecar.process import ProcessOutcome

_MEANINGS: Final = {
    126: "exit code 126: a file is there but may not be executed",
    127: "exit code 127: a command is not installed here, or its name is misspelt",
}


class ShellExecutor:
    """Runs a shell command.

    The command is told its iteration (``AGENTCOM_ITERATION``, from 1), its task (``AGENTCOM_TASK``) and the file
    (``AGENTCOM_REPORT``) with what the checks found before, which is there at the first iteration too.
    """

    name = "shell"
    pauses: Pauses = "never"

    async def execute(self, work: Work) -> Execution:
        """Run the command to its end, or to the end of its time."""
        command = work.spec.command
        if not command.strip():
            return Execution(
                ok=False,
                output="",
                summary="no command",
                usage=Usage(),
                error_code="no_command",
                error="the task has no command; give one, or choose another executor",
                failure=FailureClass.INPUT,
            )
        try:
            outcome = await work.cell.run(
                command,
                env=task_env(work),
                timeout_s=work.deadline_s,
                on_output=work.log,
            )
        except (CannotStart, SandboxFailed) as exc:
            return failed(exc, Usage())
        usage = Usage(seconds=outcome.seconds)
        if outcome.timed_out:
            return failed(BudgetSpent("seconds", work.deadline_s, outcome.seconds), usage, outcome.output)
        return _ended(outcome, usage)


def _ended(outcome: ProcessOutcome, usage: Usage) -> Execution:
    lines = outcome.output.strip().splitlines()
    code = outcome.exit_code
    if code == 0:
        return Execution(
            ok=True,
            output=outcome.output,
            summary=summary(lines[-1] if lines else "exit code 0"),
            usage=usage,
            exit_code=0,
        )
    if code is None:
        error = "the command was ended before it finished"
    elif code < 0:
        error = f"the command died of signal {-code}"
    else:
        error = _MEANINGS.get(code, f"exit code {code}")
    error_code = "command_failed"
    if known := cause(code, outcome.output, oom_kills=outcome.oom_kills, refused_forks=outcome.refused_forks):
        error_code, error = known[0], f"{error}: {known[1]}"
    last = f"; last line: {lines[-1]}" if lines else ""
    return Execution(
        ok=False,
        output=outcome.output,
        summary=summary(error),
        usage=usage,
        exit_code=code,
        error_code=error_code,
        error=f"{error}{last[:300]}",
        failure=FailureClass.AGENT,
    )
