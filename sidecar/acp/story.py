"""What an agent says while it works, as text for the live log and as the output of the work. Pure but for the callback.

Unbounded talk is fine here: of the output only the end is kept, and the live log has a limit of its own
(``sidecar/live_log.py``).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from protocol.limits import MAX_OUTPUT_BYTES
from sidecar.child import Tail

_SHOWN_CHARS: Final = 400
_LAST_BYTES: Final = 16 << 10
_ENDED: Final = frozenset({"completed", "failed"})
_MOST_USD: Final = 1e9
"""JSON may hold an integer that no float can."""
_MARKS: Final = {"completed": "x", "in_progress": ">"}


class Story:
    """The talk of one prompt.

    Args:
        log: takes (stream, text), for the live log.

    Attributes:
        cost_usd: what the session has cost so far, as the agent says; ``None``: it does not say.
        steps: tool calls that were begun.
    """

    def __init__(self, log: Callable[[str, str], None]) -> None:
        self._log = log
        self._said, self._last = Tail(MAX_OUTPUT_BYTES), Tail(_LAST_BYTES)
        self._is_mid_line = False
        self.cost_usd: float | None = None
        self.steps = 0
        self.is_muted = False
        """What comes now is the past: a session that is loaded is told again from its beginning."""

    @property
    def output(self) -> str:
        """What the agent has said and done, its end."""
        return self._said.text()

    @property
    def last(self) -> str:
        """Its last words."""
        return self._last.text().strip()

    def hear(self, update: Mapping[str, Any]) -> None:
        """Take one ``session/update``."""
        kind = update.get("sessionUpdate")
        if kind == "usage_update":
            self._cost(update.get("cost"))
        if self.is_muted:
            return
        match kind:
            case "agent_message_chunk":
                self._speak(_text(update.get("content")))
            case "agent_thought_chunk":
                self._log("stdout", _text(update.get("content")))
            case "tool_call":
                self.steps += 1
                self.remark(f"> {_short(update.get('title') or update.get('kind') or 'a tool')}")
            case "tool_call_update" if str(update.get("status")) in _ENDED:
                if shown := _result(update):
                    self.remark(f"  {shown}")
            case "plan":
                self._plan(update.get("entries"))
            case _:
                pass  # commands, modes and what later versions add are no news for us

    def remark(self, line: str) -> None:
        """A line of its own, that is not the agent's word."""
        before = "\n" if self._is_mid_line else ""
        text = f"{before}{line}\n"
        self._is_mid_line = False
        self._last = Tail(_LAST_BYTES)  # its last words are those after what it did last
        self._said.add(text)
        self._log("stdout", text)

    def _speak(self, text: str) -> None:
        if text:
            self._is_mid_line = not text.endswith("\n")
            self._said.add(text)
            self._last.add(text)
            self._log("stdout", text)

    def _plan(self, entries: object) -> None:
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict):
                self.remark(f"[{_MARKS.get(str(entry.get('status')), ' ')}] {_short(entry.get('content'))}")

    def _cost(self, cost: object) -> None:
        if isinstance(cost, dict) and cost.get("currency") == "USD":
            amount = cost.get("amount")
            if isinstance(amount, int | float) and 0 <= amount <= _MOST_USD:
                self.cost_usd = float(amount)


def _text(content: object) -> str:
    found = content.get("text") if isinstance(content, dict) else None
    return found if isinstance(found, str) else ""


def _result(update: Mapping[str, Any]) -> str:
    parts = update.get("content")
    texts = [
        _text(part.get("content")) for part in (parts if isinstance(parts, list) else ()) if isinstance(part, dict)
    ]
    shown = _short(" ".join(text for text in texts if text))
    return f"failed: {shown}".rstrip(": ") if update.get("status") == "failed" else shown


def _short(text: object) -> str:
    line = " ".join(str(text).split()) if text else ""
    return line if len(line) <= _SHOWN_CHARS else f"{line[: _SHOWN_CHARS - 3]}..."
