"""How the demo tells what happened to a task: timeline, routing, findings, cost. Pure: a view in, lines out."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from protocol.api import EventView, TaskView
from protocol.model import Finding, Iteration, Usage

WIDTH: Final = 96
OUTPUT_LINES: Final = 6
NAMES: Final = {
    "task_queued": "stored and queued",
    "task_assigned": "assigned",
    "task_started": "accepted",
    "task_iteration": "executing",
    "task_verifying": "checking",
    "task_completed": "completed",
    "task_failed": "failed",
    "task_requeued": "back in the queue",
    "task_ready": "ready to run",
    "task_dead": "given up",
    "attempt_lost": "attempt lost",
}


def story(view: TaskView, events: Sequence[EventView]) -> Iterator[str]:
    """A finished task in lines."""
    yield f"  {mark(view)} {view.state.value}, {_verified(view)}, on {view.agent or 'nobody'}"
    yield from _wrapped("timeline", _timeline(view, events))
    yield from _wrapped("routing", view.routing.reason + _tier(view))
    result = view.result or next((a.result for a in reversed(view.attempts) if a.result is not None), None)
    for iteration in view.iterations:
        yield from _iteration(iteration)
    if result is not None:
        yield from _output(result.output)
        yield f"    cost       {_usage(view.usage)}"
        if result.branch:
            pushed = ", pushed" if result.pushed else ""
            yield f"    branch     {result.branch} at {result.commit[:10] or 'its base'}{pushed}"
        if result.error:
            yield from _wrapped("error", result.error)
    elif view.reason:
        yield from _wrapped("reason", view.reason)


def mark(view: TaskView) -> str:
    """A sign that tells at a glance, with the words beside it."""
    return "✓" if view.state.value == "completed" and view.verified is not False else "✗"


def _verified(view: TaskView) -> str:
    return {True: "verified by its checks", False: "NOT verified", None: "without checks"}[view.verified]


def _timeline(view: TaskView, events: Sequence[EventView]) -> str:
    parts = []
    for event in events:
        name = NAMES.get(event.kind)
        if name is None:
            continue
        iteration = event.facts.get("iteration")
        label = f"{name} #{iteration}" if iteration else name
        parts.append(f"{label} {_after(view.submitted_at, event.at)}")
    return " → ".join(parts)


def _after(start: datetime, at: datetime) -> str:
    seconds = max(0.0, (at - start).total_seconds())
    return f"+{seconds * 1000:.0f} ms" if seconds < 1 else f"+{seconds:.1f} s"


def _tier(view: TaskView) -> str:
    tier = view.routing.tier
    said = f"tier {tier.effective.value} ({'said' if tier.explicit else 'inferred'}: {', '.join(tier.signals)})"
    return f"; {said}"


def _iteration(iteration: Iteration) -> Iterator[str]:
    outcome = {True: "green", False: "red", None: "no checks"}[iteration.passed]
    yield f"    round {iteration.number}    {outcome}{'' if iteration.execution_ok else ', execution failed'}"
    for finding in iteration.findings:
        yield f"               {_finding(finding)}"


def _finding(finding: Finding) -> str:
    sign = "✓" if finding.passed else "✗"
    detail = "" if finding.passed else f": {' '.join(finding.detail.split())}"
    said = next((f" ({line.strip()})" for line in reversed(finding.output.splitlines()) if line.strip()), "")
    return f"{sign} {finding.name or finding.type}{detail}{'' if finding.passed else said}"[:WIDTH]


def _output(output: str) -> Iterator[str]:
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    for number, line in enumerate(lines[-OUTPUT_LINES:]):
        yield f"    {'output' if number == 0 else '':<10} {line[:WIDTH]}"


def _usage(usage: Usage) -> str:
    cost = "price unknown" if usage.cost_usd is None else f"${usage.cost_usd:.4f}"
    tokens = f"{usage.input_tokens} + {usage.output_tokens} tokens"
    model = "no model" if usage.model == "none" else f"model {usage.model} at {usage.endpoint}"
    return f"{tokens}, {cost}, {usage.seconds:.1f} s; {model}"


def _wrapped(label: str, text: str) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + len(word) + 1 > WIDTH:
            yield f"    {label:<10} {line}"
            label, line = "", word
        else:
            line = f"{line} {word}".strip()
    yield f"    {label:<10} {line}"
