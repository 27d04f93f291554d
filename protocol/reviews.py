"""What people decide about work that waits for them, over HTTP."""

from datetime import datetime

from msgspec import Struct


class ApproveBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /tasks/{id}/approve``; the body may be left out.

    ``epoch``: of the attempt that was looked at; if another one waits by now, nothing is decided.
    """

    reason: str = ""
    epoch: int | None = None


class RejectBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /tasks/{id}/reject``; the body may be left out. ``again``: the work goes back, with the reason."""

    reason: str = ""
    epoch: int | None = None
    again: bool = False


class ReviewView(Struct, kw_only=True):
    """What a person has decided about an attempt: ``approved``, ``rejected``, or ``again`` (it was sent back)."""

    epoch: int
    verdict: str
    by: str
    """Id of the token."""
    reason: str
    at: datetime
