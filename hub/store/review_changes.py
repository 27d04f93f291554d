"""What people decide about work that waits for them, as changes and rows of the store."""

from msgspec import Struct

APPROVED, REJECTED, AGAIN = "approved", "rejected", "again"


class Review(Struct, frozen=True, kw_only=True):
    """A person says what becomes of work that waits; ``epoch``: of the attempt that was looked at, if that is known.

    Outcome: :class:`hub.store.changes.Finished`, or NotFound, or Conflict.
    """

    at_ms: int
    task: str
    verdict: str
    by: str
    reason: str = ""
    epoch: int | None = None


class ReviewRow(Struct, frozen=True, kw_only=True):
    """A decision about an attempt."""

    epoch: int
    at_ms: int
    verdict: str
    by: str
    reason: str
