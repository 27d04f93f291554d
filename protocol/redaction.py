"""Take secrets out of text before it leaves a machine or is written down.

Two kinds are found. Secrets whose *values* are known (a token, an API key) are found as they are and as programs write
them: in base64 at any of its three alignments, percent-encoded, as JSON, in hexadecimal, and line by line. Other
secrets are known by their *shape*: tokens of well-known services, keys in PEM, passwords in addresses. Where
they stand is found by ``protocol/secret_text.py``.

Pure. Text that comes in pieces goes through a :class:`Stream`, which holds back what may be the beginning of a secret.
Callers: the sidecar for all that work says (``sidecar/runner.py``, ``sidecar/live_log.py``, ``sidecar/tails.py``), the
hub for reasons and output of agents (``hub/services/results.py``), ``protocol/logs.py`` for log lines.
"""

from collections.abc import Hashable, Iterable
from itertools import chain
from operator import is_
from typing import Any, Final, TypeVar

import msgspec

from protocol import secret_text
from protocol.secret_text import LONGEST_BLOCK, LONGEST_END, LONGEST_TOKEN, Look, Span, Values

T = TypeVar("T")
MASK: Final = "[secret]"
_QUICK_CHARS: Final = 4 << 10
"""The forms of so much are found in a few milliseconds."""


