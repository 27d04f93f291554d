"""The promise: nothing is done for an attempt of which the hub may not have heard for a lease."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.limits import LEASE_MARGIN_S
from protocol.model import AttemptId
from sidecar.core.attempt import kill_at, stop_at
from sidecar.errors import LeaseOver
from sidecar.leases import NEVER, Leases

ONE, TWO = (AttemptId("a", 1, task, 1) for task in ("t", "u"))


class Hand:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def leases(clock: Hand) -> Leases:
    made = Leases(clock)
    made.lease_s = 30.0
    made.proven(clock.at)
    return made


def test_work_may_go_on_for_a_lease_less_the_margin_after_what_was_proven(clock: Hand, leases: Leases) -> None:
    leases.take(ONE)
    clock.at += 30.0 - LEASE_MARGIN_S - 0.1
    leases.check(ONE)
    assert leases.are_live
    clock.at += 0.2

    assert leases.is_over(ONE)
    assert not leases.are_live
    with pytest.raises(LeaseOver, match="the lease of attempt 1 may be over, so it was stopped"):
        leases.check(ONE)


def test_a_heartbeat_that_was_on_its_way_when_the_assignment_came_proves_nothing_for_it(
    clock: Hand, leases: Leases
) -> None:
    sent_at = clock.at + 20.0
    clock.at += 21.0
    leases.take(ONE)  # the heartbeat of second 20 does not name it
    leases.proven(sent_at)
    leases.take(TWO)  # the answer was here already: the hub granted this one later
    clock.at += 4.5

    assert leases.is_over(ONE)
    assert not leases.is_over(TWO)
    leases.proven(clock.at)
    assert not leases.is_over(ONE)


def test_proof_never_goes_back(clock: Hand, leases: Leases) -> None:
    leases.proven(clock.at - 100.0)

    assert leases.proven_at == clock.at


def test_who_is_told_hears_when_the_first_of_them_has_to_be_killed(clock: Hand, leases: Leases) -> None:
    told: list[float] = []
    leases.on_change = told.append
    leases.take(ONE)
    clock.at += 10.0
    leases.proven(clock.at)
    leases.drop(ONE)
    leases.drop(ONE)  # once more is nothing new

    assert told == [27.5, 27.5, NEVER]


def test_what_is_not_in_work_is_nobodys_business(clock: Hand, leases: Leases) -> None:
    leases.take(ONE)
    leases.drop(ONE)
    clock.at += 1_000.0

    leases.check(ONE)  # tidying up after it


@given(st.floats(0, 1e6), st.floats(0.1, 1e4))
def test_the_sidecar_stops_first_then_it_is_killed_then_the_lease_ends(proven_at: float, lease_s: float) -> None:
    assert proven_at < stop_at(proven_at, lease_s) <= kill_at(proven_at, lease_s) <= proven_at + lease_s
