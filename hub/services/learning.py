"""Remember what attempts have used: how fast models answered, how much a kind of task asks of them.

Only measurements of finished work count. What was learnt is in memory (``hub/core/speeds.py``), and what has changed
goes to the store every few seconds: a hub that starts again begins with it. The scheduler reads it through the board.
"""

import asyncio
from typing import Final

from hub.core.agent import Held
from hub.core.board import find, model_of
from hub.core.fleet import Fleet
from hub.core.measures import MAX_KEPT
from hub.core.routing import requirements_of
from hub.core.speeds import Speed, Speeds, endpoint_of, size_of
from hub.store.hub_changes import KeepMeasures
from hub.store.store import Store
from protocol.clock import Clock
from protocol.model import EndpointKind, EndpointReport, Usage

KEEP_S: Final = 5.0


class Learning:
    """The use case of a report with measurements in it."""

    def __init__(self, store: Store, fleet: Fleet, speeds: Speeds, clock: Clock) -> None:
        self._store, self._fleet, self._speeds, self._clock = store, fleet, speeds, clock

    async def run(self) -> None:
        """Store what is new now and then, until cancelled, and then once more."""
        try:
            while True:
                await asyncio.sleep(KEEP_S)
                self.keep()
        finally:
            self.keep()

    def keep(self) -> None:
        """Store what is new."""
        if changed := self._speeds.changes():
            self._store.post(KeepMeasures(at_ms=self._clock.now_ms(), measures=tuple(changed), most=MAX_KEPT))

    def used(self, held: Held, usage: Usage) -> None:
        """An attempt has ended and says what it has used."""
        if held.repo:
            self._fleet.keep_repo(self._fleet.agents[held.agent].host or held.agent, held.repo)
        timing = usage.timing
        if held.server is not None and usage.input_tokens + usage.output_tokens > 0:
            self._speeds.saw_use(held.server, held.model, self._clock.now_ms())
        if timing is None and usage.seconds > 0:
            self._speeds.lasted(held.kind, usage.seconds)
        if held.server is None or timing is None or usage.output_tokens <= 0:
            return
        beside_s = max(0.0, usage.seconds - timing.model_s)
        self._speeds.used(held.kind, usage.input_tokens, usage.output_tokens, beside_s)
        try:
            server, endpoint, host = find(self._fleet, self._fleet.agents[held.agent], endpoint_of(held.server))
        except LookupError:
            return  # the endpoint went while the attempt was under way
        model = model_of(endpoint, held.model)
        if usage.cost_usd is not None:
            self._speeds.paid(server, held.model, usage.cost_usd, (usage.input_tokens, usage.output_tokens))
        self._speeds.answered(server, endpoint, held.crowd, queue_s=timing.queue_s, model_s=timing.model_s)
        before = self._speeds.of(server, endpoint, model, host)
        is_read_whole = self._reused(held, usage, endpoint, before)
        self._speeds.took(
            server,
            model.name if model else "",
            before,
            at=self._clock.monotonic(),
            size_bytes=size_of(model),
            load_s=timing.load_s or None,
            prefill=(usage.input_tokens - usage.cached_input_tokens, timing.prefill_s) if is_read_whole else None,
            decode=(
                usage.output_tokens,
                timing.decode_s or timing.model_s,
            ),  # without a split, reading counts as writing
        )

    def _reused(self, held: Held, usage: Usage, endpoint: EndpointReport, before: Speed) -> bool:
        """Note what the server did not read again; whether the seconds of reading are those of the tokens it tells.

        Servers that tell what they had in memory are believed. Ollama does not tell: there the time does, once it is
        known how fast it reads. Work in turns goes on from itself all the time, which says nothing about others.
        """
        if not held.known_tokens or held.server is None or usage.timing is None:
            return True
        if requirements_of(held.kind).executor == "chat":
            cached: float | None = usage.cached_input_tokens
            if endpoint.kind is EndpointKind.OLLAMA:
                read = usage.timing.prefill_s * before.prefill_tokens_per_s
                cached = usage.input_tokens - read if before.is_measured and read > 0 else None
            if cached is not None:
                self._speeds.reused(held.server, endpoint, held.known_tokens, cached)
        return endpoint.kind is not EndpointKind.OLLAMA
