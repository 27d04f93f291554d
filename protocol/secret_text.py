"""Where secrets stand in a text: those whose values are known, and those that are known by their shape.

Pure, and linear in the text whatever it holds: no stretch is looked at more than a few times, whether it is full of
beginnings of private keys that never end or the values are megabytes. A :class:`Look` counts what was looked at, so
that this can be proven without a clock. The caller is ``protocol/redaction.py``.
"""

import base64
import json
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final
from urllib.parse import quote, quote_plus

from protocol.limits import LEAST_SECRET_CHARS

LEAST_CHARS: Final = LEAST_SECRET_CHARS
LONGEST_TOKEN: Final = 4_096
"""A token that has no end by then is none."""
LONGEST_BLOCK: Final = 64 << 10
"""A private key that has no end by then is none."""
PIECE_CHARS: Final = 512
"""A longer value is looked for in pieces of so many characters."""
_MANY: Final = 256
"""More literals than this are looked for through an index."""
_LEAST_FRAGMENT: Final = 4
_WIDTHS: Final = (64, 76)
"""Lines of base64 are this long (RFC 7468, RFC 2045)."""
_MOST_MISSED: Final = 128
"""By how many characters a pattern of a shape knows that it does not fit; private keys and web tokens aside."""

_BEGIN: Final = re.compile(r"-----BEGIN[ ][A-Z0-9 ]{0,40}PRIVATE[ ]KEY(?:[ ]BLOCK)?-----")
_END: Final = re.compile(r"-----END[ ][A-Z0-9 ]{0,40}PRIVATE[ ]KEY(?:[ ]BLOCK)?-----")
LONGEST_END: Final = len("-----END ") + 40 + len("PRIVATE KEY BLOCK-----")
_BLOCK: Final = "-----BEGIN "
_SHAPES: Final = re.compile(
    r"""
    (?<![A-Za-z0-9_])(?:
        acm_[0-9a-z]{12}_[0-9A-Za-z]{43,}       # ours
      | gh[pousr]_[A-Za-z0-9]{30,}              # GitHub
      | github_pat_[A-Za-z0-9_]{22,}
      | glpat-[A-Za-z0-9_-]{20,}                # GitLab
      | sk-[A-Za-z0-9_-]{20,}                   # OpenAI, Anthropic and others
      | (?:AKIA|ASIA)[0-9A-Z]{16}               # AWS
      | AIza[0-9A-Za-z_-]{35}                   # Google
      | xox[abeoprs]-[A-Za-z0-9-]{10,}          # Slack
      | hf_[A-Za-z0-9]{30,}                     # Hugging Face
      | npm_[A-Za-z0-9]{36,}
      | pypi-AgEIcHlwaS[A-Za-z0-9_-]{30,}
    )
    """,
    re.VERBOSE,
)
"""Tokens that can be told by how they look, from their first character on."""
_WEB: Final = "eyJ"
_RUN: Final = re.compile(r"[A-Za-z0-9_-]*")
_LEAST_RUN: Final = len(_WEB) + 10
_INSIDE: Final = re.compile(r"[A-Za-z0-9_]")
_PASSWORD: Final = re.compile(r"""[^\s/:@"'<>(){},;]{0,256}+:[^\s/@"'<>(){},;]{1,256}+(?=@)""")
"""User and password behind the ``://`` of an address."""
_ADDRESS: Final = "://"
_TOKENS: Final = (
    "acm_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "sk-", "AKIA", "ASIA", "AIza", "xox",
    "hf_", "npm_", "pypi-AgEI",
)  # fmt: skip
_HINTS: Final = (*_TOKENS, _WEB, _ADDRESS, _BLOCK)
"""Every shape begins with one of these; to look only where they are costs a fraction of the patterns."""
_BREAK: Final = re.compile(r"[\s\"'<>(){},;]")
_PARTS: Final = frozenset(hint[:end] for hint in _HINTS for end in range(1, len(hint)))
_LONGEST_PART: Final = max(map(len, _PARTS))
_LONGEST_BEGIN: Final = len(_BLOCK) + 40 + len("PRIVATE KEY BLOCK-----")

Span = tuple[int, int]


