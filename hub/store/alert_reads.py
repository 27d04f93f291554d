"""What is read about the hub itself: alerts, who is told of them, figures over time, secrets; for every database."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from hub.core.alerts import Alert
from hub.store import records
from hub.store.alert_changes import NotifierRow, Told
from hub.store.secret_changes import SecretRow


class AlertReads(ABC):
    """:class:`hub.store.alert_changes.AlertStore` and secrets, by queries."""

    @abstractmethod
    async def _rows(self, name: str, *values: Any) -> Sequence[records.Row]:
        """What a query finds, beside the writer."""

    async def open_alerts(self) -> list[Alert]:
        """What is wrong now."""
        return [records.alert(row) for row in await self._rows("open_alerts")]

    async def past_alerts(self, before: str, limit: int) -> list[Alert]:
        """What was wrong, the newest first, of those whose id is before this one."""
        return [records.alert(row) for row in await self._rows("past_alerts", before, limit)]

    async def alert_log(self, after: int, limit: int) -> list[Told]:
        """Alerts that have fired or ended behind this entry, in order."""
        found = await self._rows("alert_log", after, limit)
        return [Told(int(row[0]), row[1], int(row[2]), records.alert(row[3:])) for row in found]

    async def alert_rules(self) -> dict[str, str]:
        """What people want of rules, JSON by name."""
        return {str(name): str(body) for name, body in await self._rows("alert_rules")}

    async def notifiers(self) -> list[NotifierRow]:
        """Who is told."""
        return [records.notifier(row) for row in await self._rows("notifiers")]

    async def secrets(self) -> list[SecretRow]:
        """All secrets, by name."""
        return [records.secret(row) for row in await self._rows("secrets")]

    async def secret(self, name: str) -> SecretRow | None:
        """One secret, or ``None``."""
        rows = await self._rows("secret", name)
        return records.secret(rows[0]) if rows else None

    async def samples(self, step_s: int, since_s: int, until_s: int) -> list[tuple[int, bytes]]:
        """The hub's figures by step, oldest first: when each ended (behind ``since_s``, Unix seconds), MessagePack."""
        return [(int(at_s), bytes(body)) for at_s, body in await self._rows("samples", step_s, since_s, until_s)]
