"""Until when this sidecar may act on each of its attempts, as far as it can know.

The hub gives an attempt away when it has not heard of it for a lease. Only what the hub has answered is known to have
been heard, so each attempt may be acted on until a lease (less a margin) after the last heartbeat that named it and was
answered. All times are of one clock, this sidecar's, which counts time asleep; nothing compares it with the hub's.

Asked before everything that others can notice: before a program starts, before a model is asked, before a branch is
pushed. A check cannot hold the clock, so what it lets pass also carries the attempt's epoch in its name
(``sidecar/workspace.py``). Callers: ``sidecar/link.py`` (what is proven), ``sidecar/runner.py`` (what is held),
``sidecar/rounds.py`` and ``sidecar/process.py`` (the check); ``sidecar/guard.py`` hears how long all is well.
"""

from collections.abc import Callable
from dataclasses import dataclass

from protocol.limits import LEASE_S
from protocol.model import AttemptId
from sidecar.core.attempt import kill_at, stop_at
from sidecar.errors import LeaseOver

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class _Taken:
    at: float
    proven_before: float
    """What was proven when the assignment came: the hub granted the lease after that, so it lasts at least so long."""


class Leases:
    """The leases of the attempts that are in work here.

    Attributes:
        lease_s: how long the hub leaves an attempt with us when it hears nothing.
        proven_at: the latest moment of which it is known that the hub has heard what we had said by then.
        on_change: hears in how many seconds work must be killed if nothing more is proven; infinite without any work.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.lease_s = LEASE_S
        self.proven_at = -NEVER
        self.on_change: Callable[[float], None] = lambda _left_s: None
        self._taken: dict[AttemptId, _Taken] = {}

    def proven(self, at: float) -> None:
        """The hub has answered what was sent at ``at``; every heartbeat names all that is held."""
        if at > self.proven_at:
            self.proven_at = at
            self._tell()

    def take(self, attempt: AttemptId) -> None:
        """An assignment has come and is taken up."""
        self._taken[attempt] = _Taken(self._now(), self.proven_at)
        self._tell()

    def drop(self, attempt: AttemptId) -> None:
        """Nothing more is done for this attempt but tidying up after it."""
        if self._taken.pop(attempt, None) is not None:
            self._tell()

    @property
    def are_live(self) -> bool:
        """Whether an assignment that comes now may be taken up.

        One that was held up on its way, or in a sidecar that stood still, may be another's by now.
        """
        return self._now() < stop_at(self.proven_at, self.lease_s)

    def is_over(self, attempt: AttemptId) -> bool:
        """Whether the attempt may be somebody else's soon."""
        taken = self._taken.get(attempt)
        return taken is not None and self._now() >= stop_at(self._proof(taken), self.lease_s)

    def check(self, attempt: AttemptId) -> None:
        """Let something happen that others can notice.

        Raises:
            LeaseOver: it must not.
        """
        if self.is_over(attempt):
            raise LeaseOver(attempt)

    @property
    def left_s(self) -> float:
        """Seconds until the first lease is over: of the work at hand, or if there is none, of what might come."""
        proofs = [self._proof(taken) for taken in self._taken.values()]
        return stop_at(min(proofs, default=self.proven_at), self.lease_s) - self._now()

    def _proof(self, taken: _Taken) -> float:
        # A heartbeat that was on its way when the assignment came does not name it.
        return self.proven_at if self.proven_at > taken.at else taken.proven_before

    def _tell(self) -> None:
        proofs = [self._proof(taken) for taken in self._taken.values()]
        self.on_change(kill_at(min(proofs), self.lease_s) - self._now() if proofs else NEVER)
