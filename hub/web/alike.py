"""Requests of one connection that say the same, byte for byte, idempotency key and length of the body aside.

Pure: bytes in, their parts out. Nothing here understands more of HTTP than those two headers, so whatever else a head
says has to be what the first one said, which the HTTP library has read (``hub/web/short_way.py``).
"""

from typing import Final, NamedTuple, Self

_END: Final = b"\r\n\r\n"
_KEY: Final = b"idempotency-key"
_LENGTH: Final = b"content-length"
_LONGEST_LENGTH: Final = 7


class Found(NamedTuple):
    """A request.

    ``key``: its header as it is written, ``None`` without one. ``rest``: the body, as far as it is here, and whatever
    came behind it.
    """

    key: bytes | None
    size: int
    rest: bytes


class Head:
    """What such requests have in common: all lines of their head but those two."""

    __slots__ = ("_before", "_last", "lines")

    def __init__(self, lines: list[bytes], texts: list[bytes], is_key: list[bool], last: bytes) -> None:
        """``texts`` stand before a value each, that of the key or the length; ``last`` stands behind all of them."""
        self.lines, self._before, self._last = lines, tuple(zip(texts, is_key, strict=True)), last

    @classmethod
    def of(cls, data: bytes) -> Self | None:
        """The head of the request that ``data`` begins with; ``None``: it is not whole, or lacks what it takes."""
        whole, end, _ = data.partition(_END)
        lines, texts, is_key = [], [], []
        at = cut = 0  # where this line begins, and the text since the last value
        for line in whole.split(b"\r\n") if end else ():
            name, colon, _ = line.partition(b":")
            if colon and name.lower() in {_KEY, _LENGTH}:
                texts.append(data[cut : at + len(name) + 1])
                is_key.append(name.lower() == _KEY)
                cut = at + len(line)
            else:
                lines.append(line)
            at += len(line) + 2
        if is_key.count(False) != 1 or len(is_key) > 2:  # noqa: PLR2004 - length and key, each once
            return None
        return cls(lines, texts, is_key, data[cut : len(whole) + len(_END)])

    def read(self, data: bytes) -> Found | None:
        """The request that ``data`` begins with; ``None``: it has another head, or no good length."""
        at, key, length, last = 0, None, b"", self._last
        for text, is_key in self._before:
            if not data.startswith(text, at):
                return None
            at += len(text)
            end = data.find(b"\r\n", at)
            if end < 0:
                return None
            value = data[at:end].strip(b" \t")
            at = end
            if is_key:
                key = value
            else:
                length = value
        if not data.startswith(last, at) or not length.isdigit() or len(length) > _LONGEST_LENGTH:
            return None
        return Found(key, int(length), data[at + len(last) :])
