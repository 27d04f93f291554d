"""The hub's clock: the only place where it reads the time."""

import time


class SystemClock:
    """The machine's own clocks; see :class:`protocol.clock.Clock`."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds, never stepping back."""
        return time.monotonic()
