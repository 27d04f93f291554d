"""How long to wait before the next try to reach the hub.

Pure: counts and a random number in, seconds out. The caller is ``sidecar/link.py``.
"""

from protocol.limits import RECONNECT_CAP_S


def reconnect_delay(failures: int, chance: float, *, first_s: float = 1.0, cap_s: float = RECONNECT_CAP_S) -> float:
    """Seconds to wait, anywhere between 0 and a bound that doubles with every failure ("full jitter").

    A hub that restarts is not met by its whole fleet at once, because even the first try is spread.

    Args:
        failures: tries that failed in a row before this one, from 0.
        chance: a random number from 0 to 1.
        first_s, cap_s: the first and the largest bound.
    """
    bound = min(cap_s, first_s * 2.0 ** min(failures, 32))
    return bound * chance
