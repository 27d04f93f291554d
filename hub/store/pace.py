"""How quick the disk is of late, and so whether the event loop may wait for it itself.

A batch goes to a thread of its own, because an fsync may take any time. The way there and back wakes a thread twice,
and each time costs as much as a quick fsync; a task that comes alone waits for four of them. So a short batch that
nobody else waits behind is written where it was made, as long as the last ones were quick on the whole: one in fifty
that takes some milliseconds costs less than two wakes for each. A disk that turns slow holds up the event loop for some
twenty milliseconds in all, or for the one fsync that takes longer. A file that another program holds is not waited for
at all there. Weighed in docs/decisions/0042. Caller: ``sqlite.py``.
"""

import time
from typing import Final

QUICK_S: Final = 0.002
"""So long the event loop may stand still for a batch, on the average."""
UNKNOWN_S: Final = 0.008
"""What is thought of a disk that nobody knows yet: two dozen quick batches show that it is better."""
SLOWEST_S: Final = 0.25
"""A batch that took longer counts as one of these: after three dozen quick ones a disk that stood still is trusted."""
AMONG: Final = 16
"""The last batch is so large a part of the average; one from as many batches before weighs a third of that."""
_FIRST_S: Final = 0.001
_LONGEST_S: Final = 0.05
"""Between two questions whether a file is still held: longer each time, up to this."""


class Pace:
    """The times of batches, as they end."""

    def __init__(self, quick_s: float = QUICK_S) -> None:
        """Nothing is known of the disk yet.

        Args:
            quick_s: batches that take longer on the average are not quick.
        """
        self._quick_s, self._mean_s = quick_s, UNKNOWN_S

    @property
    def is_quick(self) -> bool:
        """The last batches were quick."""
        return self._mean_s <= self._quick_s

    def took(self, seconds: float) -> None:
        """A batch was written in ``seconds``, with the fsync and what follows on the same thread."""
        self._mean_s += (min(seconds, SLOWEST_S) - self._mean_s) / AMONG


class Patience:
    """What a connection does while another program holds its file: it asks again, for ``busy_s`` seconds at most.

    A busy handler, in place of SQLite's own timeout: to change that for one statement costs as much as the statement,
    and the file is told of it before every lock.

    Attributes:
        may_wait: otherwise it hears at once that the file is held.
    """

    def __init__(self, busy_s: float) -> None:
        self._busy_s, self._until = busy_s, 0.0
        self.may_wait = True

    def __call__(self, asked: int) -> bool:
        """Whether to ask again, having asked so often."""
        if not self.may_wait:
            return False
        now = time.monotonic()
        if not asked:
            self._until = now + self._busy_s
        if now >= self._until:
            return False
        # The file tells nobody when it is free. It is a thread that sleeps: on the event loop nothing may wait.
        time.sleep(min(_LONGEST_S, _FIRST_S * (asked + 1)))
        return True
