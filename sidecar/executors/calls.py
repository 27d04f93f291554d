"""Tool calls of models that write them as text instead of making them.

Small local models often answer ``{"name": "read", "arguments": {"path": "a.py"}}`` in a code fence, or bare, or between
``<tool_call>`` tags. Only an object that names a known tool counts: any other JSON in an answer is content.
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from sidecar.llm.base import ToolCall, ToolSpec

_FENCED: Final = re.compile(r"```[a-z_]*\s*\n(.*?)```|<tool_call>(.*?)</tool_call>", re.DOTALL)
_ARGUMENT_NAMES: Final = ("arguments", "parameters", "args", "input")
_NAME_NAMES: Final = ("name", "tool", "function")


def calls_in_text(text: str, known: Collection[str], first: int) -> tuple[ToolCall, ...]:
    """The tool calls written in ``text``; they get the ids ``text-<first>`` and on."""
    pieces = [fenced or tagged for fenced, tagged in _FENCED.findall(text)] or [text]
    found = [call for piece in pieces for value in _values(piece) for call in _calls(value, known)]
    return tuple(ToolCall(f"text-{first + n}", name, arguments) for n, (name, arguments) in enumerate(found))


def _values(piece: str) -> Iterator[Any]:
    """The JSON of a piece that is nothing but JSON; several objects may follow one another, as lines do."""
    rest = piece.strip()
    decoder = json.JSONDecoder(strict=False)  # models write line breaks inside strings as they are
    values = []
    while rest:
        try:
            value, end = decoder.raw_decode(rest)
        except (ValueError, RecursionError):
            return
        values += value if isinstance(value, list) else [value]
        rest = rest[end:].lstrip(" \t\r\n,;")
    yield from values


def _calls(value: object, known: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(value, dict):
        return
    inner = value.get("function")
    if isinstance(inner, dict):  # the shape of OpenAI's API, written out
        value = inner
    name = next((value[key] for key in _NAME_NAMES if isinstance(value.get(key), str)), None)
    arguments: object = next((value[key] for key in _ARGUMENT_NAMES if key in value), {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return
    if name in known and isinstance(arguments, dict):
        yield str(name), arguments


def instructions(tools: Sequence[ToolSpec]) -> str:
    """How to call tools in text, for a model whose server gives it no other way."""
    listed = "\n".join(f"- {t.name}: {t.description} Arguments: {json.dumps(t.parameters)}" for t in tools)
    return (
        "To use a tool, answer with nothing but one JSON object in a code fence, like\n"
        '```json\n{"name": "read", "arguments": {"path": "a.py"}}\n```\n'
        f"Then wait for its result. The tools:\n{listed}"
    )
