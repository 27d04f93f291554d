"""Limits on how often may be asked, as changes and rows of the store; what the verbs do is ``verbs.py``."""

from msgspec import Struct

from hub.core.buckets import Limit
from protocol.events import Event
from protocol.rate_limits import Action


class RateRow(Struct, frozen=True, kw_only=True):
    """A limit that is not the usual one: of a class (``subject`` empty), or of one token (its id) in a class."""

    subject: str
    action: Action
    limit: Limit
    changed_ms: int
    changed_by: str


class PutRate(Struct, frozen=True):
    """Keep a limit, new or changed. Outcome: ``None``."""

    rate: RateRow
    event: Event


class DropRates(Struct, frozen=True):
    """A class has its usual limit again (``subject`` empty), or a token has none of its own (``action`` ``None``).

    Outcome: ``None``, or NotFound.
    """

    subject: str
    action: Action | None
    event: Event