class Redactor:
    """Finds secrets by these values, and by their shape; more can be learnt, and are forgotten when their work is over.

    Attributes:
        seen: how many characters it has looked at so far, each as often as it did.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._own, self._learnt = tuple(secrets), dict[Hashable, tuple[str, ...]]()
        self._usual, self.seen = Values(self._own), 0
        self._values = self._usual

    def learn(self, whose: Hashable, secrets: Iterable[str]) -> None:
        """Look for these too, from now on, in all text that has not left yet; until :meth:`forget` of the same."""
        self.begin(whose, secrets)
        self._look_for()

    def begin(self, whose: Hashable, secrets: Iterable[str]) -> None:
        """The first half of :meth:`learn`, which takes no time.

        The other half takes up to a second for the most that there can be: who cannot wait has ``Values`` of what
        is :attr:`wanted` made on another thread, and passes both to :meth:`adopt`.
        """
        self._learnt[whose] = tuple(secrets)

    def forget(self, whose: Hashable) -> None:
        """What was learnt of these need not be looked for any more; nothing happens if there was none.

        Takes no time where that would be much: many values are found until more are learnt, or the last are forgotten.
        """
        if self._learnt.pop(whose, None) is None:
            return
        if not self._learnt:
            self._values = self._usual
        elif sum(map(len, self.wanted)) <= _QUICK_CHARS:
            self._look_for()

    @property
    def wanted(self) -> tuple[str, ...]:
        """All secrets that are to be found by their value, each once."""
        return tuple(dict.fromkeys(chain(self._own, *self._learnt.values())))

    def adopt(self, wanted: tuple[str, ...], values: Values) -> bool:
        """Look for these values, which are those of ``wanted``; ``False``: something else is wanted by now."""
        if wanted != self.wanted:
            return False
        self._values = values
        return True

    def _look_for(self) -> None:
        wanted = self.wanted  # of a secret that many attempts have the forms are found once
        self.adopt(wanted, Values(wanted))

    def text(self, text: str, *, shapes: bool = True, before: str = "", in_place: bool = False) -> str:
        """``text`` without secrets.

        Args:
            text: what is looked at.
            shapes: look also for secrets that are known by their shape only.
            before: what stands before it; a shape does not begin in the middle of a word.
            in_place: put as many signs where a secret was: what is no text keeps its length.
        """
        spans = self._spans(before + text, shapes=shapes)
        places = [(max(0, start - len(before)), end - len(before)) for start, end in spans]
        return _without(text, places, in_place=in_place)

    def rest(self, text: str) -> str:
        """As :meth:`text`, of the end of something longer: it may begin in the middle of a secret."""
        head = ""
        if text.startswith("[..."):  # a remark of ours that something was cut
            head, line, text = text.partition("\n")
            head += line
        look = Look(text)
        size = self._values.ended(look)
        self.seen += look.seen
        if size:
            return head + MASK + self.text(text[size:])
        return head + self.text(text)

    def value(self, value: T) -> T:
        """A message, or any part of one, with :meth:`rest` of every text in it."""
        clean: T = self._clean(value)
        return clean

    def _clean(self, value: Any) -> Any:  # noqa: ANN401 - any part of a message
        # Put together anew and not converted: what breaks a bound of the wire is told where it is sent.
        if type(value) is str:  # and none of an enumeration
            return self.rest(value)
        if isinstance(value, msgspec.Struct):
            parts = {name: getattr(value, name) for name in value.__struct_fields__}
            clean = {name: self._clean(part) for name, part in parts.items()}
            changes = {name: part for name, part in clean.items() if part is not parts[name]}
            return msgspec.structs.replace(value, **changes) if changes else value
        if isinstance(value, dict):
            whole = {key: self._clean(part) for key, part in value.items()}
            return value if all(whole[key] is part for key, part in value.items()) else whole
        if type(value) in {list, tuple}:
            entries = [self._clean(part) for part in value]
            return value if all(map(is_, entries, value)) else type(value)(entries)
        return value

    def stream(self, *, shapes: bool = True, in_place: bool = False) -> "Stream":
        """For text that comes in pieces; ``in_place`` as for :meth:`text`."""
        return Stream(self, shapes=shapes, in_place=in_place)

    @property
    def longest(self) -> int:
        """Characters of the longest value, or piece of one, that is looked for."""
        return self._values.longest

    def _spans(self, text: str, *, shapes: bool) -> list[Span]:
        look = Look(text)
        found = sorted([*self._values.spans(look), *(secret_text.shaped(look) if shapes else ())])
        self.seen += look.seen
        return found

    def held(self, text: str, *, shapes: bool) -> int:
        """Where the part of ``text`` begins that more text could make a secret, private keys aside."""
        look = Look(text)
        at = self._values.begun(look)
        if shapes:
            at = min(at, secret_text.open_shape(look))
        self.seen += look.seen
        offset = max(0, at - 2 * LONGEST_TOKEN)
        for start, end in reversed(self._spans(text[offset:], shapes=shapes)):
            if start + offset < at < end + offset:
                at = start + offset  # which may stand inside one that begins earlier
        return at


class Stream:
    """Text that comes in pieces; what is given back lags behind by what may be the beginning of a secret."""

    def __init__(self, redactor: Redactor, *, shapes: bool = True, in_place: bool = False) -> None:
        self._redactor, self._shapes, self._in_place = redactor, shapes, in_place
        self._kept = self._last = ""
        self._dropped: int | None = None
        """Inside a private key: how much of it is gone."""

    def feed(self, text: str) -> str:
        """What is safe to pass on, now that ``text`` has come."""
        self._kept += text
        out = ""
        if self._dropped is not None:
            self._leave_block()
        if self._dropped is None and self._shapes:
            out = self._enter_block()
        if self._dropped is not None:
            return out
        at = self._redactor.held(self._kept, shapes=self._shapes)
        if len(self._kept) - at > max(LONGEST_TOKEN, 2 * self._redactor.longest):
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
        return self._redactor.text(done, shapes=self._shapes, before=before, in_place=self._in_place)

    def _enter_block(self) -> str:
        """What stands before a private key that has begun and not ended, if there is one, and its mask."""
        look = Look(self._kept)
        begun = secret_text.open_block(look)
        self._redactor.seen += look.seen
        if begun is None:
            return ""
        out = self._clean(self._kept[: begun[1]])  # with its first line, which ends or completes what stands before it
        self._kept, self._dropped, self._last = self._kept[begun[1] :], 0, "-"
        self._leave_block()
        return out

    def _leave_block(self) -> None:
        assert self._dropped is not None, "inside a block"
        look = Look(self._kept)
        end = secret_text.block_end(look)
        self._redactor.seen += look.seen
        if end >= 0:
            self._kept, self._dropped, self._last = self._kept[end:], None, "-"
        elif self._dropped + len(self._kept) > LONGEST_BLOCK:
            self._dropped = None
        elif len(self._kept) > LONGEST_END:
            self._dropped += len(self._kept) - LONGEST_END
            self._last, self._kept = self._kept[-LONGEST_END - 1], self._kept[-LONGEST_END:]


def _without(text: str, spans: list[Span], *, in_place: bool) -> str:
    if not spans:
        return text
    out: list[str] = []
    behind = 0
    for start, end in spans:
        if in_place:
            begin = max(start, behind)
            out += [text[behind:begin], "*" * (end - begin)]
        elif start >= behind:
            out += [text[behind:start], MASK]
        behind = max(behind, end)
    return "".join([*out, text[behind:]])
