"""Fair shares: whoever has many tasks waiting does not keep those away who have few.

Stride scheduling inside each lane: a submitter's *pass* grows by what each of its tasks takes of the fleet, and the one
with the smallest pass is next. Who has waited for nothing for a while starts where the others are: nobody saves up.
In memory only; after a restart everybody starts even. Pure. Caller: ``hub/core/scheduling.py``.
"""

from typing import Final

MAX_KEPT: Final = 10_000
"""Submitters whose pass is remembered; those that are least ahead are forgotten beyond this."""
LEAST_S: Final = 0.05
"""The least that a task counts, in seconds: giving it away costs something too."""


class Shares:
    """The passes of all submitters, lane by lane."""

    def __init__(self) -> None:
        self._passes: dict[tuple[int, str], float] = {}
        self._floors: dict[int, float] = {}

    def of(self, lane: int, by: str) -> float:
        """Where a submitter stands in a lane: the smallest goes next."""
        return max(self._passes.get((lane, by), 0.0), self._floors.get(lane, 0.0))

    def took(self, lane: int, by: str, seconds: float, times: int = 1) -> float:
        """Tasks of the submitter were given away that will take so long each; where it stands now."""
        step, stood = max(LEAST_S, seconds), self.of(lane, by)
        now = self._passes[lane, by] = stood + step * times
        self._floors[lane] = now - step
        if len(self._passes) > MAX_KEPT:
            ahead = sorted(self._passes.items(), key=lambda item: item[1] - self._floors.get(item[0][0], 0.0))
            self._passes = dict(ahead[-MAX_KEPT // 2 :])
        return now
