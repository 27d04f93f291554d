"""Names of things: task ids that sort by time, and rules for the names that people give.

A task id is 26 lower-case Crockford base-32 characters: 48 bits of milliseconds, then 80 random bits (the ULID layout,
https://github.com/ulid/spec). Ids made by one maker strictly increase, so "first in, first out" is "smallest id first".
Within a millisecond they increase by a random step of 32 bits (RFC 9562, section 6.2, method 2; ULID steps by 1): who
knows one cannot count on to the next, but nobody may be let in because of what he knows: rights are looked at.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS: Final = tuple(one + other for one in _ALPHABET for other in _ALPHABET)
_VALUES: Final = {character: value for value, character in enumerate(_ALPHABET)}
_RANDOM_BITS: Final = 80
_40_BITS: Final = (1 << 40) - 1
TIME_CHARS: Final = 10
"""So many characters of an id, its first, tell when it was made."""
TASK_ID: Final = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,63}")
"""Names of agents and hosts: they end up in branch names, headers and terminals."""
PROJECT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names of projects: they are part of paths, on disk and in addresses."""
PLUGIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
"""Names of plug-in checks: with what stands before them they are labels."""
LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")


class IdMaker:
    """Makes task ids that strictly increase, even when the clock stands still or steps back.

    Args:
        random_bits: returns that many random bits as an integer, like ``random.Random.getrandbits``.
        last: the newest id already given out (from the store, at start), so that a clock that was set back makes no
            older ones.
    """

    def __init__(self, random_bits: Callable[[int], int], last: str = "") -> None:
        self._random_bits = random_bits
        self._begin(decode(last) if last else 0)

    def make(self, now_ms: int) -> str:
        """A new id for something that happens at ``now_ms`` (Unix time in milliseconds)."""
        if now_ms > self._ms:
            self._begin((now_ms << _RANDOM_BITS) | self._random_bits(_RANDOM_BITS))
        else:
            # Same millisecond (or a clock that went back): step a little, so order holds and ids stay hard to guess.
            self._lower += 1 + self._random_bits(32)
            if self._lower > _40_BITS:
                self._begin((self._upper << 40) + self._lower)
        return self._text + _lower(self._lower)

    def _begin(self, number: int) -> None:
        """The newest id: only its lower bits change most of the time, and small numbers are fast."""
        self._upper, self._lower, self._ms = number >> 40, number & _40_BITS, number >> _RANDOM_BITS
        self._text = _upper(self._upper)

    def several(self, now_ms: int, count: int) -> list[str]:
        """As many new ids as if :meth:`make` were called so often: their chance comes in one piece."""
        if count < 2:  # noqa: PLR2004 - there is nothing to put together
            return [self.make(now_ms)] if count else []
        made = [self.make(now_ms)]  # begins the millisecond if it is a new one
        chance = self._random_bits(32 * (count - 1)).to_bytes(4 * (count - 1), "big")
        steps = [step + 1 for step in memoryview(chance).cast("I")]
        if self._lower + sum(steps) > _40_BITS:
            return made + [self.make(now_ms) for _ in steps]
        numbers = list(accumulate(steps, initial=self._lower))
        self._lower, text = numbers[-1], self._text
        return made + [text + _lower(number) for number in numbers[1:]]


def encode(number: int) -> str:
    """128 bits as 26 characters."""
    return _upper(number >> 40) + _lower(number & _40_BITS)


def _lower(number: int) -> str:
    return f"{_PAIRS[number >> 30]}{_PAIRS[number >> 20 & 1023]}{_PAIRS[number >> 10 & 1023]}{_PAIRS[number & 1023]}"


def _upper(number: int) -> str:
    time = number >> 40
    return (
        f"{_PAIRS[time >> 40 & 1023]}{_PAIRS[time >> 30 & 1023]}{_PAIRS[time >> 20 & 1023]}"
        f"{_PAIRS[time >> 10 & 1023]}{_PAIRS[time & 1023]}{_lower(number & _40_BITS)}"
    )


def decode(text: str) -> int:
    """The 128 bits of an id made by :func:`encode`.

    Raises:
        ValueError: ``text`` is not such an id.
    """
    if not TASK_ID.fullmatch(text):
        message = f"not a task id: {text!r}"
        raise ValueError(message)
    number = 0
    for character in text:
        number = number << 5 | _ALPHABET.index(character)
    return number


def made_ms(task: str) -> int:
    """When an id was made, in Unix milliseconds; 0 for one that no maker has made."""
    return _ms_of(task[:TIME_CHARS])


@lru_cache(1_024)  # what was made in one millisecond begins alike, and is asked about together
def _ms_of(text: str) -> int:
    number = 0
    for character in text:
        value = _VALUES.get(character)
        if value is None:
            return 0
        number = number << 5 | value
    return number


def slug(text: str, limit: int = 32) -> str:
    """``text`` as a short piece of a branch name: lower case, digits and single dashes; ``task`` if nothing is left."""
    cleaned = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].strip("-")
    return cleaned or "task"
