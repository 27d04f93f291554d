"""What an attempt has used of its budget, and what is left: tokens, money and seconds.

Pure: the time is an argument. What earlier attempts have used counts as its own where this one goes on with their
iterations (:meth:`Purse.inherit`). The caller is ``sidecar/rounds.py``.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from protocol.errors import BudgetSpent
from protocol.model import Budget, Iteration, Usage


class Purse:
    """The budget of one attempt.

    Attributes:
        iterations: those that have ended, those of an earlier attempt among them.
        underway: what was used of the one that has not; ``None``: there is none.
        told: what stands in reports of earlier attempts already.
    """

    def __init__(self, budget: Budget, began_at: float, carried_usd: float | None = None) -> None:
        """Begin to count.

        Args:
            budget: what may be used.
            began_at: seconds of a monotonic clock.
            carried_usd: money of attempts before that had a budget of their own but in money; ``None``: the hub has
                taken off already what reports have told.
        """
        self._budget, self._began_at, self.carried_usd = budget, began_at, carried_usd or 0.0
        self._is_lowered = carried_usd is None
        self.iterations: list[Iteration] = []
        self.underway: Usage | None = None
        self.told, self._before_s = Usage(), 0.0

    def inherit(self, iterations: Sequence[Iteration], *, seconds: float, carried_usd: float, told: Usage) -> None:
        """Go on where an earlier attempt was; ``told`` is what stands in reports already."""
        self.iterations += iterations
        self._before_s, self.carried_usd, self.told = seconds, carried_usd, told
        if self._is_lowered and self._budget.usd is not None:  # what is inherited is taken off here, all of it
            self._budget = replace(self._budget, usd=self._budget.usd + carried_usd + (told.cost_usd or 0.0))

    def elapsed_s(self, now: float) -> float:
        """Seconds of this attempt, and of those that it goes on from."""
        return self._before_s + now - self._began_at

    def used(self) -> Usage:
        """All tokens and all money."""
        used = Usage()
        for usage in (*(iteration.usage for iteration in self.iterations), self.underway or Usage()):
            used = used.plus(usage)
        return used

    def to_report(self, now: float) -> Usage:
        """What no report has told yet, with the seconds of this attempt alone."""
        return replace(minus(self.used(), self.told), seconds=round(now - self._began_at, 6))

    def remaining(self, now: float) -> Budget:
        """What is left for the next iteration."""
        budget, used = self._budget, self.used()
        tokens = None if budget.tokens is None else max(0, budget.tokens - used.input_tokens - used.output_tokens)
        return Budget(
            tokens=tokens,
            usd=None if budget.usd is None else max(0.0, budget.usd - self._usd(used)),
            seconds=max(0.0, budget.seconds - self.elapsed_s(now)),
            fix_attempts=max(0, budget.fix_attempts - max(0, len(self.iterations) - 1)),
        )

    def spent(self, now: float) -> BudgetSpent | None:
        """Which budget leaves no room for another iteration."""
        budget, used = self._budget, self.used()
        tokens, usd = used.input_tokens + used.output_tokens, self._usd(used)
        if budget.tokens is not None and tokens >= budget.tokens:
            return BudgetSpent("tokens", budget.tokens, tokens)
        if budget.usd is not None and usd > 0 and usd >= budget.usd:  # no money at all is enough for work that is free
            return BudgetSpent("USD", budget.usd, usd)
        if self.remaining(now).seconds == 0:
            return BudgetSpent("seconds", budget.seconds, round(self.elapsed_s(now), 1))
        return None

    def _usd(self, used: Usage) -> float:
        """Money of this attempt and of those that it goes on from: the whole ladder costs no more than the budget."""
        return (used.cost_usd or 0.0) + self.carried_usd


def minus(whole: Usage, part: Usage) -> Usage:
    """What is left of ``whole`` without ``part``, which is in it."""
    known = whole.cost_usd is not None and part.cost_usd is not None
    return replace(
        whole,
        input_tokens=max(0, whole.input_tokens - part.input_tokens),
        output_tokens=max(0, whole.output_tokens - part.output_tokens),
        cached_input_tokens=max(0, whole.cached_input_tokens - part.cached_input_tokens),
        cost_usd=max(0.0, (whole.cost_usd or 0.0) - (part.cost_usd or 0.0)) if known else None,
        bill=whole.bill and whole.bill.minus(part.bill),
    )
