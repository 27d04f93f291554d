"""The life of a task as spans of a trace: waiting, the decision, the way to its agent, every attempt.

Pure, from what the store holds: nothing has to be remembered while the work goes on, and it costs nothing but when a
task has ended. What happens on the machine of an attempt is told by its sidecar, beneath the attempt's span.
Caller: ``hub/services/tracing.py``.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from protocol.events import Event, EventKind
from protocol.ids import made_ms
from protocol.model import AttemptState, Usage
from protocol.traces import Note, Place, Span, of_attempt, span_id

NS_PER_MS: Final = 1_000_000
_WAITS: Final = frozenset(
    {EventKind.TASK_QUEUED, EventKind.TASK_READY, EventKind.TASK_REQUEUED, EventKind.TASK_RESUMED}
)
FINAL: Final = frozenset(
    {EventKind.TASK_COMPLETED, EventKind.TASK_FAILED, EventKind.TASK_CANCELLED, EventKind.TASK_DEAD}
)
_MAX_PROBLEM_CHARS: Final = 300
_NOTED: Final = frozenset(
    {
        EventKind.TASK_STARTED,
        EventKind.TASK_VERIFYING,
        EventKind.TASK_ITERATION,
        EventKind.TOOL_CALLED,
        EventKind.TASK_PAUSING,
    }
)
"""What happens in the course of an attempt; of such an event only its kind and its numbers are told."""


class Tried(Struct, frozen=True, kw_only=True):
    """An attempt, as far as a trace tells of it. Times are Unix milliseconds."""

    epoch: int
    agent: str
    host: str
    state: AttemptState
    decided_ms: int
    assigned_ms: int
    started_ms: int | None
    ended_ms: int | None
    strategy: str = ""
    model: str = ""
    endpoint: str = ""
    verified: bool | None = None
    usage: Usage = Usage()
    reason: str = ""


def spans_of(
    task: str, place: Place, parent: str, events: Sequence[Event], attempts: Sequence[Tried]
) -> tuple[Span, ...]:
    """The spans of a task that has ended, the whole one last.

    Args:
        place, parent: where its own span stands, and beneath which.
        events: all about it, oldest first.
        attempts: all of them, in order.
    """
    waits, end = _waits(events), next((event for event in reversed(events) if event.kind in FINAL), None)
    end_ms = end.at_ms if end is not None else made_ms(task)
    spans: list[Span] = []
    for number, tried in enumerate(attempts):
        since_ms = max((at for at in waits if at <= tried.assigned_ms), default=made_ms(task))
        facts: dict[str, Any] = {"agentcom.attempt.epoch": tried.epoch}
        spans.append(_span(place, "queue", (since_ms, tried.decided_ms), (task, "queue", number), facts))
        spans.extend(_attempt(task, place, tried, events, end_ms))
    facts = {"agentcom.task.id": task, "agentcom.attempts": len(attempts)}
    if end is not None:
        facts |= {"agentcom.task.state": end.kind.removeprefix("task_")}
    problem = "" if end is None or end.kind is EventKind.TASK_COMPLETED else _reason(end)
    whole = _span(place, "task", (made_ms(task), end_ms), (task,), facts, problem=problem)
    return (*spans, Span(**{name: getattr(whole, name) for name in Span.__struct_fields__} | {"parent": parent}))


def _attempt(task: str, place: Place, tried: Tried, events: Sequence[Event], end_ms: int) -> list[Span]:
    mine, ended_ms = of_attempt(place, task, tried.epoch), tried.ended_ms or end_ms
    of_it = [event for event in events if event.epoch == tried.epoch and event.kind in _NOTED]
    way: dict[str, Any] = {
        "agentcom.strategy": tried.strategy,
        "agentcom.agent": tried.agent,
        "gen_ai.request.model": tried.model,
        "agentcom.endpoint": tried.endpoint,
    }
    used = tried.usage
    facts = {
        "agentcom.task.id": task,
        "agentcom.attempt.epoch": tried.epoch,
        "agentcom.attempt.state": tried.state.value,
        "agentcom.host": tried.host,
        "agentcom.verified": tried.verified,
        "gen_ai.usage.input_tokens": used.input_tokens or None,
        "gen_ai.usage.output_tokens": used.output_tokens or None,
        "agentcom.cost_usd": used.cost_usd or None,
        **way,
    }
    is_bad = tried.state is not AttemptState.PASSED
    notes = tuple(Note(event.at_ms * NS_PER_MS, event.kind.value, _numbers(event)) for event in of_it)
    begun_ms = tried.started_ms or ended_ms
    return [
        _span(mine, "place", (tried.decided_ms, tried.assigned_ms), (task, tried.epoch, "place"), way),
        _span(mine, "assign", (tried.assigned_ms, begun_ms), (task, tried.epoch, "assign"), {}),
        Span(
            place=mine,
            name="attempt",
            start_ns=tried.decided_ms * NS_PER_MS,
            end_ns=max(tried.decided_ms, ended_ms) * NS_PER_MS,
            parent=place.span,
            facts=_told(facts),
            notes=notes,
            problem=(tried.reason or tried.state.value)[:_MAX_PROBLEM_CHARS] if is_bad else "",
        ),
    ]


def _span(
    above: Place,
    name: str,
    times_ms: tuple[int, int],
    about: tuple[object, ...],
    facts: dict[str, Any],
    *,
    problem: str = "",
) -> Span:
    start_ms, end_ms = times_ms
    return Span(
        place=above.beneath(span_id(*about)),
        name=name,
        start_ns=start_ms * NS_PER_MS,
        end_ns=max(start_ms, end_ms) * NS_PER_MS,
        parent=above.span,
        facts=_told(facts),
        problem=problem,
    )


def _waits(events: Sequence[Event]) -> list[int]:
    """When it began to wait, each time."""
    return [event.facts.get("ready_ms") or event.at_ms for event in events if event.kind in _WAITS]


def _numbers(event: Event) -> dict[str, Any]:
    return {name: value for name, value in event.facts.items() if isinstance(value, int | float)}


def _told(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in {None, ""}}


def _reason(end: Event) -> str:
    return str(end.facts.get("reason") or end.kind.removeprefix("task_"))[:_MAX_PROBLEM_CHARS]
