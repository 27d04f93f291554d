"""When the event loop may wait for the disk itself, and how long a thread asks for a file that is held."""

from hub.store.pace import QUICK_S, TRIAL, Pace, Patience


def test_a_disk_that_nobody_knows_is_on_trial() -> None:
    pace = Pace()
    seen = [pace.is_quick]
    for _ in range(TRIAL):
        pace.took(QUICK_S)
        seen.append(pace.is_quick)

    assert seen == [False] * TRIAL + [True]


def test_one_slow_batch_puts_it_on_trial_again() -> None:
    pace = Pace(0.5, trial=2)
    for seconds in (0.1, 0.1, 0.6, 0.1):
        pace.took(seconds)
    in_trial = pace.is_quick
    pace.took(0.5)

    assert not in_trial
    assert pace.is_quick


def test_a_file_that_is_held_is_asked_for_until_the_time_is_over() -> None:
    patient, impatient = Patience(60.0), Patience(0.0)
    hurried = Patience(60.0)
    hurried.may_wait = False

    assert [patient(0), patient(1)] == [True, True]
    assert not impatient(0)
    assert not hurried(0)
