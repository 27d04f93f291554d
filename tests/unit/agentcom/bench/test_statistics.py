import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.bench.statistics import due_times, quantiles, spread, spreads, us_each, waits_ms


def test_a_spread_holds_the_median_and_how_far_the_runs_lie_apart() -> None:
    found = spread([3.0, 1.0, 2.0, 10.0])

    assert (found.min, found.median, found.max, found.runs) == (1.0, 2.5, 10.0, 4)


def test_no_values_have_no_spread_and_no_quantiles() -> None:
    with pytest.raises(ValueError, match="no values"):
        spread([])
    with pytest.raises(ValueError, match="no values"):
        quantiles([])


def test_quantiles_are_nearest_ranks() -> None:
    found = quantiles(float(number) for number in range(1, 201))

    assert (found.p50, found.p95, found.p99, found.max, found.count) == (100.0, 190.0, 198.0, 200.0, 200)


@given(st.lists(st.integers(0, 10**6).map(float), min_size=1))
def test_quantiles_are_values_that_were_measured_in_their_order(values: list[float]) -> None:
    found = quantiles(values)

    assert {found.p50, found.p95, found.p99, found.max} <= set(values)
    assert found.p50 <= found.p95 <= found.p99 <= found.max == max(values)
    assert sum(value <= found.p99 for value in values) * 100 >= 99 * len(values)


def test_due_times_do_not_depend_on_what_was_sent() -> None:
    assert due_times(100.0, 4.0, 3) == [100.0, 100.25, 100.5]


@pytest.mark.parametrize("per_s", [0.0, -1.0])
def test_nothing_is_due_at_no_rate(per_s: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        due_times(0.0, per_s, 1)


def test_a_stall_shows_in_every_wait_that_it_delayed() -> None:
    # Due once a second; the system stood still from 0 to 3 and then did all at once.
    due = dict(zip("abcd", due_times(0.0, 1.0, 4), strict=True))

    assert waits_ms(due, dict.fromkeys("abcd", 3.0)) == [3000.0, 2000.0, 1000.0, 0.0]


def test_a_wait_without_an_end_is_not_left_out() -> None:
    with pytest.raises(KeyError):
        waits_ms({"a": 0.0, "b": 0.0}, {"a": 1.0})


def test_cost_is_shared_among_the_pieces_by_who_paid() -> None:
    assert us_each({"hub": 1.0}, {"hub": 1.5, "sidecars": 0.1}, 1_000) == {"hub": 500.0, "sidecars": 100.0}
    with pytest.raises(ValueError, match="0 pieces"):
        us_each({}, {}, 0)


def test_runs_are_spread_name_by_name() -> None:
    found = spreads([{"hub": 1.0, "x": 2.0}, {"hub": 3.0, "x": 2.0}])

    assert (found["hub"].median, found["x"].max) == (2.0, 2.0)
    assert spreads([]) == {}
