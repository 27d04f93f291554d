"""The promises of the real clock."""

import time

from sidecar.clock import SystemClock


def test_both_times_are_those_of_the_machine() -> None:
    clock = SystemClock()
    first = clock.monotonic()

    assert abs(clock.now_ms() - time.time() * 1000) < 1_000
    assert clock.monotonic() >= first > 0
