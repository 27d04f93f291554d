"""Count what an answer of an LLM endpoint has used, from the bytes that pass by on their way to somebody else.

Pure. Reads answers of Anthropic's kind and OpenAI's, whole or as a stream of events. Whoever asks may leave the tokens
out of a stream, or hang up before they come: then they are estimated from what was read, rather too high than too low.
Nothing of an answer is kept. Caller: ``sidecar/llm/passage.py``.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import msgspec

CHARS_PER_TOKEN: Final = 3.5
MAX_LINE_BYTES: Final = 8 << 20
"""What of an answer is looked at in one piece; a longer one is estimated."""
_EVENT: Final = b"data:"
_MOST: Final = 1 << 40
_COUNTED: Final = (
    *("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
    *("prompt_tokens", "completion_tokens", "cached"),
)
_TEXTS: Final = ("text", "content", "thinking", "reasoning", "reasoning_content", "partial_json", "arguments", "delta")


@dataclass(frozen=True, slots=True)
class Metered:
    """Tokens of one answer; ``read`` holds all that was read, what a cache has given or kept included."""

    model: str = ""
    read: int = 0
    written: int = 0
    cache_read: int = 0
    cache_write: int = 0
    is_estimate: bool = False


class Meter:
    """Reads one answer as it passes by.

    Args:
        asked_bytes: length of the question.
    """

    def __init__(self, asked_bytes: int) -> None:
        self._asked_bytes = asked_bytes
        self._line, self._is_long = bytearray(), False
        self._counts: dict[str, int] = {}
        self._model = ""
        self._chars = self._bytes = 0
        self._is_final = self._is_stream = False

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the answer."""
        self._bytes += len(piece)
        *lines, rest = piece.split(b"\n")
        for line in lines:
            self._add(line)
            if self._is_stream or self._line.startswith((_EVENT, b"event:", b":", b"id:")):
                self._end_line()
            else:
                self._add(b"\n")
        self._add(rest)

    def _add(self, part: bytes) -> None:
        if len(self._line) + len(part) > MAX_LINE_BYTES:
            self._is_long, self._line = True, bytearray()
        if not self._is_long:
            self._line += part

    def _end_line(self) -> None:
        line, self._line, self._is_stream = bytes(self._line), bytearray(), True
        was_long, self._is_long = self._is_long, False
        if line.startswith(_EVENT) and not was_long:
            self._take(line[len(_EVENT) :].strip())

    def _take(self, raw: bytes) -> None:
        try:
            found = msgspec.json.decode(raw)
        except (msgspec.DecodeError, RecursionError):
            return
        if not isinstance(found, dict):
            return
        for part in (found, found.get("message"), found.get("response")):
            if isinstance(part, dict):
                self._usage(part, is_begun=found.get("type") == "message_start")
        self._chars += _chars(found)

    def _usage(self, part: dict[str, Any], *, is_begun: bool) -> None:
        if isinstance(model := part.get("model"), str):
            self._model = model[:200]
        usage = part.get("usage")
        if not isinstance(usage, dict):
            return
        details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
        flat = {**usage, **({"cached": details.get("cached_tokens")} if isinstance(details, dict) else {})}
        counts = {name: value for name in _COUNTED if type(value := flat.get(name)) is int and 0 <= value < _MOST}
        self._counts |= counts
        self._is_final = self._is_final or (bool(counts) and not is_begun)

    def read(self) -> Metered:
        """What the answer has used, as far as it has come."""
        if not self._is_stream:
            self._end_whole()
        counts = self._counts
        own = counts.get("cache_read_input_tokens", 0), counts.get("cache_creation_input_tokens", 0)
        read = counts.get("prompt_tokens", counts.get("input_tokens", 0) + sum(own))
        written = counts.get("completion_tokens", counts.get("output_tokens", 0))
        if self._is_final:
            return Metered(self._model, read, written, own[0] or counts.get("cached", 0), own[1])
        chars = self._chars if self._is_stream else self._bytes
        return Metered(
            self._model,
            max(read, math.ceil(self._asked_bytes / CHARS_PER_TOKEN)),
            max(written, math.ceil(chars / CHARS_PER_TOKEN)),
            own[0],
            own[1],
            is_estimate=True,
        )

    def _end_whole(self) -> None:
        raw, self._line = bytes(self._line), bytearray()
        raw = raw.removeprefix(_EVENT)
        if not self._is_long:
            self._take(raw.strip())


def _chars(found: dict[str, Any]) -> int:
    """Characters of text in one event, wherever they stand."""
    waiting: list[tuple[object, str]] = [(found, "")]
    total = 0
    while waiting:
        part, name = waiting.pop()
        if isinstance(part, dict):
            waiting += [(value, key) for key, value in part.items() if key not in {"usage", "message", "response"}]
        elif isinstance(part, list):
            waiting += [(value, name) for value in part]
        elif isinstance(part, str) and name in _TEXTS:
            total += len(part)
    return total
