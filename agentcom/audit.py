"""What the client says about the audit log: a part of :class:`agentcom.aio.AsyncClient`."""

from collections.abc import AsyncGenerator
from datetime import datetime

from agentcom.calls import Calls
from protocol.api import PREFIX
from protocol.audit import AuditLines, AuditList, AuditVerdict

_VERIFY_S = 3_600.0


class AuditCalls:
    """List, look through, take away."""

    _transport: Calls

    async def audit(
        self,
        *,
        since: datetime | None = None,
        actor: str = "",
        action: str = "",
        subject: str = "",
        cursor: str = "",
        limit: int = 100,
    ) -> AuditList:
        """A page of decisions, the newest first."""
        asked = {"actor": actor, "action": action, "subject": subject, "cursor": cursor, "limit": str(limit)}
        query = {name: value for name, value in asked.items() if value}
        if since is not None:
            query["since"] = since.astimezone().isoformat()
        return await self._transport.call("GET", f"{PREFIX}/audit", AuditList, query=query, is_repeatable=True)

    async def verify_audit(self, *, seq: int = 0, digest: str = "") -> AuditVerdict:
        """Look through the whole log; ``seq`` and ``digest``: an entry that was kept, and its hash."""
        query = {"seq": str(seq), "hash": digest} if seq else {}
        return await self._transport.call(
            "GET", f"{PREFIX}/audit/verify", AuditVerdict, query=query, is_repeatable=True, call_s=_VERIFY_S
        )

    async def audit_entries(self, after: str = "") -> AsyncGenerator[AuditLines, None]:
        """The whole log, page by page, the oldest entries first."""
        cursor: str | None = after
        while cursor is not None:
            query = {"cursor": cursor} if cursor else {}
            page = await self._transport.call(
                "GET", f"{PREFIX}/audit/entries", AuditLines, query=query, is_repeatable=True
            )
            yield page
            cursor = page.next_cursor
