from hub.core.conduct import CALM_S, FREE, LONGEST_WAIT_S, Conduct


def test_a_few_violations_cost_only_the_connection_and_more_cost_longer_each_time() -> None:
    conduct = Conduct()
    waits = [conduct.violated(f"bad {number}", 100.0 + number) for number in range(12)]

    assert waits[:FREE] == [0.0] * FREE
    assert waits[FREE : FREE + 4] == [2.0, 4.0, 8.0, 16.0]
    assert waits[-1] == LONGEST_WAIT_S
    assert (conduct.count, conduct.last) == (12, "bad 11")


def test_it_comes_in_again_when_the_time_is_over() -> None:
    conduct = Conduct()
    for _ in range(FREE + 1):
        conduct.violated("bad", 50.0)

    assert conduct.wait_s(51.0) == 1.0
    assert conduct.wait_s(52.0) == 0.0


def test_who_has_kept_to_the_protocol_for_long_begins_anew() -> None:
    conduct = Conduct()
    for _ in range(FREE + 5):
        conduct.violated("bad", 0.0)

    assert conduct.violated("bad", CALM_S + 1.0) == 0.0
    assert conduct.count == 1
