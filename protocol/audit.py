"""What people see of the audit log: who decided what, when, and how it ended.

The entries are a chain of hashes; how it is made, and how to check a file of entries with other means, is
``docs/reference/audit.md``.
"""

from datetime import datetime
from functools import cache
from types import ModuleType

import msgspec
from msgspec import Raw, Struct

Words = tuple[int, int, str, str, str, str, str, str]
"""What an entry says: number, time (Unix ms), actor, role, action, subject, verdict, detail (JSON)."""


@cache
def _hashes() -> ModuleType:
    import hashlib  # loads a library of the system, which a command that starts does without

    return hashlib


def entry_hash(before: bytes, words: Words) -> bytes:
    """The hash of an entry: SHA-256 over that of the one before it, and the list of its own words as MessagePack."""
    found: bytes = _hashes().sha256(before + msgspec.msgpack.encode(words)).digest()
    return found


class AuditEntry(Struct, kw_only=True):
    """A decision.

    ``actor`` is the id of a token, ``hub``, or empty for somebody unknown; ``actor_label`` what a person has called
    that token. ``detail`` is a JSON object.
    """

    seq: int
    at: datetime
    actor: str
    actor_label: str = ""
    role: str
    action: str
    subject: str
    verdict: str
    detail: Raw
    hash: str


class AuditList(Struct, kw_only=True):
    """Decisions, newest first."""

    entries: tuple[AuditEntry, ...]
    next_cursor: str | None


class AuditLine(Struct, kw_only=True):
    """An entry as it is exported: with the words that its hash is made of. ``at_ms`` is Unix time in milliseconds."""

    seq: int
    at_ms: int
    actor: str
    role: str
    action: str
    subject: str
    verdict: str
    detail: str
    hash: str

    def hash_after(self, before: str) -> str:
        """The hash that it should have behind an entry with the hash ``before``, in hexadecimal digits."""
        words = (self.seq, self.at_ms, self.actor, self.role, self.action, self.subject, self.verdict, self.detail)
        return entry_hash(bytes.fromhex(before), words).hex()


class AuditLines(Struct, kw_only=True):
    """All entries behind a number, oldest first; ``before`` is the hash that stands before the first of them."""

    entries: tuple[AuditLine, ...]
    before: str
    next_cursor: str | None


class AuditVerdict(Struct, kw_only=True):
    """What a look at the whole log has found.

    Attributes:
        problems: what is wrong with it; the first ones.
        entries, events: how many were looked at.
        forgotten: entries that were forgotten before, and whose hash the log goes on from.
        forgotten_events: events that entries tell of, and that were forgotten.
        head, hash: the last entry, and its hash: keep them, and the log can be held to them later.
        anchored: the last entry that the hub had noted outside of its store; ``None``: none yet.
    """

    ok: bool
    problems: tuple[str, ...]
    entries: int
    events: int
    forgotten: int
    forgotten_events: int
    head: int
    hash: str
    anchored: int | None
    seconds: float
