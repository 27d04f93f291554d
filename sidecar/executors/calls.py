"""Tool calls of models that write them as text instead of making them.

Small local models often write a call out: as JSON in a code fence, bare, or between tags; as the tags of another
model's template; as a line of Python; as an action with its input. Which forms there are is known from what servers
leave in the text (``tests/unit/sidecar/executors/answers.json``). Only what names a known tool counts, and only where
the answer begins or ends with it, or marks it: any other code in an answer is content. JSON with the usual mistakes is
mended (:mod:`sidecar.core.mending`); what does not end is never a call.
"""

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from sidecar.core.mending import Unmendable, mended
from sidecar.llm.base import ToolCall, ToolSpec

Schemas = Mapping[str, Mapping[str, Any]]
"""The JSON schema of each tool's arguments."""
Found = tuple[str, dict[str, Any]]

_MARKED: Final = re.compile(
    r"```[a-zA-Z_]*[ \t]*\n(?P<fence>.*?)(?:```|\Z)"
    r"|<(?P<tag>tool_call|tool|function_call|tools)>(?P<tagged>.*?)(?:</(?P=tag)>|(?=<(?P=tag)>)|\Z)"
    r"|<\|python_(?:start|tag)\|>(?P<python>.*?)(?:<\|[a-z_]+\|>|\Z)"
    r"|\[TOOL_CALLS\](?P<mistral>.*)",
    re.DOTALL,
)
_DIALECT: Final = re.compile(r"(</?)[\uff5c|\u2016]+DSML[\uff5c|\u2016]+ *")
_OPENING: Final = re.compile(
    r"<function=(?P<function>[\w.-]+)>|<invoke name=\"(?P<invoke>[\w.-]+)\"[^>]{0,200}>",
)
_CLOSING: Final = {"function": re.compile(r"</function>|</tool_call>"), "invoke": re.compile(r"</invoke>")}
_PARAMETER: Final = re.compile(
    r"<parameter(?:=|\s+name=\")(?P<name>[\w.-]{1,200}+)\"?[^>]{0,200}>"
    r"(?P<value>.*?)(?:</parameter>|(?=<parameter[= ])|\Z)",
    re.DOTALL,
)
_ACTION: Final = re.compile(r"^Action:\s*(?P<name>[\w.-]+)\s*\nAction Input:\s*(?=[{\[])", re.MULTILINE)
_NAMED: Final = re.compile(
    r"^(?:.*(?:to=functions\.|sep[\uff5c|]>|functions\.|\[TOOL_CALLS\] *))?`?(?P<name>[\w.-]{1,200})`?"
    r"\s*+(?:\[ARGS\]|:\d+|<\|[^\n{]{0,400}\|>(?:json)?|json|```json)*+\s*+(?=\{)",
    re.MULTILINE,
)
"""Bounded, and never read twice: a model that runs away writes a hundred thousand blanks."""
_BARE: Final = re.compile(r"^[ \t]*(?=[{\[])", re.MULTILINE)
_CLOSERS: Final = " \t\r\n,;]})`"
_MOST_PLACES: Final = 50
_MOST_PYTHON_CHARS: Final = 64_000
_NAME_NAMES: Final = ("name", "tool", "function", "tool_name", "method", "action")
_ARGUMENT_NAMES: Final = ("arguments", "parameters", "args", "input", "params", "tool_input", "action_input")
_BESIDE: Final = frozenset({"id", "type", "jsonrpc", "index"})


def calls_in_text(text: str, known: Schemas, first: int) -> tuple[ToolCall, ...]:
    """The tool calls written in ``text``; they get the ids ``text-<first>`` and on.

    Takes time in proportion to the text, up to a second for the longest answers: to be called in a thread.

    Args:
        text: what the model says.
        known: the tools that there are.
        first: number of the first id.
    """
    found: list[Found] = []
    for form in _FORMS:
        if found := list(form(text, known)):
            break
    return tuple(ToolCall(f"text-{first + n}", name, arguments) for n, (name, arguments) in enumerate(found))