class Look:
    """A text, and how much of it was looked at, in characters; what is looked at twice counts twice."""

    def __init__(self, text: str) -> None:
        self.text, self.seen = text, 0

    def find(self, literal: str, at: int) -> int:
        """Where ``literal`` stands from ``at`` on; -1 if nowhere."""
        found = self.text.find(literal, at)
        self.seen += (len(self.text) if found < 0 else found + len(literal)) - at
        return found

    def match(self, pattern: "re.Pattern[str]", at: int, most: int) -> "re.Match[str] | None":
        """What ``pattern`` finds at ``at``; ``most``: after how many characters it knows that it does not fit."""
        found = pattern.match(self.text, at)
        self.seen += found.end() - at if found else min(most, len(self.text) - at)
        return found

    def search(self, pattern: "re.Pattern[str]", at: int) -> "re.Match[str] | None":
        """The first that ``pattern`` finds from ``at`` on."""
        found = pattern.search(self.text, at)
        self.seen += (found.end() if found else len(self.text)) - at
        return found

    def places(self, literal: str) -> Iterator[Span]:
        """Everywhere that ``literal`` stands, also where it overlaps itself."""
        at = self.find(literal, 0)
        while at >= 0:
            yield at, at + len(literal)
            at = self.find(literal, at + 1)


# --- shapes -----------------------------------------------------------------------------------------------------------


def shaped(look: Look) -> Iterator[Span]:
    """Where the secrets stand that can be told by how they look."""
    for hint in _TOKENS:
        yield from _tokens(look, hint)
    yield from _web_tokens(look)
    for _, behind in look.places(_ADDRESS):
        if found := look.match(_PASSWORD, behind, _MOST_MISSED):
            yield found.span()
    yield from ((start, end) for start, end, _ in _blocks(look))


def _tokens(look: Look, hint: str) -> Iterator[Span]:
    behind = 0
    for at, _ in look.places(hint):
        if at >= behind and (found := look.match(_SHAPES, at, _MOST_MISSED)):
            behind = found.end()
            yield found.span()


def _web_tokens(look: Look) -> Iterator[Span]:
    """JSON web tokens: three runs with dots between them, of which the first two begin alike."""
    behind = 0
    for at, _ in look.places(_WEB):
        if at < behind or (at and _INSIDE.match(look.text, at - 1)):
            continue
        ends = [_run(look, at)]
        # What follows the first run decides for every place in it: none of them is looked at again.
        behind = ends[0]
        for begin in (f".{_WEB}", "."):
            if not look.text.startswith(begin, ends[-1]):
                break
            ends.append(_run(look, ends[-1] + 1))
        else:
            if ends[0] - at >= _LEAST_RUN and ends[1] - ends[0] > _LEAST_RUN and ends[2] - ends[1] > 10:  # noqa: PLR2004 - the least of the last run
                behind = ends[2]
                yield at, ends[2]


def _run(look: Look, at: int) -> int:
    found = look.match(_RUN, at, 0)
    assert found is not None, "nothing is a run, too"
    return found.end()


def _blocks(look: Look) -> Iterator[tuple[int, int, bool]]:
    """Private keys, and whether each has its end; one without is taken to go on up to the end of the text."""
    at, end = 0, None
    knows_end = False
    while (start := look.find(_BLOCK, at)) >= 0:
        at = start + 1
        begun = look.match(_BEGIN, start, _LONGEST_BEGIN)
        if begun is None:
            continue
        if not knows_end or (end is not None and end.start() < begun.end()):
            end, knows_end = look.search(_END, begun.end()), True
        if (end.start() if end else len(look.text)) - begun.end() <= LONGEST_BLOCK:
            at = end.end() if end else len(look.text)
            yield start, at, end is not None


def open_block(look: Look) -> Span | None:
    """The beginning line of a private key that has no end yet."""
    for start, _, is_whole in _blocks(look):
        if not is_whole and (begun := _BEGIN.match(look.text, start)):
            return begun.span()
    return None


def block_end(look: Look) -> int:
    """Behind the end of a private key that has begun before; -1: it has none here."""
    found = look.search(_END, 0)
    return found.end() if found else -1


def open_shape(look: Look) -> int:
    """Where a shape begins that may grow; the length of the text if there is none. Private keys aside."""
    text = look.text
    begun = text.rfind(_BLOCK, max(0, len(text) - _LONGEST_BEGIN))
    if begun >= 0 and "\n" not in text[begun:] and not _BEGIN.match(text, begun):
        return begun
    tail = text[-LONGEST_TOKEN:]
    broken = _BREAK.search(tail[::-1])
    word = len(text) - (broken.start() if broken else len(tail))
    look.seen += (len(text) - word) * (1 + len(_HINTS))
    if any(text.find(hint, word) >= 0 for hint in _HINTS):
        return word
    sizes = range(min(_LONGEST_PART, len(text)), 0, -1)
    return next((len(text) - size for size in sizes if text[len(text) - size :] in _PARTS), len(text))


