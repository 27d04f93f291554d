"""Whether a hub can take work now, part by part: what a load balancer or an orchestrator asks before it sends anybody.

The store is tried by a commit of nothing, which has to reach the disk like any other. Anybody may ask without a token,
so that is done at most once in some seconds, whoever asks, and what is told names no database, file or machine: that
stands in the log, and in the health.
"""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog

from hub.store.store import Store
from hub.store.token_changes import TouchTokens
from protocol.api import ComponentHealth
from protocol.clock import Clock
from protocol.errors import AgentComError, ReadOnly, Unavailable

log = structlog.get_logger(__name__)
FRESH_S: Final = 2.0
"""An answer of the store counts so long."""
COMMIT_S: Final = 5.0
"""A commit that takes longer makes the hub unready."""
SILENT_S: Final = 30.0
"""Without a round of the sweeper for so long no lease ends and no task becomes due."""
OK: Final = "ok"
DEGRADED: Final = "degraded"
DOWN: Final = "down"


class _Part(NamedTuple):
    """How a part stands; ``said``: why, for anybody; ``why``: for those who run the hub."""

    state: str = OK
    said: str = ""
    why: str = ""


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
        self._wrote = _Part()
        self._troubles: dict[str, str] = {}
        self.is_draining = False
        """The hub is ending: what it has is finished, nothing new should come."""

    async def parts(self) -> dict[str, ComponentHealth]:
        """Each part, in the words of the health; one that is ``down`` makes the hub unready."""
        found = {
            "store": await self._written(),
            "schema": await self._schema(),
            "sweeper": self._swept(),
            "serving": self._serving(),
        }
        self._log({name: part.why or part.said for name, part in found.items() if part.state == DOWN})
        return {name: ComponentHealth(state=part.state, detail=part.said) for name, part in found.items()}

    def _log(self, troubles: dict[str, str]) -> None:
        """Once for each that comes or goes, not for everybody who asks."""
        if troubles.keys() != self._troubles.keys():
            if troubles:
                log.warning("hub_unready", **troubles)
            else:
                log.info("hub_ready")
            self._troubles = troubles

    async def why_not(self) -> str:
        """Empty if the hub can take work, else why not."""
        parts = await self.parts()
        return "; ".join(f"{name}: {part.detail}" for name, part in parts.items() if part.state == DOWN)

    async def _written(self) -> _Part:
        if trouble := self._store.trouble or self._store.damage:
            return _Part(DOWN, "nothing can be written", trouble)
        async with self._asking:
            if self._clock.monotonic() - self._asked_at >= FRESH_S:
                self._wrote = await self._commit()
                self._asked_at = self._clock.monotonic()
        return self._wrote

    async def _commit(self) -> _Part:
        try:
            async with asyncio.timeout(COMMIT_S):
                await self._store.commit(TouchTokens({}))
        except TimeoutError:
            return _Part(DOWN, f"a commit takes longer than {COMMIT_S:g} s")
        except ReadOnly:
            return _Part(DOWN, "this hub only shows what its store holds")
        except AgentComError as exc:
            return _Part(DOWN, "nothing can be written", str(exc))
        return _Part()

    async def _schema(self) -> _Part:
        try:
            found = await self._store.schema()
        except Unavailable as exc:
            return _Part(DOWN, "nobody can be asked for it", str(exc))
        if found == self._known_schema:
            return _Part()
        why = f"the store has schema {found}, this build knows {self._known_schema}"
        return _Part(DOWN, "it is not this build's: install the same agentcom on all hubs", why)

    def sweeper(self) -> ComponentHealth:
        """Whether somebody looks after leases and what becomes due."""
        part = self._swept()
        return ComponentHealth(state=part.state, detail=part.said)

    def _swept(self) -> _Part:
        silent_s = self._silent_s()
        if silent_s > SILENT_S:
            return _Part(DOWN, f"no round for {silent_s:.0f} s: no lease ends, no task gets due")
        return _Part()

    def _serving(self) -> _Part:
        if self.is_draining:
            return _Part(DOWN, "the hub is ending")
        if trouble := self._trouble():
            return _Part(DOWN, "the hub may not serve now", trouble)
        return _Part()
