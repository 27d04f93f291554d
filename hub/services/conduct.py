"""What becomes of sidecars that do not keep to the protocol: written down, counted, kept away for a while.

It lies in memory, by name, and goes with the agent: after a restart of the hub everybody begins anew. The rule is
``hub/core/conduct.py``; the caller is ``hub/gateway/server.py``.
"""

from collections import Counter
from typing import Final

import structlog

from hub.core.fleet import Fleet
from hub.store.changes import Record
from hub.store.store import Store
from protocol.clock import Clock
from protocol.errors import AgentComError
from protocol.events import Event, EventKind

log = structlog.get_logger(__name__)
_TOLD_CHARS: Final = 500


class Conducts:
    """The conduct of all sidecars; ``violations`` counts them, by the code of the error."""

    def __init__(self, store: Store, fleet: Fleet, clock: Clock, violations: Counter[str]) -> None:
        self._store, self._fleet, self._clock, self._violations = store, fleet, clock, violations

    def violated(self, name: str, error: AgentComError) -> float:
        """A sidecar has violated the protocol; for how many seconds it has to stay away."""
        conduct = self._fleet.agent(name).conduct
        what = str(error)[:_TOLD_CHARS]
        wait_s = conduct.violated(what, self._clock.monotonic())
        if wait_s:
            conduct.until_ms = self._clock.now_ms() + int(wait_s * 1000)
        self._violations[error.code] += 1
        log.warning("agent_violated", agent=name, code=error.code, why=what, count=conduct.count, wait_s=wait_s)
        facts = {"code": error.code, "reason": what, "count": conduct.count, "wait_s": wait_s}
        event = Event(kind=EventKind.AGENT_VIOLATED, at_ms=self._clock.now_ms(), agent=name, facts=facts)
        self._store.post(Record(event))
        return wait_s

    def wait_s(self, name: str) -> float:
        """For how many seconds this sidecar still has to stay away; 0: it may come in."""
        agent = self._fleet.agents.get(name)
        return 0.0 if agent is None else agent.conduct.wait_s(self._clock.monotonic())
