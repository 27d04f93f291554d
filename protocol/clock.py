"""The time, as an argument: rules take ``now``, only the rim holds a clock."""

from typing import Protocol


class Clock(Protocol):
    """Two times: one to write down, one to measure with."""

    def now_ms(self) -> int:
        """Unix time in milliseconds; may step."""
        ...

    def monotonic(self) -> float:
        """Seconds from an unknown start; never steps back."""
        ...
