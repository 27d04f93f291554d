"""Read JSON that a model has written by hand, with the mistakes that small models make.

Mended are quotes of the wrong kind, or none around a name; Python's words for true, false and null; commas too many, or
none at a line's end; comments; line breaks and needless backslashes in a text; brackets that nobody closed at the end.
Never mended is what would have to be guessed: a text that does not end (half a file would be written), and whatever
stands without quotes and is no number.

Pure, and linear in the length of what is read.
"""

import re
from typing import Any, Final

_DEEPEST: Final = 64
_SPACE: Final = re.compile(r"(?:\s+|//[^\n]*|#[^\n]*|/\*.*?\*/)*", re.DOTALL)
_BARE: Final = re.compile(r"[^\s,:\[\]{}\"'`<>]+")
_QUOTES: Final = ('"""', "'''", '"', "'", "`")
_TEXTS: Final = {mark: re.compile(rf"((?:[^\\]|\\.)*?){re.escape(mark)}", re.DOTALL) for mark in _QUOTES}
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
"""Two halves of one character, as JSON writes those beyond the first 65,536."""
_ESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "/": "/", "\\": "\\", "\n": ""}
_WORDS: Final = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}


class Unmendable(ValueError):
    """It is no JSON, nor anything that could only mean one."""


def mended(text: str, at: int = 0) -> tuple[Any, int]:
    """The value that begins at ``at``, and where it ends.

    Raises:
        Unmendable: there is none.
    """
    return _Reader(text).value(at, 0)


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text

    def value(self, at: int, depth: int) -> tuple[Any, int]:
        at = self._skip(at)
        if depth > _DEEPEST:
            raise Unmendable("it is nested too deep")
        match self._text[at : at + 1]:
            case "{":
                return self._object(at + 1, depth + 1)
            case "[":
                return self._array(at + 1, depth + 1)
            case '"' | "'" | "`":
                return self._string(at)
            case _:
                return self._bare(at)

    def _skip(self, at: int) -> int:
        found = _SPACE.match(self._text, at)
        return found.end() if found else at

    def _object(self, at: int, depth: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        while True:
            at = self._skip(at)
            if self._text[at : at + 1] in {"}", ""}:
                return found, at + 1
            name, at = self._name(at)
            at = self._skip(at)
            if self._text[at : at + 1] not in {":", "="}:
                raise Unmendable(f"no value for {name[:40]!r}")
            found[name], at = self.value(at + 1, depth)
            at = self._next(at, "}")

    def _array(self, at: int, depth: int) -> tuple[list[Any], int]:
        found: list[Any] = []
        while True:
            at = self._skip(at)
            if self._text[at : at + 1] in {"]", ""}:
                return found, at + 1
            value, at = self.value(at, depth)
            found.append(value)
            at = self._next(at, "]")

    def _next(self, at: int, end: str) -> int:
        """Behind the commas; without one, the end has to follow, or another line."""
        after, has_comma = self._skip(at), False
        while self._text[after : after + 1] == ",":
            after, has_comma = self._skip(after + 1), True
        mark = self._text[after : after + 1]
        if has_comma or mark in {end, ""} or "\n" in self._text[at:after]:
            return after
        raise Unmendable(f"{mark!r} where a comma should be")

    def _name(self, at: int) -> tuple[str, int]:
        if self._text[at] in "\"'`":
            return self._string(at)
        found = _BARE.match(self._text, at)
        if not found:
            raise Unmendable(f"{self._text[at]!r} where a name should be")
        return found[0], found.end()

    def _string(self, at: int) -> tuple[str, int]:
        mark = next(mark for mark in _QUOTES if self._text.startswith(mark, at))
        if self._text.startswith(mark[0] * 2, at) and len(mark) == 1:
            return "", at + 2
        found = _TEXTS[mark].match(self._text, at + len(mark))
        if not found:
            raise Unmendable("a text that does not end")
        return _PAIR.sub(_joined, _ESCAPE.sub(_unescaped, found[1])), found.end()

    def _bare(self, at: int) -> tuple[Any, int]:
        found = _BARE.match(self._text, at)
        if not found:
            raise Unmendable("no value")
        word = found[0]
        if word in _WORDS:
            return _WORDS[word], found.end()
        for kind in (int, float):
            try:
                return kind(word), found.end()
            except ValueError:
                continue
        raise Unmendable(f"{word[:40]!r} without quotes")


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    if len(code) > 1:
        return chr(int(code[1:], 16))
    return _ESCAPED.get(code) or (code if code in "\"'`" else "" if code == "\n" else f"\\{code}")


def _joined(found: re.Match[str]) -> str:
    return found[0].encode("utf-16", "surrogatepass").decode("utf-16")
