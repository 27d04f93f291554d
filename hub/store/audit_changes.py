"""What is asked of the store about the audit log; what is done is ``audit_verbs.py`` and ``chaining.py``."""

from msgspec import Struct

from hub.core.audit import Note


class Attest(Struct, frozen=True):
    """Write down a decision that no event tells of, in the commit of what is posted with it. Outcome: ``None``."""

    note: Note


class ForgetAudit(Struct, frozen=True, kw_only=True):
    """Forget the entries up to the number ``through``, all but the last; one entry tells so. Outcome: how many."""

    at_ms: int
    through: int


class AuditQuery(Struct, frozen=True, kw_only=True):
    """Which decisions, newest first: those before the entry ``before``, ``limit`` at most.

    ``action`` is one, or what stands before its dot. Times are Unix milliseconds.
    """

    since_ms: int = 0
    until_ms: int = 2**62
    actor: str = ""
    action: str = ""
    subject: str = ""
    before: int = 2**62
    limit: int = 100
