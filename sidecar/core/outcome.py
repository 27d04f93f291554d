"""Make what an attempt delivers fit the line, and say in the commit whose work it is.

Pure. The caller is ``sidecar/rounds.py``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from protocol.codec import encode_result
from protocol.limits import MAX_DIFF_BYTES, MAX_OUTPUT_BYTES, MAX_RESULT_BYTES
from protocol.model import AttemptId, FailureClass, Finding, Iteration, TaskResult, TaskSpec

_CUT: Final = "[... the beginning is cut to fit ...]\n"
_REST: Final = "[... the rest is cut to fit; the branch has it ...]\n"
_TAIL_CHARS: Final = 1_000
_FIRST_AND_LAST: Final = 3


@dataclass(frozen=True, slots=True)
class Ending:
    """How the work ended: the event of the attempt's table (``pass``, ``fail``, ``lose``), the result, and why."""

    event: str
    result: TaskResult
    failure: FailureClass | None = None


def tail(text: str, limit_bytes: int) -> str:
    """The end of ``text``, at most ``limit_bytes`` of UTF-8, with a mark if anything was cut."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit_bytes:
        return raw.decode()
    kept = raw[len(raw) - max(0, limit_bytes - len(_CUT)) :] if limit_bytes > len(_CUT) else b""
    return (_CUT + kept.decode("utf-8", "ignore")) if kept else ""


def head(text: str, limit_bytes: int) -> str:
    """The first lines of ``text``, at most ``limit_bytes`` of UTF-8, with a mark if anything was cut."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit_bytes:
        return raw.decode()
    kept = raw[: max(0, limit_bytes - len(_REST))]
    return kept[: kept.rfind(b"\n") + 1].decode("utf-8", "ignore") + _REST


def fit_result(result: TaskResult, limit_bytes: int = MAX_RESULT_BYTES) -> TaskResult:
    """``result``, with as much of its output as ``limit_bytes`` (as MessagePack) allow.

    What matters least goes first: the diff, which the branch has, output of checks in earlier iterations, then of the
    last ones, then of the work, then long sentences, then iterations in the middle. The facts (what ran, what passed,
    what it cost) stay.
    """
    result = replace(result, output=tail(result.output, MAX_OUTPUT_BYTES), diff=head(result.diff, MAX_DIFF_BYTES))
    for cut in _CUTS:
        if len(encode_result(result)) <= limit_bytes:
            break
        result = cut(result)
    return result


def _cut_diff(result: TaskResult) -> TaskResult:
    return replace(result, diff=head(result.diff, _TAIL_CHARS * 4))


def _cut_earlier_findings(result: TaskResult) -> TaskResult:
    *earlier, last = result.iterations or (None,)
    cut = [replace(item, findings=_without_output(item.findings)) for item in earlier if item]
    return replace(result, iterations=(*cut, *([last] if last else ())))


def _cut_all_iterations(result: TaskResult) -> TaskResult:
    """The last iteration's findings stand in the report as well."""
    return replace(
        result, iterations=tuple(replace(item, findings=_without_output(item.findings)) for item in result.iterations)
    )


def _cut_report(result: TaskResult) -> TaskResult:
    return replace(result, report=tuple(replace(f, output=tail(f.output, _TAIL_CHARS)) for f in result.report))


def _cut_output(result: TaskResult) -> TaskResult:
    return replace(result, output=tail(result.output, _TAIL_CHARS * 4))


def _cut_sentences(result: TaskResult) -> TaskResult:
    def short(finding: Finding) -> Finding:
        return replace(finding, name=finding.name[:100], detail=finding.detail[:200], output="")

    def brief(item: Iteration) -> Iteration:
        return replace(item, summary=item.summary[:500], findings=tuple(short(f) for f in item.findings))

    return replace(
        result,
        error=result.error[:2_000],
        report=tuple(short(f) for f in result.report),
        iterations=tuple(brief(item) for item in result.iterations),
    )


def _cut_middle(result: TaskResult) -> TaskResult:
    every = result.iterations
    ends = every if len(every) <= 2 * _FIRST_AND_LAST else (*every[:_FIRST_AND_LAST], *every[-_FIRST_AND_LAST:])
    return replace(result, iterations=tuple(replace(item, findings=()) for item in ends), artifacts=())


_CUTS: Final[tuple[Callable[[TaskResult], TaskResult], ...]] = (
    _cut_diff,
    _cut_earlier_findings,
    _cut_all_iterations,
    _cut_report,
    _cut_output,
    _cut_sentences,
    _cut_middle,
)


def _without_output(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    return tuple(replace(finding, output="") for finding in findings)


DRAFT: Final = "Draft: uncommitted"
"""The last line of a commit that holds what an attempt that failed had not committed."""


def draft_message(spec: TaskSpec, attempt: AttemptId, model: str) -> str:
    """What a commit of work says that did not pass; who goes on from it takes it back (:data:`DRAFT`)."""
    return f"Draft: {commit_message(spec, attempt, model)}{DRAFT}\n"


def commit_message(spec: TaskSpec, attempt: AttemptId, model: str) -> str:
    """What the commit of an attempt says: the task's title, and trailers that name task, attempt, agent and model.

    The trailers come last and from us alone, so a title with line breaks cannot forge one.
    """
    title = " ".join((spec.title or spec.prompt or spec.command).split())[:72] or "Work on a task"
    return f"{title}\n\n{trailers(attempt, model)}"


def trailers(attempt: AttemptId, model: str) -> str:
    """The last paragraph of the message of a commit: task, attempt, agent and model."""
    lines = [f"Task: {attempt.task}", f"Epoch: {attempt.epoch}", f"Agent: {attempt.sidecar}"]
    if model not in {"", "none"}:
        lines.append(f"Model: {' '.join(model.split())[:100]}")
    return "\n".join(lines) + "\n"
