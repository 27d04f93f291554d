"""Shapes of ``/api/v1/budgets``: how much may be used a day, by everybody, by one submitter, or in one project.

A budget is named by what it bounds: ``hub``, ``submitter:TOKEN_ID`` or ``project:NAME``. A day is one of UTC.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final

from msgspec import Struct

from protocol.bounds import Measure, Whole

MAX_TOKENS: Final = 10**15
MAX_USD: Final = 10.0**9
MAX_SECONDS: Final = 10.0**12


class BudgetScope(StrEnum):
    """Whose work a budget bounds."""

    HUB = "hub"
    SUBMITTER = "submitter"
    PROJECT = "project"


class BudgetBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``PUT /budgets/{id}``: what may be used a day; what is left out has no limit, and one has to be named."""

    tokens: Whole | None = None
    usd: Measure | None = None
    seconds: Measure | None = None


class BudgetAmount(Struct, frozen=True, kw_only=True):
    """Tokens, money and time of attempts."""

    tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0


class BudgetView(Struct, kw_only=True):
    """A budget and how it stands today; ``left`` is what new attempts may reserve, ``None`` where there is no limit."""

    id: str
    scope: BudgetScope
    name: str
    limit: BudgetBody
    spent: BudgetAmount
    reserved: BudgetAmount
    """What attempts in hand may still use."""
    left: BudgetBody
    resets_at: datetime
    """When the next day begins, and all of it is there again."""
    changed_at: datetime
    changed_by: str


class BudgetList(Struct, kw_only=True):
    """All budgets, by id."""

    budgets: tuple[BudgetView, ...]
    next_cursor: str | None = None
