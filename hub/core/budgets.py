"""What may be used a day, and by whom: reserved before an attempt is granted, settled to what it has used.

A *purse* holds what was spent and what is reserved of one day by one scope: the whole hub, a submitter, a project. An
attempt draws on all of its scopes, on those of the day on which it was granted, whenever it ends. What is spent and
reserved never exceeds a limit by a reservation: one that does not fit is refused and changes nothing. An attempt whose
use nobody knows (its sidecar is gone, it was cancelled) counts as having used all that it had reserved, until somebody
tells.

Whole numbers throughout (tokens, millionths of a dollar, milliseconds), so sums are exact. Pure; the store's verbs
decide by it (``hub/store/budget_verbs.py``), and the scheduler foresees with it what they would refuse.
"""

import math
from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from protocol.budgets import BudgetScope
from protocol.model import Usage

DAY_MS: Final = 86_400_000
MICRO: Final = 1_000_000
"""Parts of a dollar in which money is counted."""

Scope = tuple[BudgetScope, str]
"""Whose purse; the hub has no name."""
HUB: Final[Scope] = (BudgetScope.HUB, "")
Attempt = tuple[str, int]
"""Task and epoch."""
KINDS: Final = ("tokens", "micro", "ms")


class Amount(Struct, frozen=True):
    """Tokens, millionths of a dollar, milliseconds."""

    tokens: int = 0
    micro: int = 0
    ms: int = 0

    def plus(self, other: "Amount") -> "Amount":
        """Both together."""
        return Amount(self.tokens + other.tokens, self.micro + other.micro, self.ms + other.ms)

    def less(self, other: "Amount") -> "Amount":
        """What is left without ``other``, never below nothing."""
        return Amount(max(0, self.tokens - other.tokens), max(0, self.micro - other.micro), max(0, self.ms - other.ms))


class Limits(Struct, frozen=True):
    """What a scope may use a day; ``None``: as much as it likes."""

    tokens: int | None = None
    micro: int | None = None
    ms: int | None = None


class Purse(Struct, frozen=True):
    """What a scope has used of a day, and what its attempts in hand may still use."""

    spent: Amount = Amount()
    reserved: Amount = Amount()

    @property
    def taken(self) -> Amount:
        """Both together."""
        return self.spent.plus(self.reserved)


class Charge(Struct, frozen=True):
    """What an attempt may use, and whose purses it draws on; ``day`` counts days since 1970."""

    day: int
    by: str
    project: str
    need: Amount

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """Everyone whose purse it draws on."""
        return scopes_of(self.by, self.project)


class Lack(Struct, frozen=True):
    """Why a reservation does not fit: the purse, of what there is too little, how much is needed, left and allowed."""

    scope: BudgetScope
    name: str
    kind: str
    need: int
    left: int
    limit: int

    @property
    def never(self) -> bool:
        """Whether it would not fit on a day of which nothing was used, either."""
        return self.need > self.limit


