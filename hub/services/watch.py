"""Look at the machine under the hub every second: room on the disk, memory, the log of the database, our own pace.

What is found decides about new tasks only (``hub/services/admission.py``); changes are told once, as events and in the
log, and stand in the health of the hub.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from hub.store.changes import Record
from hub.store.space import Space
from hub.store.store import Store
from protocol.api import ComponentHealth
from protocol.clock import Clock
from protocol.events import Event, EventKind

log = structlog.get_logger(__name__)
ROUND_S: Final = 1.0
_STEPS: Final = 4
"""Looks at our own pace in a round."""
MAX_LOG_BYTES: Final = 256 << 20
"""A database log longer than this means that a reader holds it open."""
LAG_S: Final = 0.5
"""Standing still for so long is worth a warning: heartbeats wait in the meantime."""
_MIB: Final = 1 << 20


class MemoryPort(Protocol):
    """The memory of this process."""

    used_bytes: int
    limit_bytes: int
    is_high: bool

    @property
    def detail(self) -> str:
        """In words."""
        ...

    def check(self) -> None:
        """Pass, or raise Overloaded."""
        ...

    def look(self) -> bool:
        """Ask again; whether ``is_high`` has changed."""
        ...


class Watch:
    """The loop over the machine.

    Attributes:
        space, memory: what it looks at; no ``space`` if the store is not on a disk of ours.
        lag_s: the longest time that the hub stood still in the last round.
        log_bytes: length of the database's write-ahead log.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        memory: MemoryPort,
        space: Space | None = None,
        *,
        log_bytes: Callable[[], int] = lambda: 0,
        store_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        self._store, self._clock, self._ask_log, self._ask_size = store, clock, log_bytes, store_bytes
        self.memory, self.space = memory, space
        self.lag_s = 0.0
        self.log_bytes = 0

    async def run(self) -> None:
        """Look until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            worst_s = 0.0
            for _ in range(_STEPS):
                due = loop.time() + ROUND_S / _STEPS
                await asyncio.sleep(ROUND_S / _STEPS)
                worst_s = max(worst_s, loop.time() - due)
            self.lag_s = worst_s
            if worst_s >= LAG_S:
                log.warning("hub_slow", stood_still_s=round(worst_s, 2), next="heartbeats were read late")
            self.look()

    def check(self) -> None:
        """Pass if the machine has room for new tasks.

        Raises:
            StorageFull, Overloaded: it has not.
        """
        if self.space is not None:
            self.space.check()
        self.memory.check()

    def look(self) -> None:
        """One round."""
        if self.space is not None and self.space.look():
            is_ok = self.space.state == "ok"
            log.warning("disk_changed", state=self.space.state, detail=self.space.detail)
            kind = EventKind.DISK_OK if is_ok else EventKind.DISK_LOW
            self._tell(kind, state=self.space.state, free_mb=self.space.free_bytes // _MIB)
        if self.memory.look():
            log.warning("memory_changed", is_high=self.memory.is_high, detail=self.memory.detail)
            kind = EventKind.MEMORY_HIGH if self.memory.is_high else EventKind.MEMORY_OK
            self._tell(kind, used_mb=self.memory.used_bytes // _MIB, limit_mb=self.memory.limit_bytes // _MIB)
        before, self.log_bytes = self.log_bytes, self._ask_log()
        if self.log_bytes > MAX_LOG_BYTES >= before:
            log.warning("store_log_long", mb=self.log_bytes // _MIB, next="look for a program that holds it open")

    @property
    def store_bytes(self) -> int:
        """Size of the store's file; 0 if it is none of ours."""
        return self._ask_size()

    def figures(self) -> dict[str, float]:
        """What is kept over time."""
        return {"loop_lag_s": self.lag_s, "store_log_bytes": float(self.log_bytes)}

    def components(self) -> dict[str, ComponentHealth]:
        """What the health of the hub says of the machine."""
        found = {
            "memory": ComponentHealth(state="degraded" if self.memory.is_high else "ok", detail=self.memory.detail)
        }
        if self.space is not None:
            is_long = self.log_bytes > MAX_LOG_BYTES
            detail = self.space.detail + (f"; the store's log is {self.log_bytes // _MIB} MiB long" if is_long else "")
            is_ok = self.space.state == "ok" and not is_long
            found["disk"] = ComponentHealth(state="ok" if is_ok else "degraded", detail=detail)
        return found

    def _tell(self, kind: EventKind, **facts: object) -> None:
        self._store.post(Record(Event(kind=kind, at_ms=self._clock.now_ms(), facts=facts)))
