"""What an attempt may use, before it is granted, and whose purses it draws on.

What the task says itself counts. Where it says nothing and a budget bounds that kind of use, an allowance of the hub's
settings counts instead, and the attempt is held to it like to a limit of its own: otherwise one attempt would have to
reserve all that is left. Pure; callers: ``hub/services/dispatch.py``, ``hub/services/budgets.py``.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from hub.core.budgets import (
    DAY_MS,
    MICRO,
    Amount,
    Attempt,
    Charge,
    Lack,
    Ledger,
    Limits,
    Purse,
    Scope,
    micro,
    scopes_of,
    used_of,
)
from hub.core.routing import Allowance, Cap, Requirements, Way, asks_models
from protocol.model import Budget, Strategy, TaskSpec, Usage
from protocol.prices import Prices

_PLAIN: Final = Budget()
PLAIN_CAP: Final[Cap] = (_PLAIN.tokens, None, int(_PLAIN.seconds * 1000))


@dataclass(frozen=True, slots=True)
class Allowances:
    """What an attempt may use whose task names no limit, where a budget bounds it."""

    tokens: int = 200_000
    usd: float = 1.0


MAX_SPENT: Final = 10_000
"""Tasks of which it is remembered what they have used of their own money; the store knows of all."""
PLANNED: Final = 0
"""Epoch under which an attempt reserves until its claim is stored."""


class Charging:
    """The ledger as the scheduler sees it, ahead of the store, which decides.

    Attributes:
        ledger: the purses as they will be once all that is planned is stored.
        was_short: something did not fit since the store was last looked at.
        is_stale: the store has refused what fits here: nothing more is granted before somebody has looked.
        on_stale: hears of that.
        prices: of models, as the hub's settings tell them.
    """

    def __init__(
        self,
        allowances: Allowances = Allowances(),
        on_stale: Callable[[], None] = lambda: None,
        prices: Prices | None = None,
    ) -> None:
        self._allowances, self.on_stale = allowances, on_stale
        self.prices = prices or Prices()
        self.ledger = Ledger()
        self.was_short = self.is_stale = False
        self._spent: dict[str, int] = {}  # by tasks that may be tried again, of their own money

    @property
    def is_on(self) -> bool:
        """Whether anything has a budget; without one nothing is reserved."""
        return bool(self.ledger.limits)

    def charge(
        self, requirements: Requirements, way: Way, now_ms: int, task: str = ""
    ) -> tuple[Charge, Allowance | None]:
        """What an attempt would reserve, and what it is held to beside its task's own limits."""
        scopes = scopes_of(requirements.by, requirements.project)
        tokens, own_micro, ms = requirements.cap or PLAIN_CAP
        is_asking = asks_models(requirements.executor, requirements.needs)
        if way.strategy is Strategy.TRIVIAL and not is_asking:
            tokens, own_micro = 0, 0
        elif way.strategy is Strategy.LOCAL_LLM and self.prices.of(way.model, is_local=True) is None:
            own_micro = 0
        elif own_micro is not None:
            own_micro = max(0, own_micro - self._spent.get(task, 0))
        allowed: Allowance | None = None
        if tokens is None and self.ledger.bounds("tokens", scopes):
            tokens = self._allowances.tokens
            allowed = Allowance(tokens=tokens)
        if own_micro is None and self.ledger.bounds("micro", scopes):
            own_micro = micro(self._allowances.usd)
            allowed = replace(allowed or Allowance(), usd=own_micro / MICRO)
        need = Amount(tokens or 0, own_micro or 0, ms)
        return Charge(now_ms // DAY_MS, requirements.by, requirements.project, need), allowed

    def plan(self, task: str, charge: Charge) -> None:
        """A claim is on its way to the store."""
        self.ledger.reserve((task, PLANNED), charge)

    def drop(self, task: str) -> None:
        """The store has refused it."""
        self.ledger.release((task, PLANNED))

    def grant(self, task: str, epoch: int) -> None:
        """It is stored."""
        if (charge := self.ledger.open.pop((task, PLANNED), None)) is not None:
            self.ledger.open[task, epoch] = charge

    def use(self, task: str, epoch: int, usage: Usage) -> None:
        """An attempt has ended, and says what it has used."""
        if (charge := self.ledger.open.get((task, epoch))) is not None:
            used = used_of(usage, charge.need)
            self.ledger.settle((task, epoch), used)
            if used.micro:
                self._spent[task] = self._spent.pop(task, 0) + used.micro
                if len(self._spent) > MAX_SPENT:
                    del self._spent[next(iter(self._spent))]

    def refuse(self) -> None:
        """The store has refused a reservation that fits here: another hub has used what this one counted on."""
        self.was_short = self.is_stale = True
        self.on_stale()

    def lack(self, requirements: Requirements, way: Way, now_ms: int, task: str = "") -> Lack | None:
        """Why an attempt may not begin now; ``None``: budgets allow it."""
        return self.ledger.lack(self.charge(requirements, way, now_ms, task)[0])

    def may_spend(self, requirements: Requirements, way: Way, now_ms: int, task: str = "") -> bool:
        """Whether an attempt may begin now."""
        if self.is_stale:
            return False
        is_short = self.lack(requirements, way, now_ms, task) is not None
        self.was_short = self.was_short or is_short
        return not is_short

    def load(
        self, limits: Mapping[Scope, Limits], day: int, purses: Mapping[Scope, Purse], held: AbstractSet[Attempt]
    ) -> None:
        """The store says how things stand on a day; ``held`` are the attempts that are still in hand.

        What is on its way to the store counts on top of that.
        """
        before = self.ledger.open
        now = Ledger(limits, {(day, scope): purse for scope, purse in purses.items()})
        for attempt, charge in before.items():
            if attempt[1] == PLANNED:
                now.add(attempt, charge)
            elif attempt in held:
                now.open[attempt] = charge
        self.ledger, self.was_short, self.is_stale = now, False, False


def granted(spec: TaskSpec, allowance: Allowance | None, spent_usd: float, carried_usd: float) -> Budget | None:
    """The budget that an attempt is sent, if it is not the task's own.

    Args:
        spec: the task.
        allowance: limits that come from budgets.
        spent_usd: what earlier attempts of the task have used of its own money.
        carried_usd: what its sidecar takes off by itself, for the attempts that this one goes on from.
    """
    own = spec.budget
    tokens = allowance.tokens if own.tokens is None and allowance is not None else own.tokens
    usd = own.usd
    if usd is not None and spent_usd:
        usd = max(0.0, usd - spent_usd) + carried_usd
    elif usd is None and allowance is not None and allowance.usd is not None:
        usd = allowance.usd + carried_usd
    found = replace(own, tokens=tokens, usd=usd)
    return None if found == own else found