class Ledger:
    """The purses of the days that count, and who draws on them.

    Attributes:
        limits: what each scope may use a day.
        purses: by day and scope; one that is not there is empty.
        open: attempts that have reserved something and not ended; ``presumed`` those whose use nobody knows.
    """

    def __init__(
        self,
        limits: Mapping[Scope, Limits] = {},
        purses: Mapping[tuple[int, Scope], Purse] = {},
        open_: Mapping[Attempt, Charge] = {},
        presumed: Mapping[Attempt, Charge] = {},
    ) -> None:
        self.limits, self.purses = dict(limits), dict(purses)
        self.open, self.presumed = dict(open_), dict(presumed)

    def lack(self, charge: Charge) -> Lack | None:
        """Why so much cannot be reserved now; ``None``: it can."""
        for scope in charge.scopes:
            if (limits := self.limits.get(scope)) is None:
                continue
            taken = self.purse(charge.day, scope).taken
            for kind in KINDS:
                limit, need = getattr(limits, kind), getattr(charge.need, kind)
                if limit is not None and need and getattr(taken, kind) + need > limit:
                    return Lack(*scope, kind, need, max(0, limit - getattr(taken, kind)), limit)
        return None

    def reserve(self, attempt: Attempt, charge: Charge) -> Lack | None:
        """Set aside what an attempt may use, in all of its purses; or nothing, and why."""
        if attempt in self.open:
            return None
        if (lack := self.lack(charge)) is not None:
            return lack
        self.add(attempt, charge)
        return None

    def add(self, attempt: Attempt, charge: Charge) -> None:
        """An attempt has reserved so much, whatever the limits say by now."""
        self.open[attempt] = charge
        for scope in charge.scopes:
            purse = self.purse(charge.day, scope)
            self.purses[charge.day, scope] = Purse(purse.spent, purse.reserved.plus(charge.need))

    def settle(self, attempt: Attempt, used: Amount) -> Charge | None:
        """An attempt has ended and has used so much; what it had reserved. ``None``: it had nothing, or was settled."""
        if (charge := self.open.pop(attempt, None)) is not None:
            self._move(charge, reserved=charge.need, before=Amount(), used=used)
        elif (charge := self.presumed.pop(attempt, None)) is not None:
            self._move(charge, reserved=Amount(), before=charge.need, used=used)
        return charge

    def release(self, attempt: Attempt) -> Charge | None:
        """An attempt has ended without use."""
        return self.settle(attempt, Amount())

    def presume(self, attempt: Attempt) -> Charge | None:
        """An attempt has ended and nobody knows what it has used: all that it had reserved, until somebody tells."""
        if (charge := self.open.pop(attempt, None)) is not None:
            self.presumed[attempt] = charge
            self._move(charge, reserved=charge.need, before=Amount(), used=charge.need)
        return charge

    def tell(self, attempt: Attempt, used: Amount) -> Charge | None:
        """What an attempt has used that was only presumed to have used something: what counts for it from now on.

        It stays presumed: whoever goes on with its work counts all of it as their own, and then it is taken back.
        """
        if (charge := self.presumed.get(attempt)) is None:
            return None
        self._move(charge, reserved=Amount(), before=charge.need, used=used)
        self.presumed[attempt] = told = replace(charge, need=used)
        return told

    def purse(self, day: int, scope: Scope) -> Purse:
        """How a scope stands on a day."""
        return self.purses.get((day, scope), _EMPTY)

    def bounds(self, kind: str, scopes: tuple[Scope, ...]) -> bool:
        """Whether any of these scopes has a limit of this kind."""
        return any(getattr(self.limits[scope], kind) is not None for scope in scopes if scope in self.limits)

    def _move(self, charge: Charge, *, reserved: Amount, before: Amount, used: Amount) -> None:
        for scope in charge.scopes:
            purse = self.purse(charge.day, scope)
            spent = purse.spent.less(before).plus(used)
            self.purses[charge.day, scope] = Purse(spent, purse.reserved.less(reserved))


_EMPTY: Final = Purse()


def scopes_of(by: str, project: str) -> tuple[Scope, ...]:
    """Whose purses the work of a submitter in a project draws on."""
    found = (HUB, (BudgetScope.SUBMITTER, by))
    return (*found, (BudgetScope.PROJECT, project)) if project else found


def budget_id(scope: Scope) -> str:
    """How people name a budget: ``hub``, ``submitter:ID``, ``project:NAME``."""
    return f"{scope[0].value}:{scope[1]}" if scope[1] else scope[0].value


def scope_of(text: str) -> Scope | None:
    """The scope that people name so; ``None``: it is none."""
    kind, _, name = text.partition(":")
    if kind not in set(BudgetScope) or bool(name) == (kind == BudgetScope.HUB):
        return None
    return BudgetScope(kind), name


def micro(usd: float) -> int:
    """Dollars in millionths, rounded up: what was used never looks like less."""
    return math.ceil(round(usd * MICRO, 3))


def used_of(usage: Usage, reserved: Amount) -> Amount:
    """What an attempt has used; where nobody knows the price, all the money that it had reserved."""
    return Amount(
        tokens=usage.input_tokens + usage.output_tokens,
        micro=reserved.micro if usage.cost_usd is None else micro(usage.cost_usd),
        ms=math.ceil(usage.seconds * 1000),
    )


def amount_words(kind: str, amount: int) -> str:
    """So much of one kind, for people: ``$0.50``, ``1,200 tokens``, ``900 s``."""
    if kind == "micro":
        return f"${amount / MICRO:,.2f}" if amount % 10_000 == 0 else f"${amount / MICRO:,.6f}".rstrip("0")
    return f"{amount:,} tokens" if kind == "tokens" else f"{amount / 1000:,.0f} s"


def lack_words(lack: Lack, now_ms: int) -> tuple[str, tuple[str, ...]]:
    """Why work waits for a budget, in a sentence, and what would move it."""
    name = budget_id((lack.scope, lack.name))
    need, left = amount_words(lack.kind, lack.need), amount_words(lack.kind, lack.left)
    limit = amount_words(lack.kind, lack.limit)
    flag = {"tokens": "--tokens", "micro": "--usd", "ms": "--seconds"}[lack.kind]
    raised = f"raise the budget: agentcom budgets set {name} {flag} N"
    smaller = "submit it with a smaller budget of its own"
    if lack.never:
        said = f"it may use {need}, and the whole budget of {name} for a day is {limit}: it never fits"
        return said, (raised, smaller)
    said = f"the budget of {name} has {left} of {limit} left today, and it may use {need}"
    wait_s = (DAY_MS - now_ms % DAY_MS) // 1000
    when = f"at 00:00 UTC, in {wait_s // 3600}h{wait_s % 3600 // 60:02}m"
    return f"{said}; the next day begins {when}", (f"wait for the next day, {when}", raised, smaller)
