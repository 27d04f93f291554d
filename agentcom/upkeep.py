"""What the client asks about the hub itself: a part of :class:`agentcom.aio.AsyncClient`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import quote

from msgspec import Struct

from agentcom.asking import Asking
from protocol.api import PREFIX, BackupList, BackupView, Health, TokenBody, TokenCreated, TokenList
from protocol.errors import Unavailable
from protocol.log_levels import LevelList, LevelsBody
from protocol.metrics import MetricsHistory
from protocol.model import Role
from protocol.rate_limits import RateList

_BACKUP_S: Final = 3_600.0


class Ticket(Struct, kw_only=True):
    """A link that logs one browser in to the dashboard, once: ``path`` goes behind the hub's address."""

    ticket: str
    path: str
    expires_at: datetime


class UpkeepCalls(Asking):
    """Tokens, backups, health, and the way into the dashboard."""

    async def tokens(self) -> TokenList:
        """All tokens, without their secrets."""
        return await self._get("/tokens", TokenList)

    async def create_token(
        self,
        role: Role | str,
        *,
        label: str = "",
        ttl_s: float | None = None,
        projects: Sequence[str] = (),
        agents: Sequence[str] = (),
    ) -> TokenCreated:
        """Make a token; its secret is shown only in this answer.

        Args:
            role: what it may.
            label: what it is for.
            ttl_s: seconds until it ends; ``None``: when somebody revokes it.
            projects: it is good for these and their tasks only; empty: for all.
            agents: sidecars that come in with it may have one of these names only; empty: any.
        Raises:
            BadInput: there is no such role, or it cannot be bound so.
        """
        from protocol import schema  # a command that starts does without it

        asked = {"role": role, "label": label, "ttl_s": ttl_s, "projects": [*projects], "agents": [*agents]}
        return await self._post("/tokens", TokenCreated, schema.read(asked, TokenBody, "token"))

    async def rate_limits(self) -> RateList:
        """How often who may ask, and who was refused lately."""
        return await self._get("/rate-limits", RateList)

    async def log_levels(self) -> LevelList:
        """From which level on the parts of the mesh log."""
        return await self._get("/log-levels", LevelList)

    async def set_log_levels(self, levels: Mapping[str, str | None]) -> LevelList:
        """Set levels by component; ``None`` takes back what was set.

        Raises:
            BadInput: there is no such component, or no such level.
        """
        from protocol import schema  # as above

        body = schema.read({"levels": dict(levels)}, LevelsBody, "log levels")
        return await self._transport.call("PATCH", f"{PREFIX}/log-levels", LevelList, body=body)

    async def revoke_token(self, token: str) -> None:
        """End the token with this id, at once."""
        await self._transport.call("DELETE", f"{PREFIX}/tokens/{quote(token, safe='')}", type(None))

    async def backups(self) -> BackupList:
        """Backups of the hub's store, newest first."""
        return await self._get("/backups", BackupList)

    async def back_up(self) -> BackupView:
        """Make a backup now; answers when it is on the hub's disk and has been looked through.

        Raises:
            Conflict: one is being made, or the store is in PostgreSQL, which makes its own.
        """
        return await self._transport.call("POST", f"{PREFIX}/backups", BackupView, call_s=_BACKUP_S)

    async def metrics(
        self, names: Sequence[str] = (), *, since: str = "", until: str = "", step_s: int | None = None
    ) -> MetricsHistory:
        """Figures over time, all of them or those that are named.

        Args:
            since, until: times like ``2026-01-31T09:00:00Z``; left out: the last hour.
            step_s: seconds of a point; left out: the finest that is kept for so long.
        Raises:
            BadInput: there is no such figure.
        """
        asked = {"names": ",".join(names), "since": since, "until": until, "step_s": step_s}
        return await self._get("/metrics", MetricsHistory, asked)

    async def health(self) -> Health:
        """The hub's own view of itself."""
        return await self._get("/health", Health)

    async def session_ticket(self) -> Ticket:
        """A link that opens the dashboard in a browser, once."""
        return await self._post("/session-tickets", Ticket)

    async def is_ready(self) -> bool:
        """Whether work can be submitted now; asks once (needs no token)."""
        try:
            await self._transport.call("GET", "/readyz", dict, patience_s=0.0)
        except Unavailable:
            return False
        return True

    async def server_date(self) -> str:
        """The hub's clock as its ``Date`` header tells it (needs no token); empty if it does not."""
        return await self._transport.server_date()
