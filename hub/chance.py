"""The hub's source of chance: the system's, fetched by the page.

A task id has 80 random bits. Asking the system for them one id at a time costs a call that gives up the interpreter's
lock, in the midst of a batch; a page of them costs one such call for 400 ids. Nothing here can be predicted.
"""

import os
import random
from typing import Final

_PAGE_BYTES: Final = 4096


class Chance(random.SystemRandom):
    """As :class:`random.SystemRandom`, with a page of its bytes at hand. For one thread, and not across a fork."""

    def __init__(self) -> None:
        super().__init__()
        self._page, self._used = b"", 0

    def getrandbits(self, k: int, /) -> int:
        """An integer of ``k`` random bits.

        Raises:
            ValueError: ``k`` is negative.
        """
        size = (k + 7) // 8
        if k < 0 or size > _PAGE_BYTES:
            return super().getrandbits(k)
        if self._used + size > len(self._page):
            self._page, self._used = os.urandom(_PAGE_BYTES), 0
        taken = self._page[self._used : self._used + size]
        self._used += size
        return int.from_bytes(taken, "big") >> (size * 8 - k)

    def random(self) -> float:
        """A number from 0 to 1, 1 excluded."""
        return self.getrandbits(53) * 2.0**-53
