"""How quick the disk is of late, and so whether the event loop may wait for it itself.

A batch goes to a thread of its own, because an fsync may take any time. The way there and back wakes a thread twice,
and each time costs as much as a quick fsync; a task that comes alone waits for four of them. So a short batch that
nobody else waits behind is written where it was made, as long as the last ones were quick. A disk that turns slow holds
up the event loop once; one that is slow now and then does so at most once in seventeen batches. A file that another
program holds is not waited for at all there. Weighed in docs/decisions/0042. Caller: ``sqlite.py``.
"""

import time
from typing import Final

QUICK_S: Final = 0.002
"""So long the event loop may stand still for a batch."""
TRIAL: Final = 16
"""So many batches in a row have to be quick."""
_FIRST_S: Final = 0.001
_LONGEST_S: Final = 0.05
"""Between two questions whether a file is still held: longer each time, up to this."""


class Pace:
    """The times of batches, as they end."""

    def __init__(self, quick_s: float = QUICK_S, trial: int = TRIAL) -> None:
        """Nothing is known of the disk yet.

        Args:
            quick_s: a batch that takes longer is not quick.
            trial: so many in a row have to be quick, now and after each that was not.
        """
        self._quick_s, self._trial, self._left = quick_s, trial, trial

    @property
    def is_quick(self) -> bool:
        """The last batches were all quick."""
        return not self._left

    def took(self, seconds: float) -> None:
        """A batch was written in ``seconds``, with the fsync at its end."""
        if seconds > self._quick_s:
            self._left = self._trial
        elif self._left:
            self._left -= 1


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
