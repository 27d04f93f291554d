from hypothesis import given
from hypothesis import strategies as st

from hub.core.buckets import CALM_S, LONGEST_WAIT_S, Bucket, Limit

TEN = Limit(per_s=10.0, burst=5)


def asked(bucket: Bucket, limit: Limit, at: float, times: int) -> list[float]:
    return [bucket.ask(limit, at) for _ in range(times)]


def test_a_burst_passes_and_then_one_for_each_interval() -> None:
    bucket = Bucket()

    assert asked(bucket, TEN, 100.0, 5) == [0.0] * 5
    assert bucket.ask(TEN, 100.0) == 1.0
    assert asked(bucket, TEN, 101.0, 6)[:5] == [0.0] * 5


def test_a_steady_caller_within_its_rate_is_never_refused() -> None:
    bucket = Bucket()

    assert not any(bucket.ask(TEN, number * 0.1) for number in range(10_000))
    assert (bucket.refused, bucket.strikes) == (0, 0)


def test_who_does_not_wait_waits_twice_as_long_each_time_and_at_most_so_long() -> None:
    bucket, slow = Bucket(), Limit(0.5, 1)
    asked(bucket, slow, 0.0, 1)
    now, waits = 0.0, []
    for _ in range(12):
        waits.append(bucket.ask(slow, now))
        now += max(1.0, waits[-1] - 0.5)

    assert waits[:6] == [2.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert waits[-1] == LONGEST_WAIT_S
    assert bucket.strikes >= 8


def test_who_waits_as_told_is_let_in_and_forgiven_later() -> None:
    bucket = Bucket()
    asked(bucket, Limit(0.25, 1), 0.0, 2)
    first = bucket.ask(Limit(0.25, 1), 2.0)

    assert first >= 2.0
    assert bucket.ask(Limit(0.25, 1), 2.0 + first) == 0.0
    later = 10.0 + CALM_S + first
    asked(bucket, Limit(0.25, 1), later, 2)
    assert bucket.strikes == 0


def test_what_is_given_back_may_be_asked_again() -> None:
    bucket = Bucket()
    asked(bucket, TEN, 100.0, 5)
    bucket.give_back(TEN)

    assert asked(bucket, TEN, 100.0, 2) == [0.0, 1.0]


def test_what_was_on_its_way_when_it_was_refused_is_no_strike() -> None:
    bucket = Bucket()

    refused = [wait for wait in asked(bucket, TEN, 0.0, 500) if wait]

    assert len(refused) == 495
    assert (set(refused), bucket.strikes, bucket.refused) == ({1.0}, 0, 495)


def test_a_lowered_limit_counts_at_once_and_a_forgiven_caller_begins_anew() -> None:
    bucket = Bucket()
    asked(bucket, Limit(1.0, 1_000), 0.0, 900)

    assert bucket.ask(Limit(1.0, 2), 0.0) >= 1.0
    bucket.forgive()
    assert bucket.ask(Limit(1.0, 2), 0.0) == 0.0


@given(st.lists(st.floats(0, 5), min_size=1, max_size=200), st.floats(0.1, 100), st.integers(1, 50))
def test_nobody_ever_gets_more_than_burst_and_rate(gaps: list[float], per_s: float, burst: int) -> None:
    bucket, limit, now, passed = Bucket(), Limit(per_s, burst), 0.0, 0
    for gap in gaps:
        now += gap
        passed += bucket.ask(limit, now) == 0.0
        assert passed <= burst + per_s * now + 1e-6


@given(st.lists(st.floats(0, 400), min_size=1, max_size=100))
def test_every_wait_that_is_told_is_long_enough_and_ends(gaps: list[float]) -> None:
    bucket, limit, now = Bucket(), Limit(0.5, 2), 0.0
    for gap in gaps:
        now += gap
        wait_s = bucket.ask(limit, now)
        assert 0.0 <= wait_s <= LONGEST_WAIT_S
        if wait_s:
            assert bucket.ask(limit, now + wait_s + 1e-6) == 0.0
            now += wait_s + 1e-6


@given(st.lists(st.tuples(st.floats(0.0, 2.0), st.integers(1, 8)), max_size=12))
def test_requests_that_come_together_count_as_those_that_come_one_by_one(rounds: list[tuple[float, int]]) -> None:
    together, one_by_one, now = Bucket(), Bucket(), 0.0
    for after_s, count in rounds:
        now += after_s
        is_all = together.ask_all(TEN, now, count)
        if not is_all:
            asked(together, TEN, now, count)
        waits = asked(one_by_one, TEN, now, count)

        assert is_all <= (not any(waits))
        assert abs(together.wait_s(now) - one_by_one.wait_s(now)) < 1e-6