# --- values -----------------------------------------------------------------------------------------------------------


class Values:
    """Secrets whose values are known, in every form in which programs write them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        literals = dict.fromkeys(piece for secret in secrets for form in forms(secret) for piece in pieces(form))
        self._literals = frozenset(literals)
        self.longest = max(map(len, literals), default=1)
        self._sorted, self._mirrored = sorted(literals), sorted(literal[::-1] for literal in literals)
        self._firsts = frozenset(literal[0] for literal in literals)
        self._lasts = frozenset(literal[-1] for literal in literals)
        self._lengths: dict[str, list[int]] = {}
        if len(literals) > _MANY:
            lengths = defaultdict[str, set[int]](set)
            for literal in literals:
                lengths[literal[:LEAST_CHARS]].add(len(literal))
            self._lengths = {gram: sorted(found) for gram, found in lengths.items()}

    def spans(self, look: Look) -> Iterator[Span]:
        """Where they stand."""
        if not self._lengths:
            for literal in self._sorted:
                yield from look.places(literal)
            return
        text, lengths = look.text, self._lengths
        look.seen += len(text)
        for at in range(len(text) - LEAST_CHARS + 1):
            for size in lengths.get(text[at : at + LEAST_CHARS], ()):
                look.seen += size
                if text[at : at + size] in self._literals:
                    yield at, at + size

    def begun(self, look: Look) -> int:
        """Where the longest end of the text begins that more text could make one of them."""
        text = look.text
        for at in range(max(0, len(text) - self.longest + 1), len(text)):
            look.seen += 1
            if text[at] in self._firsts:
                look.seen += len(text) - at
                if _is_head(self._sorted, text[at:]):
                    return at
        return len(text)

    def ended(self, look: Look) -> int:
        """How much of the beginning of the text is the end of one of them; 0: nothing that can be told."""
        text = look.text
        mirrored = text[: self.longest - 1][::-1]
        for size in range(len(mirrored), _LEAST_FRAGMENT - 1, -1):
            look.seen += 1
            if text[size - 1] in self._lasts:
                look.seen += size
                if _is_head(self._mirrored, mirrored[len(mirrored) - size :]):
                    return size
        return 0


def _is_head(ordered: list[str], head: str) -> bool:
    """Whether one of them begins with ``head`` and goes on."""
    at = bisect_left(ordered, head)
    if at < len(ordered) and ordered[at] == head:
        at += 1
    return at < len(ordered) and ordered[at].startswith(head)


def pieces(form: str) -> Iterator[str]:
    """A form, or the pieces in which a long one is looked for; the last one overlaps the one before."""
    if len(form) <= PIECE_CHARS:
        yield form
        return
    for at in range(0, len(form) - PIECE_CHARS, PIECE_CHARS):
        yield form[at : at + PIECE_CHARS]
    yield form[-PIECE_CHARS:]


def forms(secret: str) -> Iterator[str]:
    """How programs write a secret; nothing if it is too short to be told from words."""
    secret = secret.strip()
    if len(secret) < LEAST_CHARS:
        return
    lines = [line.strip() for line in secret.splitlines()]
    for part in (secret, *lines) if len(lines) > 1 else (secret,):
        if len(part) < LEAST_CHARS or part.startswith("-----"):
            continue
        raw = part.encode("utf-8", "surrogatepass")
        quoted = [json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1]]
        quoted += [text.replace("/", "\\/") for text in quoted]
        percent = [call(raw) for call in (partial(quote, safe=""), quote, quote_plus)]
        percent += [re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), text) for text in percent]
        yield from (part, raw.decode("latin-1"), *quoted, *percent, raw.hex(), raw.hex().upper())
    yield from _in_base64(secret.encode("utf-8", "surrogatepass"))


def _in_base64(raw: bytes) -> Iterator[str]:
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(bytes(shift) + raw).decode()
            whole = text[(0, 2, 3)[shift] : (shift + len(raw)) * 8 // 6]
            if len(whole) <= max(_WIDTHS):
                yield whole
                continue
            for width in _WIDTHS:
                yield from (
                    whole[at : at + width] for at in range(0, len(whole), width) if len(whole) - at >= LEAST_CHARS
                )
