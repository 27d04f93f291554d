"""Events that tell of what agents say about their attempts, beside those that the store's verbs tell themselves.

Whatever an agent words is shown to people, so secrets are taken out here too: sidecars do it before they send anything,
other agents may not know how. Pure. Caller: ``hub/services/results.py``.
"""

from typing import Final

from hub.core.agent import Held
from protocol.events import Event, EventKind
from protocol.loads import MAX_CALLS, MAX_TARGET_CHARS, Turn
from protocol.model import AttemptId
from protocol.redaction import Redactor

REDACTOR: Final = Redactor()


def turn_of(held: Held, iteration: int, turn: Turn, at_ms: int) -> Event:
    """What a model has done in a turn; no more of it than anybody would look at."""
    calls = [
        {
            "tool": call.tool[:40],
            "target": REDACTOR.text(call.target[:MAX_TARGET_CHARS]),
            "ok": call.ok,
            "ms": call.ms,
        }
        for call in turn.calls[:MAX_CALLS]
    ]
    more = turn.more + len(turn.calls[MAX_CALLS:])
    facts = {"iteration": iteration, "turn": turn.number, "calls": calls, "more": more}
    return Event(
        kind=EventKind.TOOL_CALLED, at_ms=at_ms, task=held.task, agent=held.agent, epoch=held.epoch, facts=facts
    )


def said_of(attempt: AttemptId, kind: EventKind, at_ms: int, **facts: str) -> Event:
    """What an agent has said of an attempt."""
    return Event(
        kind=kind, at_ms=at_ms, task=attempt.task, agent=attempt.sidecar, epoch=attempt.epoch, facts=dict(facts)
    )
