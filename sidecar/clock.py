"""The real clock: the only place of the sidecar that reads the time."""

import time
from typing import Final

# Linux: CLOCK_MONOTONIC stands still while the machine is suspended, the lease at the hub does not.
_SINCE_BOOT: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The machine's clocks, as :class:`protocol.clock.Clock`."""

    def now_ms(self) -> int:
        """Unix time in milliseconds; may step."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds since the machine started, time asleep included."""
        return time.clock_gettime(_SINCE_BOOT)
