"""What work has used of models, summed by whom or what, over time.

Pure: takes sums of attempts that are alike, as the store has them, and returns one group a name. The caller is
``hub/services/budgets.py``.
"""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from hub.core.budgets import MICRO
from protocol.usage import UsageBy, UsageGroup

MOST_GROUPS: Final = 100
"""Names that are told; of labels there may be as many as tasks."""


class Used(Struct, frozen=True, kw_only=True):
    """What attempts have used of models in one step of time, that are alike in all of this.

    ``unpriced``: attempts whose price nobody knows; ``micro`` is of the others.
    """

    at_ms: int
    model: str
    submitter: str
    project: str
    labels: dict[str, str]
    attempts: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    micro: int
    ms: int
    unpriced: int


def grouped(sums: Iterable[Used], by: UsageBy) -> tuple[UsageGroup, ...]:
    """One group a name, those that cost most first (then those with most tokens); the first hundred."""
    found: dict[str, list[Used]] = {}
    for each in sums:
        for name in _names(each, by):
            found.setdefault(name, []).append(each)
    groups = [_group(name, each) for name, each in found.items()]
    groups.sort(key=lambda one: (-one.cost_usd, -(one.input_tokens + one.output_tokens), one.name))
    return tuple(groups[:MOST_GROUPS])


def _names(one: Used, by: UsageBy) -> tuple[str, ...]:
    if by is UsageBy.LABEL:
        return tuple(f"{name}:{value}" for name, value in one.labels.items())
    return (getattr(one, by.value),)


def _group(name: str, sums: list[Used]) -> UsageGroup:
    points: dict[int, tuple[int, int]] = {}
    for one in sums:
        micro, tokens = points.get(one.at_ms, (0, 0))
        points[one.at_ms] = (micro + one.micro, tokens + one.input_tokens + one.output_tokens)
    return UsageGroup(
        name=name,
        attempts=sum(one.attempts for one in sums),
        input_tokens=sum(one.input_tokens for one in sums),
        output_tokens=sum(one.output_tokens for one in sums),
        cached_input_tokens=sum(one.cached_tokens for one in sums),
        cost_usd=sum(one.micro for one in sums) / MICRO,
        unpriced=sum(one.unpriced for one in sums),
        seconds=sum(one.ms for one in sums) / 1000,
        points=tuple((at_ms // 1000, micro / MICRO, tokens) for at_ms, (micro, tokens) in sorted(points.items())),
    )
