"""Find work that was put off: markers in added lines, and functions that were added without a body.

Pure, from the added lines alone: what was there before is not the work's.
"""

import re
from collections.abc import Iterator
from typing import Final

from sidecar.core.diff import Change

_MARKERS: Final = re.compile(
    r"\b(TODO|FIXME|XXX|TBD|PLACEHOLDER|NotImplementedError|NotImplementedException|unimplemented!|todo!)(?![\w-])"
    r"|\b([Yy]our code here|[Ii]mplement (?:me|this|later)|not (?:yet )?implemented"
    r"|rest of (?:the )?(?:code|file|function)"
    r"|(?:existing|remaining|other) code (?:here|unchanged|stays|remains))\b"
)
_DEF: Final = re.compile(r"^(\s*)(?:async\s+)?def\s+(\w+)\s*\(.*\)\s*(?:->.*)?:\s*(.*)$")
_LONGEST_CHARS: Final = 1_000
"""A head of a function that is longer is nobody's."""
_EMPTY: Final = re.compile(r"^(?:\.\.\.|pass)\s*(?:#.*)?$")
_DECORATED: Final = re.compile(r"^\s*@(?:\w+\.)*(?:abstractmethod|overload)\b")
_DOC: Final = re.compile(r'^\s*[rR]?(?:"""|\'\'\')')


def placeholders(change: Change) -> Iterator[tuple[int, str]]:
    """``(line, what stands there)`` for each place of a change that puts work off."""
    for number, line in change.added:
        if found := _MARKERS.search(line):
            yield number, found[0]
    if change.path.endswith(".py"):
        yield from _empty_functions(change)


def _empty_functions(change: Change) -> Iterator[tuple[int, str]]:
    """Functions of Python that were added with nothing but ``pass`` or ``...`` in them, abstract ones left out."""
    lines = dict(change.added)
    for number, line in change.added:
        head = _DEF.match(line) if len(line) <= _LONGEST_CHARS else None
        if head is None or _DECORATED.match(lines.get(number - 1, "")):
            continue
        body = head[3] or _first_of_body(lines, number + 1)
        if _EMPTY.match(body.strip()):
            yield number, f"{head[2]}() is empty"


def _first_of_body(lines: dict[int, str], number: int) -> str:
    """The first line of a body that is no docstring, empty if it was not added with the function."""
    if number in lines and (opened := _DOC.match(lines[number])):
        quotes = opened[0].strip()[-3:]
        is_closed = lines[number].count(quotes) > 1
        number += 1
        while not is_closed and number in lines:
            is_closed = quotes in lines[number]
            number += 1
    return lines.get(number, "")
