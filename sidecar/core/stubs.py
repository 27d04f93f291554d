"""Find functions that were made to return one value whatever they are given: a test that knows one value passes then.

Pure, from the text of a file and the numbers of the lines that were added to it; no parser reads what the work has
written. The caller is ``sidecar/checks/commands.py``.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Final

_LITERAL: Final = (
    r"(?:[-+]?\d[\w.]{0,40}|\"[^\"\n]{0,200}\"|'[^'\n]{0,200}'|[\[({][^\[\](){}a-zA-Z_\n]{0,200}[\])}]"
    r"|True|False|None|true|false|null|nil|undefined)"
)
_DEF: Final = re.compile(r"^(\s*)(?:async\s+)?def\s+(\w+)\s*\(([^()]{0,500})\)[^:]{0,200}:\s*(\S[^\n]{0,300})?$")
_RETURN: Final = re.compile(rf"^\s*return\s+({_LITERAL})\s*(?:#.*)?$")
_DOC: Final = re.compile(r'^\s*[rR]?("""|\'\'\')')
_BRACES: Final = re.compile(
    r"\b(\w{1,80})\s{0,9}(?:=\s{0,9}(?:async\s{0,9})?)?\(([^(){};]{1,300})\)[^(){};=\n]{0,80}(?:=>\s{0,9})?"
    rf"\{{\s{{0,99}}(?:return\s{{1,9}})?({_LITERAL})\s{{0,9}};?\s{{0,99}}\}}"
)
_WORDS: Final = frozenset({"if", "for", "while", "switch", "catch", "match"})
_OWN: Final = frozenset({"self", "cls", "this", "&self", "&mut self", "/", "*"})
_TRIVIAL: Final = frozenset(
    {"0", "1", "-1", "0.0", "1.0", '""', "''", "[]", "{}", "()", "true", "false", "none", "null", "nil", "undefined"}
)
_BRACED: Final = (
    ".js",
    ".jsx",
    ".ts",
    ".tsx",
    ".mjs",
    ".go",
    ".rs",
    ".java",
    ".kt",
    ".cs",
    ".c",
    ".cc",
    ".cpp",
    ".php",
)
_LONGEST: Final = 20_000
"""Lines of a file that is looked through."""
_LONGEST_LINE: Final = 2_000

Found = tuple[int, int, str, str, str]
"""Line of the head, line of the value, name, parameters and value."""


def constants(path: str, lines: Sequence[str], added: Collection[int]) -> Iterator[tuple[int, str]]:
    """``(line, what it does)`` for functions with parameters of which the whole body is one value that was added.

    A function that was there before counts with any value. A new one counts with a value that tells something: hooks
    and defaults return nothing, zero or a truth value in honest work, too.

    Args:
        path: says by its end in which language it is written.
        lines: the whole file.
        added: numbers of lines, from 1, that were not there before.
    """
    if len(lines) > _LONGEST or any(len(line) > _LONGEST_LINE for line in lines):
        return
    found = _python(lines) if path.endswith(".py") else _braced(lines) if path.endswith(_BRACED) else iter(())
    for head, number, name, parameters, value in found:
        is_new = head in added
        if number in added and _takes_something(parameters) and not (is_new and value.lower() in _TRIVIAL):
            yield number, f"{name}() returns {value[:60]} whatever it is given"


def _takes_something(parameters: str) -> bool:
    return any(part.strip() and part.strip() not in _OWN for part in parameters.split(","))


def _python(lines: Sequence[str]) -> Iterator[Found]:
    for at, line in enumerate(lines):
        head = _DEF.match(line)
        if head is None:
            continue
        first = at if head[4] else _first(lines, at + 1)
        body = head[4] or (lines[first] if first < len(lines) else "")
        if (value := _RETURN.match(body)) and _ends(lines, first + 1, len(head[1])):
            yield at + 1, first + 1, head[2], head[3], value[1]


def _first(lines: Sequence[str], at: int) -> int:
    """Where a body begins, behind its docstring, blank lines and comments."""
    at = _behind_blank(lines, at)
    if at < len(lines) and (opened := _DOC.match(lines[at])):
        is_closed = lines[at].count(opened[1]) > 1
        at += 1
        while at < len(lines) and not is_closed:
            is_closed = opened[1] in lines[at]
            at += 1
    return _behind_blank(lines, at)


def _behind_blank(lines: Sequence[str], at: int) -> int:
    while at < len(lines) and (not lines[at].strip() or lines[at].lstrip().startswith("#")):
        at += 1
    return at


def _ends(lines: Sequence[str], at: int, indent: int) -> bool:
    """Whether a body of a head with that indent is over here."""
    while at < len(lines) and not lines[at].strip():
        at += 1
    return at >= len(lines) or len(lines[at]) - len(lines[at].lstrip()) <= indent


def _braced(lines: Sequence[str]) -> Iterator[Found]:
    text = "\n".join(lines)
    for found in _BRACES.finditer(text):
        if found[1] not in _WORDS:
            head, value = (text.count("\n", 0, found.start(group)) + 1 for group in (1, 3))
            yield head, value, found[1], found[2], found[3]
