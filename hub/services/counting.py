"""Count what the event log says, and go on counting where the last hub has stopped.

What this hub commits is counted as it is committed. What is missing (events of other hubs, or of the time before the
counts were last kept) is read from the rows, in order: so the counts always are those of the log up to one number.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import structlog

from hub.core.measures import Measure
from hub.core.tally import Tally, recalled
from hub.store.hub_changes import KeepMeasures
from hub.store.store import Store
from protocol.clock import Clock
from protocol.errors import Unavailable
from protocol.events import Event

log = structlog.get_logger(__name__)
ABOUT: Final = "tally"
KEEP_S: Final = 60.0
LOOK_S: Final = 5.0
PAGE: Final = 500


class Counting:
    """The counts of one hub; ``tally`` is behind the log only while :attr:`is_behind`."""

    def __init__(self, store: Store, clock: Clock, measures: Iterable[Measure] = ()) -> None:
        self._store, self._clock = store, clock
        self.tally = _recalled(measures)
        self._kept = self.tally.seq
        self.is_behind = self.tally.seq < store.newest_event

    def committed(self, events: Sequence[Event]) -> None:
        """These events are durable now."""
        if not events:
            return
        if not self.is_behind and events[0].seq == self.tally.seq + 1:
            self.tally.add(events)
        else:
            self.is_behind = True

    async def run(self) -> None:
        """Read what is missing, and keep the counts now and then, until cancelled; then once more."""
        loop = asyncio.get_running_loop()
        keep_at = loop.time() + KEEP_S
        try:
            while True:
                try:
                    await self.catch_up()
                except Unavailable as exc:
                    log.warning("counts_behind", why=str(exc), next=f"again in {LOOK_S:g} s")
                if loop.time() >= keep_at:
                    keep_at += KEEP_S
                    self.keep()
                await asyncio.sleep(LOOK_S)
        finally:
            self.keep()

    async def catch_up(self) -> None:
        """Count what is not counted."""
        self.is_behind = self.is_behind or self.tally.seq < self._store.newest_event
        while self.is_behind:
            page = await self._store.events(self.tally.seq, PAGE)
            self.tally.add(page)
            # What was committed meanwhile is behind this page, or is in it.
            self.is_behind = bool(page) and self.tally.seq < self._store.newest_event

    def keep(self) -> None:
        """Store the counts, if there is anything new in them."""
        if self.tally.seq == self._kept:
            return
        self._kept = self.tally.seq
        measure = Measure(ABOUT, "all", self.tally.kept())
        self._store.post(KeepMeasures(at_ms=self._clock.now_ms(), measures=(measure,), most=1))


def _recalled(measures: Iterable[Measure]) -> Tally:
    for measure in measures:
        if measure.about == ABOUT:
            try:
                return recalled(measure.value)
            except msgspec.DecodeError as exc:  # of another version
                log.warning("counts_forgotten", why=str(exc), next="counted again from the first event there is")
    return Tally()
