"""Which turns of a model are told as events: all at first, then now and then, so that a long attempt tells no more.

Pure. What a model does stands in the output of its work too, every call with its result; events are for programs and
for people who look from afar. The caller is ``sidecar/runner.py``, one for each attempt.
"""

from collections.abc import Sequence
from typing import Final

from protocol.loads import MAX_CALLS, ToolUse, Turn

TOLD_FIRST: Final = 64
"""Turns of an attempt of which each is told."""
TOLD_EVERY: Final = 16
"""Of those behind them, one in so many."""


class Telling:
    """What was told of one attempt."""

    def __init__(self) -> None:
        self._turns = self._untold = 0

    def turn(self, number: int, calls: Sequence[ToolUse]) -> Turn | None:
        """What to tell of a turn; ``None``: nothing now, its calls are counted with the next one."""
        self._turns += 1
        if self._turns > TOLD_FIRST and self._turns % TOLD_EVERY:
            self._untold += len(calls)
            return None
        shown = tuple(calls[:MAX_CALLS])
        untold, self._untold = self._untold, 0
        return Turn(number=number, calls=shown, more=len(calls) - len(shown) + untold)
