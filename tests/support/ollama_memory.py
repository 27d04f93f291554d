"""The memory of the stand-in for Ollama: which models are loaded, who may use them, what has to go.

Keeps to the manners of the real scheduler: a loaded model answers ``num_parallel`` requests at a time and lets any
number wait in silence; who needs a load waits in a bounded queue that is served one by one, and is refused when it is
full; another context length is another load; idle models go first, the one with the shortest ``keep_alive`` before the
others; a busy one is never thrown out. Nothing here takes time by itself: ``load_s`` and ``hold_loads`` say how long a
load lasts.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tests.support.ollama_shapes import Model, go_time, listed

COLD_LOAD_NS: Final = 300_000_000
WARM_LOAD_NS: Final = 1_200_000
BUSY: Final = "server busy, please try again.  maximum pending requests exceeded"


class QueueFull(Exception):
    """Too many requests wait for a load; the server answers 503."""


@dataclass(eq=False, slots=True)
class Resident:
    """A model in memory, or on its way there."""

    model: Model
    context: int
    size_bytes: int
    vram_bytes: int
    keep_alive_s: float
    expires_at: datetime
    slots: asyncio.Semaphore
    is_loading: bool = True
    users: int = 0
    """Requests that it answers, and those that wait for a slot of it."""

    @property
    def shown(self) -> dict[str, Any]:
        """As ``/api/ps`` lists it."""
        more = {"expires_at": go_time(self.expires_at), "size": self.size_bytes, "size_vram": self.vram_bytes}
        return listed(self.model) | more | {"context_length": self.context}


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(eq=False, slots=True)
class Memory:
    """What is loaded.

    Args:
        vram_bytes: memory of the GPU; 0: none, everything is in main memory. A model that is larger than it is put
            there in part.
        num_parallel, max_loaded, max_queue: OLLAMA_NUM_PARALLEL, OLLAMA_MAX_LOADED_MODELS and OLLAMA_MAX_QUEUE.
        load_s: how long a load really takes.
        hold_loads: loads wait until this is set.
        now: the time; models whose ``keep_alive`` is over are gone at the next look.
    Attributes:
        loads: names of the models that were loaded, in order; one that was loaded again stands there again.
    """

    vram_bytes: int = 24_000_000_000
    num_parallel: int = 1
    max_loaded: int = 3
    max_queue: int = 512
    load_s: float = 0.0
    hold_loads: asyncio.Event | None = None
    now: Callable[[], datetime] = _utc_now
    residents: dict[str, Resident] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    _waiting: int = 0
    _hand: asyncio.Lock = field(default_factory=asyncio.Lock)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def look(self) -> list[Resident]:
        """What is loaded now, the one that stays longest first."""
        for name, resident in list(self.residents.items()):
            if not resident.users and not resident.is_loading and resident.expires_at <= self.now():
                del self.residents[name]
        return sorted(self.residents.values(), key=lambda each: each.expires_at, reverse=True)

    @asynccontextmanager
    async def turn(self, model: Model, context: int, keep_alive_s: float) -> AsyncIterator[tuple[int, int]]:
        """A slot of the model, loaded with that context; gives the nanoseconds that the load and the wait took.

        Raises:
            QueueFull: too many wait for a load.
        """
        resident, load_ns = await self._taken(model, context, keep_alive_s)
        came_at = asyncio.get_running_loop().time()
        try:
            async with resident.slots:
                yield load_ns, int((asyncio.get_running_loop().time() - came_at) * 1e9)
        finally:
            resident.users -= 1
            resident.keep_alive_s = keep_alive_s
            resident.expires_at = self.now() + timedelta(seconds=keep_alive_s)
            if keep_alive_s == 0 and not resident.users:
                self._drop(resident)
            self._tell()

    def unload(self, model: Model) -> None:
        """Let the model go as soon as nobody uses it."""
        resident = self.residents.get(model.name)
        if resident is not None:
            resident.keep_alive_s, resident.expires_at = 0.0, self.now()
            self._tell()

    async def _taken(self, model: Model, context: int, keep_alive_s: float) -> tuple[Resident, int]:
        """The model, loaded and in use by one more; who waits for a slot of it counts, so it cannot be thrown out."""
        while True:
            self.look()
            news, resident = self._news, self.residents.get(model.name)
            if resident is None or resident.context != context:
                resident, is_new = await self._queued(model, context, keep_alive_s)
                resident.users += 1
                return resident, COLD_LOAD_NS + int(self.load_s * 1e9) if is_new else WARM_LOAD_NS
            if not resident.is_loading:
                resident.users += 1
                return resident, WARM_LOAD_NS
            await news.wait()

    async def _queued(self, model: Model, context: int, keep_alive_s: float) -> tuple[Resident, bool]:
        if self._waiting > self.max_queue:  # one is in hand, the queue holds the others
            raise QueueFull
        self._waiting += 1
        try:
            async with self._hand:
                found = self.residents.get(model.name)
                if found is not None and found.context == context:
                    return found, False  # who stood before us has loaded it
                return await self._load(model, context, keep_alive_s), True
        finally:
            self._waiting -= 1

    async def _load(self, model: Model, context: int, keep_alive_s: float) -> Resident:
        size = model.size_bytes + model.kv_bytes_per_token * context * self.num_parallel
        while (blocking := self._in_the_way(model, size)) is not None:
            if blocking.users:
                await self._news.wait()
            else:
                self._drop(blocking)
        vram = min(size, self.vram_bytes - sum(each.vram_bytes for each in self.residents.values()))
        until = self.now() + timedelta(seconds=keep_alive_s)
        slots = asyncio.Semaphore(self.num_parallel)
        resident = Resident(model, context, size, max(0, vram), keep_alive_s, until, slots)
        self.residents[model.name] = resident
        self.loads.append(model.name)
        try:
            await asyncio.sleep(self.load_s)
            if self.hold_loads is not None:
                await self.hold_loads.wait()
        except asyncio.CancelledError:
            self._drop(resident)
            raise
        resident.is_loading = False
        self._tell()
        return resident

    def _in_the_way(self, model: Model, size: int) -> Resident | None:
        """What has to go before the load may begin: an idle one if there is any, else one to wait for."""
        self.look()
        own = self.residents.get(model.name)
        if own is not None:
            return own  # loaded with another context
        used = sum(each.vram_bytes for each in self.residents.values())
        has_room = not self.vram_bytes or used + size <= self.vram_bytes
        if not self.residents or (has_room and len(self.residents) < self.max_loaded):
            return None
        return min(self.residents.values(), key=lambda each: (each.users > 0, each.keep_alive_s))

    def _drop(self, resident: Resident) -> None:
        if self.residents.get(resident.model.name) is resident:
            del self.residents[resident.model.name]

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
