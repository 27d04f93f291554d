"""What work has changed, line by line: read from a patch, as data for the checks that judge a change.

Pure. The patch is made by the workspace's owner (``Workspaces.patch``); what the work says about its own change counts
nowhere.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.patterns import matches as matches  # noqa: PLC0414 - it was here first, and is passed on

PATCH: Final = (
    *("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--ignore-submodules=all", "--unified=0"),
    *("--src-prefix=a/", "--dst-prefix=b/"),
)
"""How git is asked for a patch that :func:`read_patch` reads."""

_HUNK: Final = re.compile(r"@@ -\d+(?:,\d+)? \+(\d+)(?:,\d+)? @@")
_QUOTED: Final = re.compile(r'\\([abtnvfr"\\]|[0-7]{3})')
_NAME: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_SHOWN_CHARS: Final = 200
_ESCAPES: Final = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 34, "\\": 92}


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one file. Lines have no line end; ``added`` has their numbers in the new file."""

    path: str
    added: tuple[tuple[int, str], ...] = ()
    removed: tuple[str, ...] = ()
    is_new: bool = False
    is_gone: bool = False
    is_opaque: bool = False
    """It cannot be read line by line: too large, no text, a link, or a repository of its own."""


def read_patch(patch: str) -> tuple[Change, ...]:
    """The changes of a patch that git has written as ``PATCH`` says, in its order."""
    return tuple(_file(lines) for lines in _files(patch.split("\n")))


def _files(lines: Iterable[str]) -> Iterator[list[str]]:
    """The lines of each file. Only git's own lines begin so: those of a hunk have a sign before them."""
    held: list[str] = []
    for line in lines:
        if line.startswith("diff --git "):
            if held:
                yield held
            held = [line]
        elif held:
            held.append(line)
    if held:
        yield held


def _file(lines: Sequence[str]) -> Change:
    path, added, removed = "", [], []
    is_new = is_gone = is_opaque = in_hunk = False
    number = 0
    for line in lines:
        if found := _HUNK.match(line):
            in_hunk, number = True, int(found[1])
        elif in_hunk and line.startswith("+"):
            added.append((number, line[1:].removesuffix("\r")))
            number += 1
        elif in_hunk and line.startswith("-"):
            removed.append(line[1:].removesuffix("\r"))
        elif not in_hunk:
            is_new |= line.startswith("new file mode")
            is_gone |= line.startswith("deleted file mode")
            is_opaque |= line.startswith("Binary files ") or line.endswith((" mode 120000", " mode 160000"))
            path = _path(line, path)
    return Change(path, tuple(added), tuple(removed), is_new, is_gone, is_opaque)


def _path(line: str, before: str) -> str:
    """The path that a line of the head names, else ``before``. The new name counts; of a lost file, the old one."""
    if line.startswith("diff --git "):
        both = line.removeprefix("diff --git ")
        if quoted := _NAME.match(both):
            return _unquoted(quoted[1]).removeprefix("a/")
        return both[2 : len(both) // 2]  # "a/NAME b/NAME": without renames the names are the same
    return before


def _unquoted(text: str) -> str:
    """A name as git quotes it: in octal whatever is not plain."""

    def one(found: re.Match[str]) -> bytes:
        code = found[1]
        return bytes([_ESCAPES[code] if code in _ESCAPES else int(code, 8)])

    parts, at = bytearray(), 0
    for found in _QUOTED.finditer(text):
        parts += text[at : found.start()].encode() + one(found)
        at = found.end()
    return (bytes(parts) + text[at:].encode()).decode(errors="replace")


def in_words(changes: Sequence[Change], most_chars: int) -> str:
    """What was changed, for whoever goes on with it: of every file what became of it, of the lines what fits.

    Args:
        changes: as they were read.
        most_chars: about how long it may be; a line counts with its first 200 characters.
    """
    shown, left = [], most_chars
    for number, change in enumerate(changes):
        if left <= 0:
            shown.append(f"[{len(changes) - number} more files]")
            break
        lines = [f"-{line[:_SHOWN_CHARS]}" for line in change.removed]
        lines += [f"+{line[:_SHOWN_CHARS]}" for _, line in change.added]
        head = f"{change.path}: {_became(change)}"
        kept, left = _that_fit(lines, left - len(head))
        more = [f"[{len(lines) - len(kept)} more lines]"] if len(kept) < len(lines) else []
        shown += [head, *kept, *more]
    return "\n".join(shown)


def _became(change: Change) -> str:
    if change.is_gone:
        return "deleted"
    what = "new, " if change.is_new else ""
    if change.is_opaque:
        return f"{what}not read line by line"
    return f"{what}+{len(change.added)} -{len(change.removed)} lines"


def _that_fit(lines: Sequence[str], left: int) -> tuple[list[str], int]:
    kept: list[str] = []
    for line in lines:
        if left < len(line):
            return kept, 0
        kept.append(line)
        left -= len(line) + 1
    return kept, left


def whole_file(path: str, content: bytes, limit_bytes: int) -> Change:
    """The change that a new file is; ``content`` may be its first ``limit_bytes + 1`` bytes."""
    if len(content) > limit_bytes or b"\0" in content:
        return Change(path, is_new=True, is_opaque=True)
    lines = content.decode(errors="replace").splitlines()
    return Change(path, tuple(enumerate(lines, start=1)), is_new=True)
