"""What is asked of the store about budgets: keep one, forget one, settle what is known late.

Reservations are made by a claim and settled by the end of its attempt; what the verbs do is ``budget_verbs.py``.
"""

from typing import Protocol

from msgspec import Struct

from hub.core.budgets import Lack, Limits, Purse, Scope
from hub.core.usage import Used
from hub.core.window import Place
from protocol.events import Event
from protocol.model import Usage


class BudgetRow(Struct, frozen=True, kw_only=True):
    """A budget as it is kept."""

    scope: Scope
    limits: Limits
    changed_ms: int
    changed_by: str


class Sums(Protocol):
    """What a store can sum up; part of :class:`hub.store.store.Store`."""

    async def usage(self, since_ms: int, until_ms: int, step_ms: int) -> list[Used]:
        """What attempts have used of models, in steps of time."""
        ...


class PutBudget(Struct, frozen=True):
    """Keep a budget, new or changed. Outcome: ``None``."""

    budget: BudgetRow
    event: Event


class RemoveBudget(Struct, frozen=True):
    """Forget a budget. Outcome: ``None``, or NotFound."""

    scope: Scope
    event: Event


class Settle(Struct, frozen=True, kw_only=True):
    """An attempt that was taken for lost, or was cancelled, tells what it has used. Outcome: ``None``.

    ``is_inherited``: another attempt goes on with its work and will report all of it as its own: nothing is left here,
    whatever was told before and is told later.
    """

    task: str
    epoch: int
    usage: Usage
    is_inherited: bool = False


class Unfunded(Struct, frozen=True, kw_only=True):
    """A claim whose reservation does not fit; the task is still queued, in ``class_text`` at ``place``."""

    class_text: str
    place: Place
    lack: Lack


class Spent(Struct, frozen=True, kw_only=True):
    """A claim of a task whose own money is spent: it has failed instead."""

    reason: str


class Purses(Struct, frozen=True, kw_only=True):
    """All budgets, and the purses of a day."""

    budgets: tuple[BudgetRow, ...] = ()
    day: int = 0
    purses: dict[Scope, Purse] = {}
