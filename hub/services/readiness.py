"""Whether a hub can take work now, part by part: what a load balancer or an orchestrator asks before it sends anybody.

The store is tried by a commit of nothing, which has to reach the disk like any other. Anybody may ask without a token,
so that is done at most once in some seconds, whoever asks.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from hub.store.store import Store
from hub.store.token_changes import TouchTokens
from protocol.api import ComponentHealth
from protocol.clock import Clock
from protocol.errors import AgentComError, ReadOnly, Unavailable

FRESH_S: Final = 2.0
"""An answer of the store counts so long."""
COMMIT_S: Final = 5.0
"""A commit that takes longer makes the hub unready."""
SILENT_S: Final = 30.0
"""Without a round of the sweeper for so long no lease ends and no task becomes due."""
OK: Final = "ok"
DEGRADED: Final = "degraded"
DOWN: Final = "down"


class Readiness:
    """Looks at the parts without which a hub takes no work.

    Args:
        schema: the number of the store's schema that this build knows.
        trouble: why the hub may not serve now, if it may not (its lease among hubs).
        silent_s: seconds since the last round of the sweeper.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        schema: int,
        trouble: Callable[[], str],
        silent_s: Callable[[], float],
    ) -> None:
        self._store, self._clock, self._known_schema = store, clock, schema
        self._trouble, self._silent_s = trouble, silent_s
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self._told = ComponentHealth(state=OK, detail="")
        self.is_draining = False
        """The hub is ending: what it has is finished, nothing new should come."""

    async def parts(self) -> dict[str, ComponentHealth]:
        """Each part, in the words of the health; one that is ``down`` makes the hub unready."""
        return {
            "store": await self._written(),
            "schema": await self._schema(),
            "sweeper": self.sweeper(),
            "serving": self._serving(),
        }

    async def why_not(self) -> str:
        """Empty if the hub can take work, else why not."""
        parts = await self.parts()
        return "; ".join(f"{name}: {part.detail}" for name, part in parts.items() if part.state == DOWN)

    async def _written(self) -> ComponentHealth:
        if trouble := self._store.trouble or self._store.damage:
            return ComponentHealth(state=DOWN, detail=trouble)
        async with self._asking:
            if self._clock.monotonic() - self._asked_at >= FRESH_S:
                self._told = await self._commit()
                self._asked_at = self._clock.monotonic()
        return self._told

    async def _commit(self) -> ComponentHealth:
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(COMMIT_S):
                await self._store.commit(TouchTokens({}))
        except TimeoutError:
            return ComponentHealth(state=DOWN, detail=f"a commit takes longer than {COMMIT_S:g} s")
        except ReadOnly:
            return ComponentHealth(state=DOWN, detail="this hub only shows what its store holds")
        except AgentComError as exc:
            return ComponentHealth(state=DOWN, detail=str(exc))
        took_s = self._clock.monotonic() - began
        return ComponentHealth(state=OK, detail=f"{self._store.kind}: a commit took {took_s * 1000:.0f} ms")

    async def _schema(self) -> ComponentHealth:
        try:
            found = await self._store.schema()
        except Unavailable as exc:
            return ComponentHealth(state=DOWN, detail=str(exc))
        known = self._known_schema
        if found == known:
            return ComponentHealth(state=OK, detail=f"{found}")
        detail = f"the store has schema {found}, this build knows {known}: install the same agentcom on all hubs"
        return ComponentHealth(state=DOWN, detail=detail)

    def sweeper(self) -> ComponentHealth:
        """Whether somebody looks after leases and what becomes due."""
        silent_s = self._silent_s()
        if silent_s > SILENT_S:
            return ComponentHealth(state=DOWN, detail=f"no round for {silent_s:.0f} s: no lease ends, no task gets due")
        return ComponentHealth(state=OK, detail="")

    def _serving(self) -> ComponentHealth:
        if self.is_draining:
            return ComponentHealth(state=DOWN, detail="the hub is ending")
        if trouble := self._trouble():
            return ComponentHealth(state=DOWN, detail=trouble)
        return ComponentHealth(state=OK, detail="")
