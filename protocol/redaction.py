"""Take secrets out of text before it leaves a machine or is written down.

Two kinds are found. Secrets whose *values* are known (a token, an API key) are found as they are and as programs write
them: in base64 at any of its three alignments, percent-encoded, as JSON, in hexadecimal, and line by line. Other
secrets are known by their *shape* (:data:`SHAPES`): tokens of well-known services, keys in PEM, passwords in addresses.
What is shorter than ``LEAST_CHARS`` is never looked for: it would be found in ordinary words.

Pure. Text that comes in pieces goes through a :class:`Stream`, which holds back what may be the beginning of a secret.
Callers: the sidecar for all that work says (``sidecar/runner.py``, ``sidecar/live_log.py``, ``sidecar/tails.py``), the
hub for reasons and output of agents (``hub/services/results.py``), ``protocol/logs.py`` for log lines.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import quote, quote_plus

import msgspec

T = TypeVar("T")
MASK: Final = "[secret]"
LEAST_CHARS: Final = 8
LONGEST_TOKEN: Final = 4_096
"""A token that has no end by then is none."""
LONGEST_BLOCK: Final = 64 << 10
"""A private key that has no end by then is none."""
_LEAST_FRAGMENT: Final = 4
_WIDTHS: Final = (64, 76)
"""Lines of base64 are this long (RFC 7468, RFC 2045)."""

_BEGIN: Final = r"-----BEGIN[ ][A-Z0-9 ]{0,40}PRIVATE[ ]KEY(?:[ ]BLOCK)?-----"
_END: Final = r"-----END[ ][A-Z0-9 ]{0,40}PRIVATE[ ]KEY(?:[ ]BLOCK)?-----"
SHAPES: Final = re.compile(
    rf"""
      {_BEGIN}[\s\S]{{0,{LONGEST_BLOCK}}}?(?:{_END}|\Z)
    | (?<![A-Za-z0-9_])(?:
        acm_[0-9a-z]{{12}}_[0-9A-Za-z]{{43,}}       # ours
      | gh[pousr]_[A-Za-z0-9]{{30,}}                # GitHub
      | github_pat_[A-Za-z0-9_]{{22,}}
      | glpat-[A-Za-z0-9_-]{{20,}}                  # GitLab
      | sk-[A-Za-z0-9_-]{{20,}}                     # OpenAI, Anthropic and others
      | (?:AKIA|ASIA)[0-9A-Z]{{16}}               # AWS
      | AIza[0-9A-Za-z_-]{{35}}                     # Google
      | xox[abeoprs]-[A-Za-z0-9-]{{10,}}            # Slack
      | hf_[A-Za-z0-9]{{30,}}                       # Hugging Face
      | npm_[A-Za-z0-9]{{36,}}
      | pypi-AgEIcHlwaS[A-Za-z0-9_-]{{30,}}
      | eyJ[A-Za-z0-9_-]{{10,}}\.eyJ[A-Za-z0-9_-]{{10,}}\.[A-Za-z0-9_-]{{10,}}  # JSON web tokens
    )
    """,
    re.VERBOSE,
)
"""Secrets that can be told by how they look, from their first character on."""
_PASSWORD: Final = re.compile(r"""[^\s/:@"'<>(){},;]{0,256}:[^\s/@"'<>(){},;]{1,256}(?=@)""")
"""User and password behind the ``://`` of an address."""
_HINTS: Final = (
    "acm_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "sk-", "AKIA", "ASIA", "AIza", "xox",
    "hf_", "npm_", "pypi-AgEI", "eyJ", "://", "-----BEGIN ",
)  # fmt: skip
"""Every shape begins with one of these; to look only where they are costs a fraction of the pattern."""
_WORD: Final = re.compile(r"[^\s\"'<>(){},;]{1,4096}\Z")
_OPEN: Final = re.compile(_BEGIN)
_CLOSE: Final = re.compile(_END)
_PARTS: Final = frozenset(hint[:end] for hint in _HINTS for end in range(1, len(hint)))
_LONGEST_PART: Final = max(map(len, _PARTS))


class Redactor:
    """Finds secrets by these values, and by their shape."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._literals = tuple(dict.fromkeys(form for secret in secrets for form in forms(secret)))
        self._longest = max(map(len, self._literals), default=1)
        self._beginnings = frozenset(each[:end] for each in self._literals for end in range(1, len(each)))
        self._endings = frozenset(each[at:] for each in self._literals for at in range(1, len(each)))

    def text(self, text: str, *, shapes: bool = True, before: str = "") -> str:
        """``text`` without secrets.

        Args:
            text: what is looked at.
            shapes: look also for secrets that are known by their shape only.
            before: what stands before it; a shape does not begin in the middle of a word.
        """
        spans = self._spans(before + text, shapes=shapes)
        return _without(text, [(max(0, start - len(before)), end - len(before)) for start, end in spans])

    def rest(self, text: str) -> str:
        """As :meth:`text`, of the end of something longer: it may begin in the middle of a secret."""
        head = ""
        if text.startswith("[..."):  # a remark of ours that something was cut
            head, line, text = text.partition("\n")
            head += line
        for size in range(min(self._longest - 1, len(text)), _LEAST_FRAGMENT - 1, -1):
            if text[:size] in self._endings:
                return head + MASK + self.text(text[size:])
        return head + self.text(text)

    def value(self, value: T) -> T:
        """A message, or any part of one, with :meth:`rest` of every text in it."""
        plain = msgspec.to_builtins(value)
        clean = self._clean(plain)
        return value if clean == plain else msgspec.convert(clean, type(value))

    def _clean(self, value: Any) -> Any:  # noqa: ANN401 - any plain value
        if isinstance(value, str):
            return self.rest(value)
        if isinstance(value, dict):
            return {key: self._clean(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._clean(part) for part in value)
        return value

    def stream(self, *, shapes: bool = True) -> "Stream":
        """For text that comes in pieces."""
        return Stream(self, shapes=shapes)

    def _spans(self, text: str, *, shapes: bool) -> list[tuple[int, int]]:
        found = [span for literal in self._literals if literal in text for span in _places(text, literal)]
        if shapes:
            found += [span for hint in _HINTS if hint in text for span in _shaped(text, hint)]
        return sorted(found)

    def _held(self, text: str, *, shapes: bool) -> int:
        """Where the part of ``text`` begins that more text could make a secret."""
        size = len(text)
        at = next(
            (size - n for n in range(min(self._longest - 1, size), 0, -1) if text[size - n :] in self._beginnings), size
        )
        if shapes:
            at = min(at, _open_shape(text))
        for start, end in self._spans(text[max(0, at - 2 * LONGEST_TOKEN) :], shapes=shapes):
            offset = max(0, at - 2 * LONGEST_TOKEN)
            if start + offset < at < end + offset:
                return start + offset
        return at


class Stream:
    """Text that comes in pieces; what is given back lags behind by what may be the beginning of a secret."""

    def __init__(self, redactor: Redactor, *, shapes: bool = True) -> None:
        self._redactor, self._shapes = redactor, shapes
        self._kept = self._last = ""
        self._dropped: int | None = None
        """Inside a private key: how much of it is gone."""

    def feed(self, text: str) -> str:
        """What is safe to pass on, now that ``text`` has come."""
        self._kept += text
        out = self._leave_block() if self._dropped is not None else ""
        if self._dropped is not None:
            return out
        at = self._redactor._held(self._kept, shapes=self._shapes)  # noqa: SLF001 - the two are one
        if len(self._kept) - at > max(LONGEST_TOKEN, 2 * self._redactor._longest):  # noqa: SLF001 - as above
            if self._shapes and (begun := _OPEN.search(self._kept, at)):
                return out + self._enter_block(begun)
            at = len(self._kept)
        done, self._kept = self._kept[:at], self._kept[at:]
        return out + self._clean(done)

    def flush(self) -> str:
        """What was held back: nothing more comes."""
        done, self._kept = ("", "") if self._dropped is not None else (self._kept, "")
        self._dropped = None
        return self._clean(done)

    def _clean(self, done: str) -> str:
        before, self._last = self._last, done[-1:] or self._last
        return self._redactor.text(done, shapes=self._shapes, before=before)

    def _enter_block(self, begun: re.Match[str]) -> str:
        done = self._clean(self._kept[: begun.start()])
        self._kept, self._dropped = self._kept[begun.end() :], 0
        return done + MASK + self._leave_block()

    def _leave_block(self) -> str:
        assert self._dropped is not None, "inside a block"
        ended = _CLOSE.search(self._kept)
        if ended is not None:
            self._kept, self._dropped = self._kept[ended.end() :], None
        elif self._dropped + len(self._kept) > LONGEST_BLOCK:
            self._dropped = None
        else:
            keep = len("-----END ") + 40 + len("PRIVATE KEY BLOCK-----")
            self._dropped += max(0, len(self._kept) - keep)
            self._kept = self._kept[-keep:]
        return ""


def _open_shape(text: str) -> int:
    """Where a shape begins that has no end yet, or may grow; the length of ``text`` if there is none."""
    begun = text.rfind("-----BEGIN ")
    if begun >= 0 and not _CLOSE.search(text, begun):
        line = text[begun : begun + 80]
        if "\n" not in line or "PRIVATE KEY" in line.partition("\n")[0]:
            return begun
    word = _word_before(text, len(text))
    if any(hint in text[word:] for hint in _HINTS):
        return word
    sizes = range(min(_LONGEST_PART, len(text)), 0, -1)
    return next((len(text) - size for size in sizes if text[len(text) - size :] in _PARTS), len(text))


def _word_before(text: str, at: int) -> int:
    """Where the word begins that stands before ``at``: shapes are told from the rest of a word."""
    begun = max(0, at - LONGEST_TOKEN)
    word = _WORD.search(text[begun:at])
    return at if word is None else begun + word.start()


def _shaped(text: str, hint: str) -> Iterator[tuple[int, int]]:
    for at, behind in _places(text, hint):
        match = _PASSWORD.match(text, behind) if hint == "://" else SHAPES.match(text, at)
        if match is not None:
            yield match.span()


def _places(text: str, literal: str) -> Iterator[tuple[int, int]]:
    at = text.find(literal)
    while at >= 0:
        yield at, at + len(literal)
        at = text.find(literal, at + 1)


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    if not spans:
        return text
    out: list[str] = []
    behind = 0
    for start, end in spans:
        if start >= behind:
            out += [text[behind:start], MASK]
        behind = max(behind, end)
    return "".join([*out, text[behind:]])


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
