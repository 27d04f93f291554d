"""What a tool is: a name, a schema of its arguments, and a call that always answers with text for the model.

A model's mistakes (a missing argument, a path that leads out) come back to it as one text that names every problem, so
it can mend them; only what is outside its reach (cancellation, a broken machine) rises.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec

from protocol.errors import BadInput, StorageFull
from protocol.loads import MAX_TARGET_CHARS, ToolUse
from protocol.schema import read
from sidecar.errors import CannotStart

MAX_RESULT_BYTES: Final = 24 << 10
"""Text of one tool result: about 7,000 tokens, so a few fit even a small context."""

_ABOUT: Final = ("path", "command", "text", "branch", "message")
"""Arguments that say what a call is about, in the order in which they count."""

Arguments = TypeVar("Arguments", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Tool(Generic[Arguments]):
    """A tool; ``arguments`` is the struct that its arguments are read into, ``work`` does it."""

    name: str
    description: str
    arguments: type[Arguments]
    work: Callable[[Arguments], Awaitable[str]]

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The JSON schema of the arguments."""
        _, components = msgspec.json.schema_components([self.arguments])
        schema = components[self.arguments.__name__]
        return {key: value for key, value in schema.items() if key not in {"title", "description"}}

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """Do it; the answer, or what is wrong with the arguments, as text of at most 24 KiB."""
        try:
            read_arguments = read(dict(arguments), self.arguments, "arguments")
            return clip(await self.work(read_arguments))
        except (BadInput, CannotStart, StorageFull) as exc:
            return f"error: {exc}"


def tool_use(name: str, arguments: Mapping[str, Any], result: str, took_s: float) -> ToolUse:
    """A call as it is told to people: a program that failed, or a call that was a mistake, did not go well."""
    about = next((arguments[key] for key in _ABOUT if isinstance(arguments.get(key), str)), "")
    ok = result.startswith("exit code 0") if name == "run" else not result.startswith("error:")
    target = about.strip().split("\n", 1)[0][:MAX_TARGET_CHARS]
    return ToolUse(tool=name[:MAX_TARGET_CHARS], target=target, ok=ok, ms=max(0, round(took_s * 1_000)))


def clip(text: str, limit_bytes: int = MAX_RESULT_BYTES) -> str:
    """The beginning and the end of a text that is too long, with a line between that tells how much is gone."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit_bytes:
        return raw.decode()
    half = max(0, limit_bytes - 80) // 2
    first, last = raw[:half].decode("utf-8", "ignore"), raw[len(raw) - half :].decode("utf-8", "ignore")
    return f"{first}\n[... {len(raw) - 2 * half} bytes left out ...]\n{last}"
