"""Replace one place of a text, as a model names it: exactly, or but for blanks at line ends and the indentation.

Small models copy a text with its indentation changed, or without the blanks at its line ends. Where that can mean only
one place it is taken for that, and what was done is told. Nothing else is guessed. Pure; the caller is the tool
``edit`` (``sidecar/tools/files.py``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

_LOOKED_AT: Final = 4_000
_SHOWN_CHARS: Final = 120


class NoPlace(ValueError):
    """The text to replace names no place, or several; the message says which, for whoever has named it."""


@dataclass(frozen=True, slots=True)
class Edited:
    """The new text, the lines of it that are new (from 1; none if lines were only taken out), and what was mended."""

    text: str
    first: int
    last: int
    note: str = ""


def edited(text: str, old: str, new: str, *, first: int = 0, last: int = 0) -> Edited:
    """``text`` with ``new`` in the place of ``old``.

    Args:
        text: all of it.
        old: what is there now; empty: the lines from ``first`` to ``last``, whole.
        new: what is to be there.
        first, last: lines that the place is in, from 1; 0: anywhere. ``last`` 0: ``first`` alone.

    Raises:
        NoPlace: there is no such place, or there are several.
    """
    is_foreign = "\r\n" in text and text.count("\r\n") == text.count("\n")
    if is_foreign:  # models write line ends as they know them
        text, old, new = (part.replace("\r\n", "\n") for part in (text, old, new))
    lines = text.splitlines(keepends=True)
    last = last or first
    if first and not (0 < first <= last and first <= max(1, len(lines))):
        raise NoPlace(f"lines {first} to {last} are not there; the file has {len(lines)}")
    begin, end = (first - 1, min(last, len(lines))) if first else (0, len(lines))
    before, part, after = "".join(lines[:begin]), "".join(lines[begin:end]), "".join(lines[end:])
    if not old and not first:
        raise NoPlace("is empty; name lines, or use write to replace a whole file")
    changed, place, note = _replaced(part, old, new) if old else (_whole(part, new, after), 0, "")
    whole = before + changed + after
    start = (before + changed[:place]).count("\n") + 1
    stop = start + max(0, len((new if old else changed).rstrip("\n").split("\n")) - 1)
    return Edited(whole.replace("\n", "\r\n") if is_foreign else whole, start, stop, note)


def _whole(part: str, new: str, after: str) -> str:
    """``new`` as lines in the place of the lines ``part``."""
    if new and not new.endswith("\n") and (part.endswith("\n") or after):
        return f"{new}\n"
    return new


def _replaced(part: str, old: str, new: str) -> tuple[str, int, str]:
    """What becomes of ``part``, where the change begins in it, and what was mended."""
    count = part.count(old)
    if count == 1:
        place = part.index(old)
        return part[:place] + new + part[place + len(old) :], place, ""
    if count > 1:
        raise NoPlace(f"occurs {count} times; take in more of the lines around it, or say which lines")
    lines, wanted = part.splitlines(keepends=True), old.strip("\n").splitlines()
    for same, note in _WAYS:
        places = [at for at in range(len(lines) - len(wanted) + 1) if same(lines[at : at + len(wanted)], wanted)]
        if len(places) > 1:
            raise NoPlace(f"occurs {len(places)} times but for blanks; take in more of the lines, or say which lines")
        if wanted and places:
            (at,) = places
            found = lines[at : at + len(wanted)]
            fitted = _fitted(new.strip("\n"), found, wanted) + ("\n" if found[-1].endswith("\n") else "")
            kept = "".join(lines[:at])
            return kept + (fitted if new.strip("\n") else "") + "".join(lines[at + len(wanted) :]), len(kept), note
    raise NoPlace(f"does not occur in the file{_nearest(lines, wanted)}; read it and copy the text as it is there")


def _same_but_for_ends(found: Sequence[str], wanted: Sequence[str]) -> bool:
    return all(line.rstrip() == want.rstrip() for line, want in zip(found, wanted, strict=True))


def _same_but_for_indentation(found: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether they are the same, each line indented by so much more, or so much less."""
    pairs = [(line, want) for line, want in zip(found, wanted, strict=True) if line.strip() or want.strip()]
    if not pairs or any(line.strip() != want.strip() for line, want in pairs):
        return False
    shifts = {_shift(line, want) for line, want in pairs}
    return len(shifts) == 1 and None not in shifts


_WAYS: Final[tuple[tuple[Callable[[Sequence[str], Sequence[str]], bool], str], ...]] = (
    (_same_but_for_ends, "but for blanks at line ends"),
    (_same_but_for_indentation, "but for the indentation, which was fitted to the file's"),
)


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def _shift(line: str, want: str) -> tuple[str, str] | None:
    """What is to be added to the indentation as it is wanted, and what to be taken away; ``None``: neither helps."""
    have, asked = _indent(line), _indent(want)
    if have.endswith(asked):
        return have[: len(have) - len(asked)], ""
    if asked.endswith(have):
        return "", asked[: len(asked) - len(have)]
    return None


def _fitted(new: str, found: Sequence[str], wanted: Sequence[str]) -> str:
    shift = next((_shift(line, want) for line, want in zip(found, wanted, strict=True) if want.strip()), None)
    more, less = shift or ("", "")
    return "\n".join(more + line.removeprefix(less) if line.strip() else line for line in new.split("\n"))


def _nearest(lines: Sequence[str], wanted: Sequence[str]) -> str:
    """The line that is most like the first one wanted, for whoever has copied it wrongly."""
    first = next((want.strip() for want in wanted if want.strip()), "")
    bare = [line.strip() for line in lines[:_LOOKED_AT]]
    close = get_close_matches(first[:_SHOWN_CHARS], [line[:_SHOWN_CHARS] for line in bare if line], n=1, cutoff=0.7)
    if not first or not close:
        return ""
    number = next(at for at, line in enumerate(bare, start=1) if line.startswith(close[0]))
    return f"; line {number} is like it: {close[0]}"
