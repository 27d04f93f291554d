"""The promise of what is written for Prometheus: byte by byte what prometheus_client's own writers write."""

from math import inf, nan

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client import generate_latest as plain
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics

from hub.exposition import END, written

ODD = ("", "plain", 'a "quoted" one', "back\\slash", "two\nlines", "Caf\u00e9 \U0001f6f8", '{x="y"}', "a,b", "\x00")
NUMBERS = (0, 1, 7, True, False, -3, 0.1, 1e6, 1_234_567, 12345678.9, 2**53 + 1, 1e21, 1e-9, -1e300, inf, -inf, nan)


def counter() -> Metric:
    found = CounterMetricFamily("x_seen", 'Of "these",\nor \\ those', labels=["kind", "also"])
    for text in ODD:
        found.add_metric([text, text[::-1]], len(text))
    return found


def gauge() -> Metric:
    found = GaugeMetricFamily("x_now_seconds", "Each number", labels=["z", "a"])
    for place, number in enumerate(NUMBERS):
        found.add_metric([str(place), "label"], number)
    return found


def histogram() -> Metric:
    found = HistogramMetricFamily("x_took_seconds", "How long", labels=["phase"])
    found.add_metric(["load"], [("0.001", 2), ("1", 3), ("+Inf", 4)], sum_value=12.5)
    found.add_metric(["run"], [("0.001", 0), ("1", 0), ("+Inf", 0)], sum_value=0)
    return found


def of(*metrics: Metric) -> CollectorRegistry:
    class Collector:
        def collect(self) -> tuple[Metric, ...]:
            return metrics

    registry = CollectorRegistry()
    registry.register(Collector())  # type: ignore[arg-type]  # as far as a registry asks it
    return registry


@pytest.mark.parametrize(
    "metrics",
    [
        [counter()],
        [gauge()],
        [histogram()],
        [
            GaugeMetricFamily("x_alone", "Without labels", 4.5),
            CounterMetricFamily("x_none", "Nothing yet", labels=["a"]),
        ],
        [counter(), gauge(), histogram()],
        [],
    ],
)
def test_it_is_what_the_library_writes_in_both_forms(metrics: list[Metric]) -> None:
    registry = of(*metrics)

    assert written(registry.collect(), is_open=False) == plain(registry)
    assert written(registry.collect(), is_open=True) + END == open_metrics(registry)
