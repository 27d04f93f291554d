"""The audit log against ten thousand ways to tamper with it, or with the events that it tells of."""

import pytest

from tests.unit.hub.core.test_audit import tamper


@pytest.mark.soak
def test_ten_thousand_ways_to_tamper_with_the_log_are_found() -> None:
    for seed in range(10_000):
        tamper(seed)
