"""One thread that does its jobs in order."""

import threading
import weakref
from functools import partial

import pytest

from hub.store.hand import Hand


def test_jobs_of_both_kinds_are_done_in_the_order_they_came() -> None:
    hand, done = Hand("hand"), list[str]()
    first = hand.submit(done.append, "waited for")
    hand.post(lambda: done.append(threading.current_thread().name))
    last = hand.submit(len, "four")

    assert (first.result(10), last.result(10)) == (None, 4)
    assert done == ["waited for", "hand"]
    hand.shutdown()


def test_what_a_job_raises_goes_to_whoever_waits_and_stops_no_other() -> None:
    hand = Hand("hand")
    failed = hand.submit(int, "no number")
    hand.post(lambda: int("no number"))

    with pytest.raises(ValueError, match="no number"):
        failed.result(10)
    assert hand.submit(int, "4").result(10) == 4
    hand.shutdown()


def test_a_job_that_nobody_waits_for_any_more_is_not_begun() -> None:
    hand, gate, done = Hand("hand"), threading.Event(), list[int]()
    hand.post(gate.wait)
    waiting = hand.submit(done.append, 1)
    is_cancelled = waiting.cancel()
    gate.set()

    assert is_cancelled
    assert hand.submit(len, "four").result(10) == 4
    assert done == []
    hand.shutdown()


def test_what_was_taken_is_done_before_it_ends_and_nothing_after_that() -> None:
    hand, done = Hand("hand"), list[int]()
    for number in range(100):
        hand.post(lambda number=number: done.append(number))
    hand.shutdown()
    hand.shutdown()

    assert done == list(range(100))
    with pytest.raises(RuntimeError, match="takes no more jobs"):
        hand.post(lambda: done.append(100))


def test_one_that_never_had_a_job_ends() -> None:
    Hand("hand").shutdown()


class Page:
    """What somebody has read, or wants written."""


def test_what_a_job_was_about_goes_when_the_job_is_done_and_not_when_the_next_one_comes() -> None:
    hand, gone = Hand("hand"), threading.Event()
    weakref.finalize(page := Page(), gone.set)
    hand.post(partial(id, page))
    del page

    assert gone.wait(10)
    hand.shutdown()


def test_a_machine_that_has_no_thread_left_says_so_and_the_next_job_tries_again() -> None:
    hand, done = Hand("hand"), list[int]()
    usual = threading.stack_size(1 << 60)  # more than any machine has addresses for
    try:
        with pytest.raises(RuntimeError, match="thread"):
            hand.post(lambda: done.append(1))
    finally:
        threading.stack_size(usual)

    assert hand.submit(len, "four").result(10) == 4
    assert done == []
    hand.shutdown()


def test_it_is_idle_when_all_it_was_given_is_done() -> None:
    hand, gate = Hand("hand"), threading.Event()
    seen = [hand.is_idle]
    hand.post(gate.wait)
    last = hand.submit(len, "four")
    seen.append(hand.is_idle)
    gate.set()
    last.result(10)
    hand.shutdown()

    assert (seen, hand.is_idle) == ([True, False], True)


def test_a_job_that_fails_is_done_too() -> None:
    hand = Hand("hand")
    hand.post(lambda: int("no number"))
    hand.shutdown()

    assert hand.is_idle