# --- forms, the surest first ------------------------------------------------------------------------------------------


def _in_tags(text: str, known: Schemas) -> Iterator[Found]:
    """``<function=NAME><parameter=KEY>VALUE</parameter></function>``, and the same as ``<invoke name="NAME">``."""
    for name, body in _elements(_DIALECT.sub(r"\1", text)):
        if name not in known:
            continue
        if (inside := body.strip()).startswith("{"):
            yield from ((name, value) for value in _values(inside, is_whole=True) if isinstance(value, dict))
            continue
        yield name, {each["name"]: _typed(each, known[name]) for each in _PARAMETER.finditer(body)}


def _elements(text: str) -> Iterator[tuple[str, str]]:
    """Name and body of each that is closed."""
    at, unclosed = 0, set[str]()
    while found := _OPENING.search(text, at):
        at, kind = found.end(), "function" if found["function"] else "invoke"
        end = None if kind in unclosed else _CLOSING[kind].search(text, at)
        if end is None:
            unclosed.add(kind)  # nor is any behind it
            continue
        yield found[kind], text[at : end.start()]
        at = end.end()


def _marked(text: str, known: Schemas) -> Iterator[Found]:
    """JSON or a line of Python in a code fence, or between the tags of a template."""
    for found in _MARKED.finditer(text):
        piece = next(part for name, part in found.groupdict().items() if part is not None and name != "tag")
        yield from _json_calls(piece, known) or _python_calls(piece, known)


def _whole(text: str, known: Schemas) -> Iterator[Found]:
    """An answer that is nothing else."""
    yield from _json_calls(text, known) or _python_calls(text, known)


def _at_an_end(text: str, known: Schemas) -> Iterator[Found]:
    """JSON that the answer begins or ends with, a line of its own between it and what is said besides."""
    stripped = text.strip()
    if stripped[:1] in {"{", "["} and (found := list(_of(_values(stripped, is_whole=False), known))):
        yield from found
        return
    for place in islice(_BARE.finditer(stripped), _MOST_PLACES):
        if found := list(_of(_values(stripped[place.end() :], is_whole=True), known)):
            yield from found
            return


def _named(text: str, known: Schemas) -> Iterator[Found]:
    """The name of a tool, some marks of a template, and its arguments as JSON, up to the end of the answer."""
    for pattern in (_ACTION, _NAMED):
        named = (found for found in pattern.finditer(text) if found["name"] in known)
        for found in islice(named, _MOST_PLACES):
            values = list(_values(text[found.end() :], is_whole=False))
            if values and isinstance(values[0], dict):
                yield found["name"], values[0]
                return


_FORMS: Final[tuple[Callable[[str, Schemas], Iterator[Found]], ...]] = (_in_tags, _marked, _whole, _at_an_end, _named)


# --- JSON -------------------------------------------------------------------------------------------------------------


def _json_calls(piece: str, known: Schemas) -> list[Found]:
    return list(_of(_values(piece, is_whole=True), known))


def _of(values: Iterator[Any], known: Schemas) -> Iterator[Found]:
    for value in values:
        yield from _calls(value, known)


def _values(piece: str, *, is_whole: bool) -> Iterator[Any]:
    """The JSON that a piece begins with; several objects may follow one another, as lines do.

    ``is_whole``: nothing counts if something else stands behind it.
    """
    rest = piece.strip()
    found: list[Any] = []
    while rest[:1] in {"{", "["}:
        try:
            value, rest = _value(rest)
        except (Unmendable, RecursionError):
            break
        found += value if isinstance(value, list) else [value]
    if not rest or not is_whole:
        yield from found


def _value(text: str) -> tuple[Any, str]:
    """The first value, and what stands behind it and behind what closes nothing."""
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text)  # line breaks inside of strings are usual
    except ValueError:
        value, end = mended(text)
    return value, text[end:].lstrip(_CLOSERS)


