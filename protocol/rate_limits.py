"""Shapes of ``/api/v1/rate-limits``: how often one token, or one address without a valid token, may ask."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

LEAST_PER_S: Final = 0.01
MOST_PER_S: Final = 1_000_000.0
MOST_BURST: Final = 1_000_000

PerS = Annotated[float, Meta(ge=LEAST_PER_S, le=MOST_PER_S)]
Burst = Annotated[int, Meta(ge=1, le=MOST_BURST)]


class Action(StrEnum):
    """What is counted together: every token has a bucket of requests for each of the first three."""

    READ = "read"
    WRITE = "write"
    HEAVY = "heavy"
    """What costs the hub much more than an ordinary request: backups, clones, pushes, changes of many tasks."""
    STRANGER = "stranger"
    """Credentials that do not count, by address."""


class RateBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``PATCH /rate-limits/{id}``: another limit for a class (``read``), or for one token (its id) in one class."""

    per_s: PerS
    burst: Burst
    action: Action | None = None
    """For a token: which of its limits."""


class RateView(Struct, kw_only=True):
    """The limit of a class, for every token (or address) that has none of its own."""

    action: Action
    per_s: float
    burst: int
    default_per_s: float
    default_burst: int
    refused: int
    """Requests that this hub has refused since its start, of all callers."""
    changed_at: datetime | None = None
    changed_by: str = ""


class CallerView(Struct, kw_only=True):
    """A token with a limit of its own, or a caller that was refused lately."""

    caller: str
    """Id of the token; of a stranger the address."""
    action: Action
    per_s: float
    burst: int
    is_own: bool
    """Somebody has set this limit for this token."""
    refused: int
    strikes: int
    """How often it has asked again before it was time."""
    wait_s: float
    """For how long it is shut out."""
    label: str = ""
    changed_at: datetime | None = None
    changed_by: str = ""


class RateList(Struct, kw_only=True):
    """All limits: of the classes, and of those callers that there is something to say about."""

    limits: tuple[RateView, ...]
    callers: tuple[CallerView, ...]
