"""When the event loop may wait for the disk itself, and how long a thread asks for a file that is held."""

import pytest

from hub.store.pace import AMONG, QUICK_S, UNKNOWN_S, Pace, Patience


def taken(pace: Pace, seconds: float, times: int = 1) -> Pace:
    for _ in range(times):
        pace.took(seconds)
    return pace


def batches_until_quick(pace: Pace, seconds: float) -> int:
    batches = 0
    while not pace.is_quick:
        pace.took(seconds)
        batches += 1
    return batches


def test_a_disk_that_nobody_knows_is_not_quick_until_two_dozen_batches_show_it() -> None:
    assert UNKNOWN_S > QUICK_S
    assert not Pace().is_quick
    assert 18 <= batches_until_quick(Pace(), 0.000_1) <= 30


def test_one_batch_of_some_milliseconds_among_quick_ones_changes_nothing() -> None:
    pace = taken(Pace(), 0.000_3, 200)

    assert taken(pace, 0.010).is_quick


def test_a_disk_that_stops_once_is_known_again_by_its_next_batches() -> None:
    pace = taken(taken(Pace(), 0.000_3, 200), 1.0)

    assert not pace.is_quick
    assert AMONG < batches_until_quick(pace, 0.000_3) < 50


def test_it_does_not_matter_for_how_long_it_has_stopped() -> None:
    waits = [batches_until_quick(taken(taken(Pace(), 0.000_3, 200), seconds), 0.000_3) for seconds in (0.25, 30.0)]

    assert waits[0] == waits[1]


def test_a_disk_that_has_turned_slow_is_found_out_by_a_batch_or_two() -> None:
    assert not taken(taken(Pace(), 0.000_3, 200), 0.020, 2).is_quick


@pytest.mark.parametrize("around, is_quick", [(0.9, True), (1.1, False)])
def test_it_is_the_average_that_counts(around: float, is_quick: bool) -> None:
    pace = Pace()
    for _ in range(500):
        taken(taken(pace, QUICK_S * (around - 0.02)), QUICK_S * (around + 0.02))

    assert pace.is_quick is is_quick


def test_the_last_batch_is_a_sixteenth_of_the_average_and_one_from_as_many_before_a_third_of_that() -> None:
    one_late, one_early = Pace(0.001), Pace(0.001)
    taken(taken(one_late, 0.0, 500), 0.015_9)
    taken(taken(taken(one_early, 0.0, 500), 0.044_9), 0.0, AMONG)

    assert one_late.is_quick
    assert one_early.is_quick
    assert not taken(taken(Pace(0.001), 0.0, 500), 0.016_1).is_quick
    assert not taken(taken(taken(Pace(0.001), 0.0, 500), 0.045_1), 0.0, AMONG).is_quick


def test_a_file_that_is_held_is_asked_for_until_the_time_is_over() -> None:
    patient, impatient = Patience(60.0), Patience(0.0)
    hurried = Patience(60.0)
    hurried.may_wait = False

    assert [patient(0), patient(1)] == [True, True]
    assert not impatient(0)
    assert not hurried(0)
