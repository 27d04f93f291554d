"""Decide what follows from an iteration's findings: it passed, it is repaired, or it is given up.

Pure. Also tells the next iteration what failed and what passed, as text for a model and as data for a program. The loop
that runs iterations is ``sidecar/runner.py``, the checks are in ``sidecar/checks``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from protocol.messages import Carry
from protocol.model import Budget, FailureClass, Finding, Iteration
from sidecar.core.diff import Change, in_words

_FEEDBACK_DIFF_CHARS: Final = 6_000
"""Of what was changed so far: about 2,000 tokens, which leaves room in a small context."""
_FEEDBACK_OUTPUT_CHARS: Final = 3_000
"""Output of one failed check that a model is shown: its end, where the reason stands."""


@dataclass(frozen=True, slots=True)
class Pass:
    """The work is done. ``verified`` is ``None`` where there was nothing to check."""

    verified: bool | None


@dataclass(frozen=True, slots=True)
class Fix:
    """Another iteration may repair it; ``failing`` are the names of the checks to repair."""

    failing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It did not pass, and nothing more is tried here."""

    verified: bool | None
    failure: FailureClass
    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing but doubts are left, and a person has to say what they are worth: it is delivered, and does not count."""

    reason: str


Verdict = Pass | Fix | GiveUp | Hold


def verdict(*, execution_ok: bool, findings: Sequence[Finding], iteration: int, fix_attempts: int) -> Verdict:
    """What follows from one iteration.

    Args:
        execution_ok: the executor itself says that its work went well; proves nothing, but is needed to pass.
        findings: what the checks found, empty if there are none.
        iteration: its number, from 1.
        fix_attempts: how many iterations may follow the first.
    Returns:
        ``Pass`` only if the execution went well and no check failed. Work without checks is never repeated: nothing
        would tell the next iteration what to mend. ``Hold`` if no iteration is left and nothing failed but what the
        work has changed of its own proof.
    """
    failing = tuple(finding.name for finding in findings if not finding.passed)
    verified = None if not findings else not failing
    if execution_ok and not failing:
        return Pass(verified)
    if findings and iteration <= fix_attempts:
        return Fix(failing)
    doubts = [finding for finding in findings if not finding.passed and finding.doubtful]
    if execution_ok and len(doubts) == len(failing):
        said = "; ".join(f"{finding.name}: {finding.detail}" for finding in doubts)
        return Hold(f"a person has to look at it: {said}")
    if failing:
        tried = f"{iteration} iteration{'' if iteration == 1 else 's'}"
        reason = f"{len(failing)} of {len(findings)} checks still fail after {tried}: {', '.join(failing)}"
        return GiveUp(verified, FailureClass.VERIFY, reason)
    return GiveUp(verified, FailureClass.AGENT, "the work itself failed")


def stuck(iterations: Sequence[Iteration], trees: Sequence[str]) -> GiveUp | None:
    """Why another iteration is not worth trying; ``None``: it may be.

    Args:
        iterations: those that have ended.
        trees: what the work tree was at the end of each of the last of them, as a digest.
    """
    if len(iterations) < 2 or len(trees) < 2 or trees[-1] != trees[-2]:  # noqa: PLR2004 - two are compared
        return None
    before, last = (_failures(iteration) for iteration in iterations[-2:])
    is_doubtful = all(finding.passed or finding.doubtful for finding in iterations[-1].findings)
    if before != last or is_doubtful:  # what is only doubtful is for a person to decide about
        return None
    names = ", ".join(name for name, *_ in last) or "the work itself"
    reason = f"no progress: iteration {iterations[-1].number} changed no file, and fails as the one before: {names}"
    return GiveUp(verified=False, failure=FailureClass.VERIFY, reason=reason)


def _failures(iteration: Iteration) -> list[tuple[str, str, int | None]]:
    return [(found.name, found.detail, found.exit_code) for found in iteration.findings if not found.passed]


def inherited(carry: Carry | None) -> Iteration | None:
    """The last iteration of the attempt that this one goes on from."""
    if carry is None:
        return None
    return Iteration(
        number=carry.iterations,
        execution_ok=carry.execution_ok,
        passed=all(finding.passed for finding in carry.findings) if carry.findings else None,
        summary=carry.summary,
        findings=carry.findings,
    )


def lead(carry: Carry | None, *, has_files: bool) -> str:
    """How the report of an earlier attempt begins; ``has_files``: its work is in the workspace."""
    if carry is None:
        return ""
    said = f"An earlier attempt at this task ({carry.model or 'another model'}) did not pass its checks."
    if has_files:
        return f"{said} Its work is in the workspace: repair what failed; do not start over."
    shown = carry.output.strip()[-_FEEDBACK_OUTPUT_CHARS:]
    output = f" This is the end of what it said:\n```\n{shown}\n```" if shown else ""
    return f"{said} Its files are not here: do the task, and mind what failed.{output}"


def feedback(previous: Iteration, lead: str = "", *, changes: Sequence[Change] = (), left: str = "") -> str:
    """What the last iteration left to repair, for a model: first what failed and how, then what must stay as it is.

    Args:
        previous: that iteration.
        lead: stands before it instead of the usual sentence.
        changes: what all iterations have changed so far.
        left: what is left of the budget, in words.
    """
    failing = [finding for finding in previous.findings if not finding.passed]
    passing = [finding for finding in previous.findings if finding.passed]
    parts = [lead or f"Iteration {previous.number} did not pass. Repair what failed; do not start over."]
    if not previous.execution_ok:
        parts.append(f"The work itself ended with an error: {previous.summary or 'no reason was given'}")
    if failing:
        parts.append(f"FAILED ({len(failing)}):")
        parts += [_failed(finding) for finding in failing]
    if passing:
        parts.append(f"PASSED ({len(passing)}), keep it so:")
        parts += [f"- {finding.name}" for finding in passing]
    if changes:
        parts.append(f"CHANGED SO FAR ({len(changes)} files):\n{in_words(changes, _FEEDBACK_DIFF_CHARS)}")
    if left:
        parts.append(f"LEFT: {left}.")
    return "\n".join(parts)


def left_of(budget: Budget, iteration: int) -> str:
    """What a model may still use, in words: iterations, tokens, money, seconds; what has no limit is left out.

    Args:
        budget: what is left as ``iteration`` begins, ``fix_attempts`` being the iterations that may follow the first.
        iteration: its number, from 1.
    """
    more = max(0, budget.fix_attempts - (1 if iteration > 1 else 0))
    parts = [f"this iteration and {more} more" if more else "this iteration, the last one"]
    if budget.tokens is not None:
        parts.append(f"{budget.tokens:,} tokens")
    if budget.usd is not None:
        parts.append(f"${budget.usd:.4f}")
    return ", ".join([*parts, f"{budget.seconds:.0f} seconds"])


def _failed(finding: Finding) -> str:
    detail = f": {finding.detail}" if finding.detail else ""
    shown = finding.output.strip()[-_FEEDBACK_OUTPUT_CHARS:]
    output = f"\n```\n{shown}\n```" if shown else ""
    return f"- {finding.name} ({finding.type}){detail}{output}"


def report_json(previous: Iteration | None) -> dict[str, Any]:
    """What a program finds in the file that ``AGENTCOM_REPORT`` names; before the first iteration all lists are empty.

    Returns:
        ``{"iteration", "execution_ok", "passed", "findings": [...], "failing": [name], "passing": [name]}``, where
        ``iteration`` is the number of the iteration told about, 0 for none.
    """
    findings = previous.findings if previous is not None else ()
    return {
        "iteration": 0 if previous is None else previous.number,
        "execution_ok": None if previous is None else previous.execution_ok,
        "passed": None if previous is None else previous.passed,
        "findings": [msgspec.to_builtins(finding) for finding in findings],
        "failing": [finding.name for finding in findings if not finding.passed],
        "passing": [finding.name for finding in findings if finding.passed],
    }
