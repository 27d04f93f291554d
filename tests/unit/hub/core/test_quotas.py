"""Promises of :mod:`hub.core.quotas`."""

from typing import Final

import pytest

from hub.core.quotas import Quota, Quotas

BOX: Final = ("", "box")


def test_an_endpoint_without_a_quota_is_never_waited_for() -> None:
    quotas = Quotas()
    for task in range(1_000):
        quotas.take(BOX, str(task), 10_000)

    assert quotas.wait(BOX, Quota(), 10_000, 0.0) == (0.0, "")
    assert not quotas.was_short


def test_requests_of_a_minute_are_given_out_and_come_back_as_they_leave_the_window() -> None:
    quotas, quota = Quotas(), Quota(rpm=2)
    for number, at in enumerate((10.0, 25.0)):
        assert quotas.wait(BOX, quota, 0, at) == (0.0, "")
        quotas.take(BOX, str(number), 0)
        quotas.drop(BOX, str(number))
        quotas.used(BOX, 1, 0, 1.0, at)

    assert quotas.wait(BOX, quota, 0, 30.0) == (40.0, "its quota of 2 requests a minute is used")
    assert quotas.was_short
    assert quotas.wait(BOX, quota, 0, 70.0) == (0.0, "")
    assert quotas.wait(("", "other"), quota, 0, 30.0) == (0.0, "")


def test_an_attempt_in_hand_counts_before_it_has_said_anything() -> None:
    quotas, quota = Quotas(), Quota(tpm=1_000)
    quotas.take(BOX, "t", 700)

    wait_s, why = quotas.wait(BOX, quota, 400, 0.0)
    assert (wait_s, why) == (1.0, "its quota of 1,000 tokens a minute is used")
    assert quotas.wait(BOX, quota, 300, 0.0) == (0.0, "")
    quotas.drop(BOX, "t")
    assert quotas.wait(BOX, quota, 400, 0.0) == (0.0, "")


def test_an_attempt_larger_than_the_quota_goes_when_nothing_else_is_in_the_window() -> None:
    quotas, quota = Quotas(), Quota(tpm=100)

    assert quotas.wait(BOX, quota, 5_000, 0.0) == (0.0, "")
    quotas.used(BOX, 1, 10, 1.0, 0.0)
    assert quotas.wait(BOX, quota, 5_000, 1.0)[0] == pytest.approx(59.0)
    assert quotas.wait(BOX, quota, 5_000, 60.0) == (0.0, "")


def test_of_a_long_attempt_only_its_last_minute_counts_and_such_attempts_are_expected() -> None:
    quotas, quota = Quotas(), Quota(rpm=10)
    quotas.used(BOX, 40, 0, 600.0, 0.0)  # four a minute

    quotas.take(BOX, "t", 0)
    assert quotas.wait(BOX, quota, 0, 1.0)[1]  # 4 gone by, 4 in hand, 4 more
    assert quotas.wait(BOX, quota, 0, 60.0) == (0.0, "")
