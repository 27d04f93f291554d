"""What an executor gets for one iteration and what it gives back.

An executor does the work and says how it went; whether the work is any good is for the checks to say. What it raises on
purpose is turned into a failed execution here (:func:`failed`); cancellation passes through.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol

from protocol.choice import Effort
from protocol.errors import BudgetSpent, ModelFailed, WorkFailed
from protocol.limits import MAX_OUTPUT_BYTES
from protocol.loads import Answering, ToolUse
from protocol.model import AttemptId, Budget, FailureClass, Iteration, Routing, TaskSpec, Usage
from sidecar.core.diff import Change
from sidecar.core.outcome import tail
from sidecar.core.verify import report_json
from sidecar.errors import failure_of
from sidecar.executors.transcript import Transcript, Turned, nobody
from sidecar.llm.account import Account
from sidecar.repository import Repository
from sidecar.sandbox.cell import Cell

_SUMMARY_CHARS: Final = 500


Called = Callable[[int, Sequence[ToolUse]], None]


async def _none() -> Sequence[Change]:
    """Nothing was changed."""
    return ()


@dataclass(frozen=True, slots=True)
class Work:
    """One iteration of an attempt.

    ``scratch`` is a directory outside the workspace for files that are no result. ``previous`` is the iteration before
    with its findings; ``lead`` begins the report on it if that was another attempt's. ``remaining`` and ``deadline_s``
    are what is left of the budget. ``log`` takes (stream, text). ``spent`` hears what the iteration has used so far, so
    it is known even if the work is cut off. ``check`` raises if nothing that others can notice may happen any more.
    ``answering`` is given a way to ask how a model's answer comes along, and ``None`` when none is on its way.
    Programs of the work run in ``cell`` and nowhere else. ``resume`` is the conversation of an earlier attempt that
    this one goes on with, which has used ``prior``; ``turned`` hears of every turn; ``note`` is a word of a person who
    has handed the task back. ``account`` is of what programs of the work ask models by themselves; the caller adds it.
    ``changes`` looks what the work has changed so far. ``called`` hears which tools a model has called in a turn, by
    the turn's number.
    """

    attempt: AttemptId
    spec: TaskSpec
    routing: Routing
    workspace: Path
    scratch: Path
    iteration: int
    previous: Iteration | None
    remaining: Budget
    deadline_s: float
    cell: Cell
    log: Callable[[str, str], None]
    spent: Callable[[Usage], None]
    check: Callable[[], None] = lambda: None
    answering: Callable[[Callable[[], Answering] | None], None] = lambda _ask: None
    lead: str = ""
    resume: Transcript | None = None
    prior: Usage = Usage()  # noqa: RUF009 - frozen
    turned: Turned = nobody
    note: str = ""
    repository: Repository | None = None
    account: Account = field(default_factory=Account)
    changes: Callable[[], Awaitable[Sequence[Change]]] = _none
    called: Called = lambda _turn, _calls: None

    @property
    def effort(self) -> Effort:
        """How hard to try, by the rung that the attempt stands on."""
        return self.routing.rung.effort if self.routing.rung is not None else Effort.NORMAL


@dataclass(frozen=True, slots=True)
class Execution:
    """How the work went. ``failure`` is set exactly if ``ok`` is not."""

    ok: bool
    output: str
    summary: str
    usage: Usage
    exit_code: int | None = None
    error_code: str = ""
    error: str = ""
    failure: FailureClass | None = None


Pauses = Literal["turn", "at once", "never"]
"""When work can stop to go on later: between two turns, at any time as it begins anew, or only before it begins."""


class Executor(Protocol):
    """Does one iteration of a task."""

    name: str

    @property
    def pauses(self) -> Pauses:
        """When its work can stop to go on later."""

    async def execute(self, work: Work) -> Execution:
        """Do it; failures of the work are in the result, not raised."""


def failed(exc: WorkFailed, usage: Usage, output: str = "") -> Execution:
    """The execution that ended with ``exc``."""
    failure = FailureClass.AGENT if isinstance(exc, ModelFailed) else failure_of(exc)
    return Execution(
        ok=False,
        output=tail(output, MAX_OUTPUT_BYTES),
        summary=summary(str(exc)),
        usage=usage,
        error_code=exc.code,
        error=str(exc),
        failure=failure,
    )


def task_env(work: Work) -> dict[str, str]:
    """What a program of the task is told; writes the report file that ``AGENTCOM_REPORT`` names."""
    report = work.scratch / f"report-{work.iteration}.json"
    report.write_text(json.dumps(report_json(work.previous), indent=1), encoding="utf-8")
    return {
        "AGENTCOM_TASK": work.attempt.task,
        "AGENTCOM_ITERATION": str(work.iteration),
        "AGENTCOM_REPORT": str(report),
    }


def summary(text: str) -> str:
    """The first paragraph of ``text`` in one line, at most 500 characters."""
    line = " ".join(text.strip().split("\n\n", 1)[0].split())
    return line if len(line) <= _SUMMARY_CHARS else line[: _SUMMARY_CHARS - 3] + "..."


class Spending:
    """What one iteration has used, against what it may use."""

    def __init__(self, work: Work) -> None:
        self._budget, self._spent, self._check = work.remaining, work.spent, work.check
        self._clock = asyncio.get_running_loop().time
        self._seconds = work.deadline_s
        self._started = self._clock()
        self.usage = work.prior

    @property
    def seconds_left(self) -> float:
        """Seconds until the iteration must end; never below 0."""
        return max(0.0, self._seconds - (self._clock() - self._started))

    def add(self, usage: Usage) -> None:
        """Count one model answer."""
        self.usage = self.usage.plus(usage)
        self._spent(self.usage)

    def refuse_if_spent(self) -> None:
        """Let the next step begin.

        Raises:
            BudgetSpent: tokens, money or seconds are used up.
            LeaseOver: nothing may happen for this attempt any more.
        """
        used = self.usage.input_tokens + self.usage.output_tokens
        tokens, usd = self._budget.tokens, self._budget.usd
        self._check()
        if tokens is not None and used >= tokens:
            raise BudgetSpent("tokens", tokens, used)
        if usd is not None and self.usage.cost_usd is not None and used > 0 and self.usage.cost_usd > usd:
            raise BudgetSpent("usd", usd, self.usage.cost_usd)
        if self.seconds_left <= 0:
            raise BudgetSpent("seconds", self._seconds, self._clock() - self._started)

    def answer_tokens(self, most: int) -> int:
        """How long one answer may be: ``most``, or less if fewer tokens are left."""
        if self._budget.tokens is None:
            return most
        used = self.usage.input_tokens + self.usage.output_tokens
        return max(1, min(most, self._budget.tokens - used))
