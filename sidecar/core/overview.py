"""Tell which files of a work tree a task seems to be about: a map of it, in as many bytes as a small model can take.

Every file has its path and the names that it defines; those that the task, or what failed last, speaks of come first.
Pure; who reads the files is ``sidecar/executors/prompt.py``.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

MAX_NAMES: Final = 12
_DEFINED: Final = re.compile(
    r"^[ \t]*(?:(?:export|default|pub(?:\([a-z]+\))?|async|static|abstract|public|private|protected)[ \t]+){0,4}"
    r"(?:def|class|func|fn|function|interface|struct|enum|trait|module)[ \t]+(?:\([^)\n]{0,80}\)[ \t]*)?([A-Za-z_]\w*)",
    re.MULTILINE,
)
_WORD: Final = re.compile(r"[A-Za-z_]\w{2,}")
_PART: Final = re.compile(r"[A-Z]?[a-z]{3,}|[A-Z]{3,}")
_PLAIN: Final = frozenset(
    "the and for that this with not are was has but from its make fix test tests file files code line error true false "
    "none self assert import return class def py js ts".split()
)


def names_in(text: str) -> tuple[str, ...]:
    """What a source file defines, in its order, each name once."""
    return tuple(dict.fromkeys(_DEFINED.findall(text)))


def overview(files: Mapping[str, tuple[str, ...]], about: str, most_bytes: int) -> str:
    """The map, a line a file; empty without files.

    Args:
        files: the names that each of them defines, by path.
        about: what the task says, and what failed.
        most_bytes: about how long it may be.
    """
    words = _words(about)
    ranked = sorted(files, key=lambda path: (-_score(path, files[path], about, words), path.count("/"), path))
    lines, left = list[str](), most_bytes
    for path in ranked:
        line = _line(path, files[path], words)
        left -= len(line.encode("utf-8", "replace")) + 1
        if left < 0:
            break
        lines.append(line)
    if not lines:
        return ""
    part = f"{len(lines)} of {len(files)}" if len(lines) < len(files) else f"{len(files)}"
    return "\n".join([f"Files of the workspace ({part}), those first that this seems to be about:", *lines])


def _line(path: str, names: tuple[str, ...], words: frozenset[str]) -> str:
    """A file with names that it defines: first those that are spoken of, then the others, as many as fit."""
    shown = sorted(range(len(names)), key=lambda at: (names[at].lower() not in words, at))[:MAX_NAMES]
    listed = ", ".join(names[at] for at in sorted(shown))
    more = f", {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    return f"{path}: {listed}{more}" if listed else path


def _score(path: str, names: tuple[str, ...], about: str, words: frozenset[str]) -> int:
    name = path.rpartition("/")[2]
    said = 8 * (path in about) + 4 * (len(name) > 3 and name in about)  # noqa: PLR2004 - shorter ones are in any text
    found = 3 * sum(each.lower() in words for each in names) + len(_words(path) & words)
    return said + found - ("test" in path.lower())  # what is tested says more than its tests


def _words(text: str) -> frozenset[str]:
    """The words of a text in small letters, and the parts of those that are put together."""
    return frozenset(_each(text)) - _PLAIN


def _each(text: str) -> Iterable[str]:
    for word in _WORD.findall(text):
        yield word.lower()
        yield from (part.lower() for part in _PART.findall(word))
