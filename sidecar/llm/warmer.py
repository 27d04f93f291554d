"""Load models before their work comes, because the hub says that it is about to: the load is then no wait.

Loading is a wish, never an order: a server that is busy or has no room goes on as it was, and what fails is logged and
nothing more, as the work itself loads its model. A wish that is taken back stops the load, or has the model leave if
nobody has used it since. The caller is ``sidecar/runner.py``, with the hub's word.
"""

import asyncio
from collections.abc import Coroutine

import structlog

from protocol.errors import WorkFailed
from protocol.messages import Prewarm
from sidecar.llm.endpoints import Endpoints

log = structlog.get_logger(__name__)


class Warmer:
    """The wishes that are under way."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._loads: dict[tuple[str, str], asyncio.Task[None]] = {}

    def hear(self, wish: Prewarm) -> None:
        """Begin to load, or take it back."""
        key = wish.endpoint, wish.model
        under_way = self._loads.get(key)
        if wish.on and under_way is None:
            self._begin(key, self._load(wish))
        elif not wish.on:
            if under_way is not None:
                under_way.cancel()
            self._begin(key, self._release(wish, after=under_way))

    def _begin(self, key: tuple[str, str], doing: Coroutine[None, None, None]) -> None:
        task = self._loads[key] = asyncio.create_task(doing, name=f"prewarm-{key[1]}")
        task.add_done_callback(lambda done: self._ended(key, done))

    def _ended(self, key: tuple[str, str], done: asyncio.Task[None]) -> None:
        if self._loads.get(key) is done:
            del self._loads[key]
        if not done.cancelled() and (bug := done.exception()) is not None:
            log.error("prewarm_broke", model=key[1], exc_info=bug)

    async def _load(self, wish: Prewarm) -> None:
        try:
            loader = await self._endpoints.loader(wish.endpoint)
            if loader is None:
                return
            if await loader.load(wish.model, context=wish.context, keep_alive_s=wish.keep_alive_s):
                log.info("model_prewarmed", endpoint=wish.endpoint, model=wish.model)
        except WorkFailed as exc:
            log.info("prewarm_failed", endpoint=wish.endpoint, model=wish.model, why=str(exc))

    async def _release(self, wish: Prewarm, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await asyncio.wait([after])
        try:
            loader = await self._endpoints.loader(wish.endpoint)
            if loader is not None:
                await loader.unload(wish.model)
        except WorkFailed as exc:
            log.info("prewarm_failed", endpoint=wish.endpoint, model=wish.model, why=str(exc))

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        while self._loads:
            await asyncio.wait(list(self._loads.values()))

    async def close(self) -> None:
        """Stop what is under way; what is loaded leaves by itself."""
        loads = list(self._loads.values())
        for task in loads:
            task.cancel()
        await asyncio.gather(*loads, return_exceptions=True)
