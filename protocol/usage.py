"""Shapes of ``GET /api/v1/usage``: what attempts have used of models, over time, by whom or what."""

from enum import StrEnum

from msgspec import Struct


class UsageBy(StrEnum):
    """What use is told apart by."""

    MODEL = "model"
    SUBMITTER = "submitter"
    PROJECT = "project"
    LABEL = "label"


class UsageGroup(Struct, kw_only=True):
    """What one of them has used.

    ``points``: beginning of a step (Unix seconds), dollars, tokens; steps without any are left out. Money is of
    attempts whose price is known; of ``unpriced`` attempts it is not.
    """

    name: str
    attempts: int
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    cost_usd: float
    unpriced: int
    seconds: float
    points: tuple[tuple[int, float, int], ...] = ()


class UsageList(Struct, kw_only=True):
    """Use by whom or what, the most expensive first; an attempt with several labels counts under each."""

    by: UsageBy
    step_s: int
    groups: tuple[UsageGroup, ...]
