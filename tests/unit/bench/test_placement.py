"""The table of placements: the worst draw counts, and the middle one stands beside it."""

from tests.bench.placement import Figure, worst_and_middle


def test_the_worst_of_several_draws_is_judged() -> None:
    draws = [{"p99": Figure(value, 1.0), "bound": Figure(2 - value, 1.15)} for value in (0.9, 1.04, 0.7)]

    worst, middle = worst_and_middle(draws)

    assert (str(worst["p99"]), str(middle["p99"])) == ("1.04!", "0.90")
    assert (str(worst["bound"]), str(middle["bound"])) == ("1.30!", "1.10")
    assert worst_and_middle(draws[:1]) == (draws[0], draws[0])
