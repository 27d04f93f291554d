"""The tool that runs a command in the workspace, in a process of the attempt that ends with it."""

from collections.abc import Callable
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from protocol.errors import BadInput, Problem
from sidecar.sandbox.cell import Cell
from sidecar.tools.base import MAX_RESULT_BYTES, Tool

DEFAULT_TIMEOUT_S: Final = 60.0
LONGEST_TIMEOUT_S: Final = 600.0


class RunArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of ``run``."""

    command: Annotated[str, Meta(description="shell command; runs in the workspace")]
    timeout_s: Annotated[float, Meta(description="seconds after which it is ended")] = DEFAULT_TIMEOUT_S


def run_tool(
    cell: Cell,
    *,
    seconds_left: Callable[[], float],
    log: Callable[[str, str], None],
) -> Tool[Any]:
    """The ``run`` tool of one attempt; no command outlives ``seconds_left()``."""

    async def run(arguments: RunArguments) -> str:
        problems = []
        if not arguments.command.strip() or "\0" in arguments.command:
            problems.append(Problem("command", "is empty or contains a NUL character"))
        if not 0 < arguments.timeout_s <= LONGEST_TIMEOUT_S:
            problems.append(
                Problem("timeout_s", f"{arguments.timeout_s:g}; more than 0 and at most {LONGEST_TIMEOUT_S:g}")
            )
        if problems:
            raise BadInput(problems, "arguments")
        timeout_s = max(0.1, min(arguments.timeout_s, seconds_left()))
        outcome = await cell.run(
            arguments.command,
            timeout_s=timeout_s,
            on_output=log,
            max_output_bytes=MAX_RESULT_BYTES - 1024,
        )
        cut = outcome.output_bytes - len(outcome.output.encode("utf-8", "replace"))
        head = (
            f"ended after {timeout_s:g} s, it took too long" if outcome.timed_out else f"exit code {outcome.exit_code}"
        )
        left_out = f"\n[{cut} earlier bytes left out]" if cut > 0 else ""
        return f"{head}{left_out}\n{outcome.output}"

    return Tool("run", "Run a shell command in the workspace and show its output.", RunArguments, run)
