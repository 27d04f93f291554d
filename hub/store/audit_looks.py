"""How the audit log is read, and the events that it tells of: a part of :class:`hub.store.backend.Backend`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from hub.core.audit import Entry, EventRow, Head
from hub.store import records
from hub.store.audit_changes import AuditQuery
from hub.store.records import Row


class AuditLooks(ABC):
    """What every store answers alike."""

    @abstractmethod
    async def _rows(self, name: str, *values: Any) -> Sequence[Row]:
        """What the query finds."""

    async def event_rows(self, after: int, through: int, limit: int) -> list[EventRow]:
        """Events behind one number, up to another, oldest first, as they are stored."""
        rows = await self._rows("event_rows", after, through, limit)
        return [(seq, at_ms, kind, task, agent, epoch, facts) for seq, at_ms, kind, task, agent, epoch, facts in rows]

    async def audit(self, query: AuditQuery) -> list[Entry]:
        """A page of decisions in the audit log, newest first."""
        q = query
        values = (q.before, q.since_ms, q.until_ms, q.actor, q.action, q.subject, q.limit)
        return [records.entry(row) for row in await self._rows("audit_newest", *values)]

    async def audit_entries(self, after: int, limit: int) -> list[Entry]:
        """All entries of the audit log behind a number, oldest first."""
        return [records.entry(row) for row in await self._rows("audit_all", after, limit)]

    async def audit_ends(self) -> tuple[Head, Head]:
        """The last entry of the audit log that was forgotten, and the last one that there is."""
        ((base, base_hash, seq, hash_),) = await self._rows("audit_ends")
        forgotten = Head(base, bytes(base_hash))
        return forgotten, Head(seq, bytes(hash_)) if seq else forgotten

    async def schema(self) -> int:
        """The number of the last migration."""
        return int((await self._rows("schema"))[0][0])
