"""The promise about what agents say: it is told in few words, and never shows a secret."""

from hub.core.agent import Held
from hub.core.telling import said_of, turn_of
from protocol.events import Event, EventKind
from protocol.loads import MAX_CALLS, MAX_TARGET_CHARS, ToolUse, Turn
from protocol.model import AttemptId

SECRET = "ghp_" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3z0Q"


def test_a_turn_is_told_without_secrets_and_no_longer_than_anybody_reads() -> None:
    loud = ToolUse(tool="t" * 99, target=f"push https://{SECRET}@example.org {'y' * 300}", ok=False, ms=7)
    event = turn_of(Held("x", 2, "a", 1, 0.0), 3, Turn(number=4, calls=(loud,) * (MAX_CALLS + 2), more=5), 1_000)

    first = event.facts["calls"][0]
    assert (event.kind, event.task, event.agent, event.epoch) == (EventKind.TOOL_CALLED, "x", "a", 2)
    assert (event.facts["iteration"], event.facts["turn"], event.facts["more"]) == (3, 4, 7)
    assert len(event.facts["calls"]) == MAX_CALLS
    assert (len(first["tool"]), first["ok"], first["ms"]) == (40, False, 7)
    assert SECRET not in first["target"]
    assert len(first["target"]) <= 2 * MAX_TARGET_CHARS


def test_what_is_said_of_an_attempt_names_it() -> None:
    attempt = AttemptId("a", 1, "x", 2)

    assert said_of(attempt, EventKind.ATTEMPT_REJECTED, 1_000, reason="full") == Event(
        kind=EventKind.ATTEMPT_REJECTED, at_ms=1_000, task="x", agent="a", epoch=2, facts={"reason": "full"}
    )
    assert said_of(attempt, EventKind.REPORT_STALE, 1_000).facts == {}