def _calls(value: object, known: Schemas) -> Iterator[Found]:
    if not isinstance(value, dict):
        return
    for wrapper in ("tool_calls", "calls"):
        if isinstance(several := value.get(wrapper), list):
            yield from _of(iter(several), known)
            return
    inner = value.get("function")
    if isinstance(inner, dict):  # the shape of OpenAI's API, written out
        value = inner
    name = next((value[key] for key in _NAME_NAMES if isinstance(value.get(key), str)), None)
    if name is None and len(value) == 1 and (only := next(iter(value))) in known:
        name, value = only, {"arguments": value[only]}
    name = name.removeprefix("functions.") if name is not None else ""
    if name in known and (arguments := _arguments(value, known[name])) is not None:
        yield name, arguments


def _arguments(value: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any] | None:
    key = next((key for key in _ARGUMENT_NAMES if key in value), None)
    if key is None:  # beside the name, or there are none
        beside = {name: part for name, part in value.items() if name not in {*_NAME_NAMES, *_BESIDE}}
        return beside if set(beside) <= set(schema.get("properties", ())) else None
    arguments = value[key]
    if isinstance(arguments, str):
        values = list(_values(arguments, is_whole=True))
        arguments = values[0] if len(values) == 1 else None
    return arguments if isinstance(arguments, dict) else None


# --- others -----------------------------------------------------------------------------------------------------------


def _typed(found: re.Match[str], schema: Mapping[str, Any]) -> object:
    """The value of a parameter: text, but for numbers and truths where the tool wants those."""
    value = found["value"].removeprefix("\n").removesuffix("\n")
    if schema.get("properties", {}).get(found["name"], {}).get("type") in {"integer", "number", "boolean"}:
        try:
            return mended(value.strip())[0]
        except Unmendable:
            return value
    return value


def _python_calls(piece: str, known: Schemas) -> list[Found]:
    """``read(path="a.py")``, or a list of such; values are written out, and arguments without a name are in order."""
    text = piece.strip()
    if len(text) > _MOST_PYTHON_CHARS or not text.endswith((")", "]")):
        return []
    try:
        said = ast.parse(text, mode="eval").body
        found = [_python_call(each, known) for each in (said.elts if isinstance(said, ast.List) else [said])]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return []
    return [each for each in found if each is not None]


def _python_call(said: ast.expr, known: Schemas) -> Found | None:
    if not isinstance(said, ast.Call) or not isinstance(said.func, ast.Name):
        return None
    if said.func.id == "print" and len(said.args) == 1 and not said.keywords:
        return _python_call(said.args[0], known)
    if said.func.id not in known:
        return None
    names = known[said.func.id].get("properties", ())
    arguments = {name: ast.literal_eval(value) for name, value in zip(names, said.args, strict=False)}
    arguments |= {each.arg: ast.literal_eval(each.value) for each in said.keywords if each.arg is not None}
    return said.func.id, arguments


def instructions(tools: Sequence[ToolSpec]) -> str:
    """How to call tools in text, for a model whose server gives it no other way."""
    listed = "\n".join(f"- {t.name}: {t.description} Arguments: {json.dumps(t.parameters)}" for t in tools)
    return (
        "To use a tool, answer with nothing but one JSON object in a code fence, like\n"
        '```json\n{"name": "read", "arguments": {"path": "a.py"}}\n```\n'
        f"Then wait for its result. The tools:\n{listed}"
    )


def one_call(tools: Sequence[ToolSpec]) -> dict[str, Any]:
    """The JSON schema of an answer that is one call of one of the tools: some servers hold an answer to a schema."""
    each = [
        {
            "type": "object",
            "properties": {"name": {"type": "string", "enum": [t.name]}, "arguments": dict(t.parameters)},
            "required": ["name", "arguments"],
        }
        for t in tools
    ]
    return {"anyOf": each}
