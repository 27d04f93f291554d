"""What watches a hub: its counts, their history, and what is wrong. Put together here, for ``hub/assembly.py``."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any

from hub.core.fleet import Fleet
from hub.core.matching import Match
from hub.core.routing import Requirements
from hub.core.window import Window
from hub.gateway.connection import Links
from hub.metrics import Metrics
from hub.notices import NOBODY, Notices
from hub.readings import Readings
from hub.services.alerting import Alerting
from hub.services.budgets import Budgets
from hub.services.counting import Counting
from hub.services.membership import Membership
from hub.services.notifying import Notifying
from hub.services.push_key import PushKey
from hub.services.recording import Recording
from hub.services.watch import Watch
from hub.store.backend import Backend
from hub.store.store import Start
from hub.vault import Vault
from protocol.clock import Clock
from protocol.ids import IdMaker


@dataclass(frozen=True, slots=True)
class Observing:
    """The parts that watch; none of them decides anything about work."""

    counting: Counting
    recording: Recording
    readings: Readings
    alerting: Alerting
    notifying: Notifying
    push_key: PushKey

    @property
    def loops(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """What has to run for as long as the hub does."""
        return self.counting.run, self.recording.run, self.alerting.run, self.notifying.run


def observing(  # noqa: PLR0913, PLR0917 - what it is made of
    store: Backend,
    start: Start,
    fleet: Fleet,
    window: Window,
    links: Links,
    clock: Clock,
    chance: Random,
    watch: Watch | None,
    vault: Vault,
    url: str,
) -> tuple[Observing, Metrics]:
    """The parts, before there is anything to lead (see :func:`led`), and what Prometheus sees of the hub."""
    counting = Counting(store, clock, start.measures)
    recording = Recording(store, fleet, window, clock, counting.tally)
    recording.is_behind = lambda: counting.is_behind
    if watch is not None:
        recording.machine = watch.figures
    ids = IdMaker(chance.getrandbits)
    readings = Readings(store, fleet, window, clock, counting.tally, watch)
    readings.is_behind = recording.is_behind
    alerting = Alerting(store, clock, ids, readings.take)
    alerting.past = readings.recall
    push_key = PushKey(store, clock, vault)
    notices = Notices(clock, push_key.key, url if url.startswith("https://") else NOBODY)
    notifying = Notifying(store, clock, ids, notices, vault)
    parts = Observing(counting, recording, readings, alerting, notifying, push_key)
    metrics = Metrics(store, fleet, links, window, counting.tally, clock)
    metrics.readings, metrics.alerting = readings, alerting
    return parts, metrics


def led(
    parts: Observing, membership: Membership, match: Callable[[Requirements], Match], budgets: Budgets
) -> Observing:
    """The parts, which know whether this hub leads, and what only the parts made after them can tell."""
    parts.recording.leads = parts.alerting.leads = parts.notifying.leads = lambda: membership.leader is not None
    parts.alerting.is_shared = lambda: len(membership.urls) > 1
    parts.readings.match, parts.readings.budgets = match, budgets
    return parts
