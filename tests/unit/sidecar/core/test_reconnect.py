"""The promises of waiting before a reconnect."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.limits import RECONNECT_CAP_S
from sidecar.core.reconnect import reconnect_delay


@pytest.mark.parametrize(
    "failures, longest", [(0, 1.0), (1, 2.0), (3, 8.0), (4, RECONNECT_CAP_S), (10_000, RECONNECT_CAP_S)]
)
def test_the_bound_doubles_up_to_the_cap(failures: int, longest: float) -> None:
    assert reconnect_delay(failures, 1.0) == longest
    assert reconnect_delay(failures, 0.5) == longest / 2


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_every_wait_may_be_anything_below_its_bound(failures: int, chance: float) -> None:
    assert 0 <= reconnect_delay(failures, chance) <= RECONNECT_CAP_S
    assert reconnect_delay(failures, 0.0) == 0
