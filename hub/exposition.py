"""Write metrics as Prometheus reads them, in its text format and in OpenMetrics.

The same bytes as prometheus_client's own writers, for counters, gauges and histograms without exemplars and timestamps,
which is all that a hub tells (a test compares them); they look at every character of every name again, which takes
longer than all else about a scrape. Caller: ``hub/metrics.py``.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.utils import floatToGoString

OPEN_METRICS: Final = "application/openmetrics-text"
END: Final = b"# EOF\n"
"""How an answer in OpenMetrics ends."""
_MOST_KNOWN: Final = 8_192
"""Sets of labels whose text is remembered."""


def written(metrics: Iterable[Metric], *, is_open: bool) -> bytes:
    """The metrics as text; ``is_open``: in OpenMetrics, without its :data:`END`."""
    lines: list[str] = []
    add = lines.append
    for metric in metrics:
        add(head(metric.name, metric.type, metric.documentation, is_open))
        for sample in metric.samples:
            labels = sample.labels
            told = _labels(tuple(labels.items())) if labels else ""
            value = floatToGoString(sample.value)  # type: ignore[no-untyped-call]  # the library has no types there
            add(f"{sample.name}{told} {value}\n")
    return "".join(lines).encode()


@lru_cache(512)
def head(name: str, kind: str, text: str, is_open: bool = True) -> str:  # noqa: FBT001, FBT002 - the key of a cache
    """What goes before the lines of a metric."""
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    if is_open:
        text = text.replace('"', r"\"")
    elif kind == "counter":
        name += "_total"  # the text format names what stands in each line, OpenMetrics the family
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


@lru_cache(_MOST_KNOWN)
def _labels(items: tuple[tuple[str, str], ...]) -> str:
    return "{" + ",".join(f'{name}="{told(value)}"' for name, value in sorted(items)) + "}"


def told(value: str) -> str:
    """A label's value as both formats want it."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
