"""What people decide about work that waits for them, over HTTP."""

from datetime import datetime
from typing import Final

from msgspec import Struct

from protocol.bounds import Sentence, Whole
from protocol.model import Finding


class ApproveBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /tasks/{id}/approve``; the body may be left out.

    ``epoch``: of the attempt that was looked at; if another one waits by now, nothing is decided.
    """

    reason: Sentence = ""
    epoch: Whole | None = None


class RejectBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /tasks/{id}/reject``; the body may be left out. ``again``: the work goes back, with the reason."""

    reason: Sentence = ""
    epoch: Whole | None = None
    again: bool = False


PROOF: Final = "proof"
"""Executor of attempts that only run the checks, on what another machine has done."""


class ProofView(Struct, kw_only=True):
    """Whether another machine has found that the checks pass: who did the work, and who proves it.

    ``state``: ``waits`` for another machine, ``running``, ``proven``, ``refuted`` (the checks fail there), or
    ``untold`` (no other machine could tell).
    """

    state: str
    epoch: int
    """Of the attempt that did the work."""
    agent: str
    host: str
    by_epoch: int = 0
    """Of the last attempt at a proof; 0: there was none yet."""
    by_agent: str = ""
    by_host: str = ""
    reason: str = ""
    report: tuple[Finding, ...] = ()
    """What the checks have found there."""


class ReviewView(Struct, kw_only=True):
    """What a person has decided about an attempt: ``approved``, ``rejected``, or ``again`` (it was sent back)."""

    epoch: int
    verdict: str
    by: str
    """Id of the token."""
    reason: str
    at: datetime
