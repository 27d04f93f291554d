"""Read the text that Prometheus reads: what the hub counted, as plain numbers. Pure."""

import re
from collections.abc import Mapping
from typing import Final

_SAMPLE: Final = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})? (\S+)$")
_LABEL: Final = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="([^"]*)"')

Samples = Mapping[tuple[str, str], float]
"""Values by name and label value (of the one label that our metrics have; empty without one)."""


def samples(text: str) -> Samples:
    """Every sample of an exposition; lines that are none are left out."""
    found: dict[tuple[str, str], float] = {}
    for line in text.splitlines():
        if match := _SAMPLE.match(line):
            name, labels, value = match.groups()
            label = _LABEL.search(labels or "")
            found[name, label[2] if label else ""] = float(value)
    return found


def grown(before: Samples, after: Samples, name: str, label: str = "") -> float:
    """By how much a counter has grown; one that was not there began at 0."""
    return after.get((name, label), 0.0) - before.get((name, label), 0.0)


def by_label(before: Samples, after: Samples, name: str) -> dict[str, float]:
    """By how much each label of a counter has grown, without those that have not."""
    labels = [label for known, label in after if known == name]
    return {label: more for label in labels if (more := grown(before, after, name, label))}
