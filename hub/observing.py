"""What watches a hub: its counts, their history, and what is wrong. Put together here, for ``hub/assembly.py``."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from hub.core.fleet import Fleet
from hub.core.window import Window
from hub.gateway.connection import Links
from hub.metrics import Metrics
from hub.services.counting import Counting
from hub.services.membership import Membership
from hub.services.recording import Recording
from hub.services.watch import Watch
from hub.store.backend import Backend
from hub.store.store import Start
from protocol.clock import Clock


@dataclass(frozen=True, slots=True)
class Observing:
    """The parts that watch; none of them decides anything about work."""

    counting: Counting
    recording: Recording

    @property
    def loops(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """What has to run for as long as the hub does."""
        return self.counting.run, self.recording.run


def observing(
    store: Backend, start: Start, fleet: Fleet, window: Window, links: Links, clock: Clock, watch: Watch | None
) -> tuple[Observing, Metrics]:
    """The parts, before there is anything to lead (see :func:`led`), and what Prometheus sees of the hub."""
    counting = Counting(store, clock, start.measures)
    recording = Recording(store, fleet, window, clock, counting.tally)
    recording.is_behind = lambda: counting.is_behind
    if watch is not None:
        recording.machine = watch.figures
    return Observing(counting, recording), Metrics(store, fleet, links, window, counting.tally, clock)


def led(parts: Observing, membership: Membership) -> Observing:
    """The parts, which know whether this hub leads."""
    parts.recording.leads = lambda: membership.leader is not None
    return parts
