"""What is wrong with one check of a task, beyond its types; called by :mod:`protocol.schema`."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from protocol import limits
from protocol.checks import (
    Check,
    CheckCoverageNotLower,
    CheckDiffLimits,
    CheckFileContains,
    CheckHttpOk,
    CheckJsonSchema,
    CheckJudge,
    CheckPlugin,
    CheckProtectedPaths,
)
from protocol.errors import Problem
from protocol.ids import PLUGIN_NAME

if TYPE_CHECKING:
    from jsonschema_rs import Validator

_DAY_S: Final = 86_400
_MOST_LINES: Final = 10**9
_THIS_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def check_problems(check: Check, path: str) -> Iterator[Problem]:
    """Every problem of a check that has the right types; ``path`` leads to it, like ``verification[2]``."""
    if (name := getattr(check, "path", None)) is not None:
        yield from path_problems(name, f"{path}.path")
    for field in ("paths", "may_edit", "ignore"):
        yield from _patterns(getattr(check, field, ()), f"{path}.{field}")
    if (command := getattr(check, "command", None)) is not None:
        yield from _command(command, f"{path}.command")
    yield from _of_its_type(check, path)
    if check.timeout_s is not None and not 0 < check.timeout_s <= _DAY_S:
        yield Problem(f"{path}.timeout_s", f"{check.timeout_s:g}; more than 0 and at most {_DAY_S} seconds")


def _of_its_type(check: Check, path: str) -> Iterator[Problem]:
    match check:
        case CheckHttpOk():
            yield from _server(check, path)
        case CheckCoverageNotLower():
            yield from _coverage(check, path)
        case CheckPlugin():
            yield from _plugin(check, path)
        case CheckJudge():
            yield from _question(check, path)
        case CheckFileContains():
            yield from _contents(check, path)
        case CheckJsonSchema():
            yield from _schema(check.schema, f"{path}.schema")
        case CheckDiffLimits():
            yield from _sizes(check, path)
        case CheckProtectedPaths(paths=()):
            yield Problem(f"{path}.paths", "is empty")


def path_problems(name: str, path: str) -> Iterator[Problem]:
    """What keeps ``name`` from being a path inside a workspace."""
    if not name.strip():
        yield Problem(path, "is empty")
    elif "\0" in name or len(name) > limits.MAX_PATH_CHARS:
        yield Problem(path, f"at most {limits.MAX_PATH_CHARS} characters, none of them NUL")
    elif name.startswith(("/", "~")) or "\\" in name or ".." in name.split("/"):
        yield Problem(path, f"{name[:100]!r} leaves the workspace; give a path inside it, like src/a.py")


def validator_of(schema: dict[str, Any]) -> "Validator":
    """What holds documents against a JSON schema: patterns in linear time, references only within the schema.

    Raises:
        ValueError: it is no schema; the text says why.
    """
    import jsonschema_rs

    return jsonschema_rs.validator_for(schema, offline=True, pattern_options=jsonschema_rs.RegexOptions())


def _command(command: str, path: str) -> Iterator[Problem]:
    if not command.strip():
        yield Problem(path, "is empty")
    elif "\0" in command or len(command) > limits.MAX_COMMAND_BYTES:
        yield Problem(path, f"at most {limits.MAX_COMMAND_BYTES:,} characters, none of them NUL")


def _contents(check: CheckFileContains, path: str) -> Iterator[Problem]:
    if not check.text and not check.pattern:
        yield Problem(path, "nothing to look for: give a text, a pattern, or both")
    for field, value in (("text", check.text), ("pattern", check.pattern)):
        if "\0" in value or len(value) > limits.MAX_PATTERN_CHARS:
            yield Problem(f"{path}.{field}", f"at most {limits.MAX_PATTERN_CHARS:,} characters, none of them NUL")
    if "\n" in check.pattern:
        yield Problem(f"{path}.pattern", "is for one line and holds a line end")


def _schema(schema: dict[str, Any], path: str) -> Iterator[Problem]:
    try:
        if b"\\u0000" in msgspec.json.encode(schema):
            yield Problem(path, "contains a NUL character")
        msgspec.msgpack.encode(schema)  # what cannot travel cannot be checked anywhere
        validator_of(schema)
    except (ValueError, OverflowError, RecursionError) as exc:
        yield Problem(path, f"is no JSON schema: {str(exc).partition(chr(10))[0][:300]}")


def _server(check: CheckHttpOk, path: str) -> Iterator[Problem]:
    try:
        parts = urlsplit(check.url)
        is_here = parts.scheme == "http" and parts.hostname in _THIS_MACHINE and parts.port != 0
        is_plain = check.url.isascii() and check.url.isprintable() and " " not in check.url and "@" not in parts.netloc
    except ValueError:
        is_here = is_plain = False
    if not (is_here and is_plain) or len(check.url) > limits.MAX_PATH_CHARS:
        yield Problem(f"{path}.url", f"{check.url[:100]!r} is no address like http://localhost:8000/health")
    if not 100 <= check.status <= 599:  # noqa: PLR2004 - what HTTP knows
        yield Problem(f"{path}.status", f"{check.status}; from 100 to 599")
    if "\0" in check.text or len(check.text) > limits.MAX_PATTERN_CHARS:
        yield Problem(f"{path}.text", f"at most {limits.MAX_PATTERN_CHARS:,} characters, none of them NUL")


def _coverage(check: CheckCoverageNotLower, path: str) -> Iterator[Problem]:
    if check.report:
        yield from path_problems(check.report, f"{path}.report")
    if not 0 <= check.may_drop <= 100:  # noqa: PLR2004 - percent
        yield Problem(f"{path}.may_drop", f"{check.may_drop:g}; from 0 to 100 percent")


def _plugin(check: CheckPlugin, path: str) -> Iterator[Problem]:
    if not PLUGIN_NAME.fullmatch(check.plugin):
        yield Problem(f"{path}.plugin", f"{check.plugin[:60]!r} is no name of a plug-in: letters, digits and ._-")
    try:
        if b"\\u0000" in msgspec.json.encode(check.settings):
            yield Problem(f"{path}.settings", "contains a NUL character")
        size = len(msgspec.msgpack.encode(check.settings))
        if size > limits.MAX_COMMAND_BYTES:
            yield Problem(f"{path}.settings", f"{size:,} bytes; at most {limits.MAX_COMMAND_BYTES:,}")
    except (ValueError, OverflowError, RecursionError) as exc:
        yield Problem(f"{path}.settings", f"cannot be sent: {str(exc)[:200]}")


def _question(check: CheckJudge, path: str) -> Iterator[Problem]:
    if not check.question.strip():
        yield Problem(f"{path}.question", "is empty")
    elif "\0" in check.question or len(check.question) > limits.MAX_PATTERN_CHARS:
        yield Problem(f"{path}.question", f"at most {limits.MAX_PATTERN_CHARS:,} characters, none of them NUL")


def _patterns(patterns: Sequence[str], path: str) -> Iterator[Problem]:
    if len(patterns) > limits.MAX_FILES:
        yield Problem(path, f"{len(patterns)} entries, at most {limits.MAX_FILES}")
    for number, pattern in enumerate(patterns):
        yield from path_problems(pattern, f"{path}[{number}]")


def _sizes(check: CheckDiffLimits, path: str) -> Iterator[Problem]:
    limits_given = {name: getattr(check, name) for name in ("max_files", "max_added", "max_removed")}
    if all(value is None for value in limits_given.values()):
        yield Problem(path, f"no limit: give one of {', '.join(limits_given)}")
    for name, value in limits_given.items():
        if value is not None and not 0 <= value <= _MOST_LINES:
            yield Problem(f"{path}.{name}", f"{value}; 0 to {_MOST_LINES}")
