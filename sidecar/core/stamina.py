"""How many turns a model gets: more while its work comes along, fewer while it does what comes to nothing.

Pure; the caller is the loop of the executor ``agent``. Tokens, money and seconds bound it besides, whatever this says.
"""

from collections.abc import Sequence
from typing import Final

from protocol.loads import ToolUse

GROWTH: Final = 4
"""Turns that a turn is worth that has changed a file, or made a command succeed that had failed."""
MOST: Final = 2
"""Times the turns to begin with that it may become."""
IN_VAIN: Final = 10
"""Turns in a row of which each came to nothing: then it ends."""
_CHANGES: Final = frozenset({"edit", "write"})


class Stamina:
    """The turns of one conversation.

    Attributes:
        turns: how many there may be, as it stands now.
        in_vain: how many of the last ones came to nothing.
    """

    def __init__(self, turns: int) -> None:
        self.turns, self._most = turns, MOST * turns
        self.in_vain = 0
        self._failed = False
        self._seen: set[int] = set()

    def after(self, calls: Sequence[ToolUse], results: Sequence[str]) -> None:
        """A turn has ended in which these calls had these results."""
        if not calls:
            return
        new = [self._is_new(call, result) for call, result in zip(calls, results, strict=True)]
        if any(call.ok and (call.tool in _CHANGES or (call.tool == "run" and self._failed)) for call in calls):
            self.turns, self.in_vain = min(self._most, self.turns + GROWTH), 0
        elif not any(is_new and (call.ok or call.tool == "run") for call, is_new in zip(calls, new, strict=True)):
            self.turns, self.in_vain = self.turns - 1, self.in_vain + 1
        else:
            self.in_vain = 0
        for call in calls:
            self._failed = not call.ok if call.tool == "run" else self._failed

    def _is_new(self, call: ToolUse, result: str) -> bool:
        known = hash((call.tool, call.target, result))
        is_new = known not in self._seen
        self._seen.add(known)
        return is_new
