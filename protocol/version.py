"""Which versions of the wire protocol this build speaks, and which one two peers settle on."""

from typing import Final

from protocol.errors import VersionMismatch

OLDEST: Final = 1
NEWEST: Final = 1


def negotiate(theirs: tuple[int, int], ours: tuple[int, int] = (OLDEST, NEWEST)) -> int:
    """The newest protocol version that both ranges ``(oldest, newest)`` contain.

    Raises:
        VersionMismatch: the ranges do not meet.
    """
    version = min(ours[1], theirs[1])
    if version < max(ours[0], theirs[0]):
        raise VersionMismatch(ours, theirs)
    return version
