"""What is read of the audit log, and of the events that it tells of: a part of :class:`hub.store.store.Store`."""

from typing import Protocol

from hub.core.audit import Entry, EventRow, Head
from hub.store.audit_changes import AuditQuery


class AuditReads(Protocol):
    """The audit log, to be read, and the schema."""

    async def event_rows(self, after: int, through: int, limit: int) -> list[EventRow]:
        """Events behind one number, up to another, oldest first, as they are stored."""
        ...

    async def audit(self, query: AuditQuery) -> list[Entry]:
        """A page of decisions in the audit log, newest first."""
        ...

    async def audit_entries(self, after: int, limit: int) -> list[Entry]:
        """All entries of the audit log behind a number, oldest first."""
        ...

    async def audit_ends(self) -> tuple[Head, Head]:
        """The last entry of the audit log that was forgotten, and the last one that there is."""
        ...

    async def schema(self) -> int:
        """The number of the last migration."""
        ...
