"""How many tasks each choice of a filter would show.

Pure: takes counts of tasks that are alike in all that can be chosen (``Store.facets``), returns counts by choice. A
choice counts what fits all *other* filters, so a reader sees what choosing it would bring; the total fits all.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from protocol.api import TaskFacets

MOST_CHOICES: Final = 200
"""Choices told of one kind, the most frequent; a fleet may have more agents than anybody reads."""
KINDS: Final = ("state", "priority", "tier", "agent", "model")


class Alike(Struct, frozen=True):
    """So many tasks are alike in all of this; empty where a task has none (no agent yet, no model asked)."""

    state: str
    priority: str
    tier: str
    agent: str
    model: str
    tasks: int


def count(groups: Iterable[Alike], chosen: Mapping[str, frozenset[str]]) -> TaskFacets:
    """The counts of ``groups`` under the filters ``chosen``: by kind the values that fit; without any it is no filter.

    Choices come by their counts, the most frequent first, of equal ones by name.
    """
    total = 0
    found: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
    for group in groups:
        against = [kind for kind, fits in chosen.items() if fits and getattr(group, kind) not in fits]
        if not against:
            total += group.tasks
        for kind in KINDS:
            value = getattr(group, kind)
            if value and (not against or against == [kind]):
                found[kind][value] = found[kind].get(value, 0) + group.tasks
    return TaskFacets(facets={kind: _most(counts) for kind, counts in found.items()}, total=total)


def labels(sets: Iterable[tuple[Mapping[str, str], int]]) -> dict[str, int]:
    """Counts by label, as ``key:value``, of sets of labels and how many tasks have each."""
    found: dict[str, int] = {}
    for each, tasks in sets:
        for name, value in each.items():
            label = f"{name}:{value}"
            found[label] = found.get(label, 0) + tasks
    return _most(found)


def _most(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:MOST_CHOICES])
