"""Who acts on what the hub says, as ``sidecar/link.py`` sees it; ``sidecar/runner.py`` is one."""

from typing import Protocol

from protocol.messages import Assign, Cancel, HeldAttempt, Wish
from protocol.model import AttemptId


class Owner(Protocol):
    """Who acts on what the hub says."""

    @property
    def is_leaving(self) -> bool:
        """It takes no new attempts: this sidecar is about to leave, or its disk is full."""

    def inventory(self) -> tuple[HeldAttempt, ...]:
        """All attempts it holds, in work or with a report that is not acknowledged."""

    def assigned(self, message: Assign) -> None:
        """The hub wants an attempt done."""

    def cancelled(self, message: Cancel) -> None:
        """The hub wants an attempt stopped."""

    def forget(self, attempt: AttemptId) -> None:
        """The hub has its report, or wants nothing more of it: stop it if it runs, and drop it."""

    def drain(self, *, on: bool) -> None:
        """Take no new attempts, or take them again."""

    def wish(self, message: Wish) -> None:
        """Something that is no matter of an attempt's life or death."""

    def fence(self) -> None:
        """Every lease may be over soon: stop all work."""

    def commit(self, *, tidy: bool = True) -> None:
        """Write down what was promised since the last call; what was sent leaves after it.

        ``tidy``: also what may be forgotten, for which nobody waits.
        """
        ...
