from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from agentcom.bench.exposition import by_label, grown, samples


def exposed() -> tuple[CollectorRegistry, Counter, Gauge]:
    registry = CollectorRegistry()
    ended = Counter("ended", "Ended, by state", ["state"], registry=registry)
    return registry, ended, Gauge("open", "Open", registry=registry)


def test_what_prometheus_writes_is_read() -> None:
    registry, ended, gauge = exposed()
    ended.labels("done").inc(3)
    gauge.set(1.5e9)

    found = samples(generate_latest(registry).decode())

    assert found["ended_total", "done"] == 3.0
    assert found["open", ""] == 1.5e9


def test_what_is_no_sample_is_left_out() -> None:
    assert samples("# HELP x y\n\nnonsense\nx{ 1\n") == {}


def test_a_counter_that_was_not_there_began_at_nothing() -> None:
    before, after = samples("b 2\n"), samples('a{of="x"} 3\nb 5\n')

    assert (grown(before, after, "a", "x"), grown(before, after, "b"), grown(before, after, "c")) == (3.0, 3.0, 0.0)


def test_labels_that_have_not_grown_are_left_out() -> None:
    before, after = samples('a{of="x"} 1\na{of="y"} 1\n'), samples('a{of="x"} 1\na{of="y"} 4\na{of="z"} 1\n')

    assert by_label(before, after, "a") == {"y": 3.0, "z": 1.0}
