"""The newest events, in memory: whoever follows them need not read the rows that have just been written.

A copy of the end of the log, never more than that. It answers only if it holds everything that was asked for; else the
rows do. On a database with several hubs the others' events are missing here: a gap ends what came before it.
"""

from collections.abc import Sequence

from protocol.events import Event


class Recent:
    """At least the last ``most`` events of those that came without a gap; twice as many at times."""

    def __init__(self, most: int = 5_000) -> None:
        self._most = most
        self._events: list[Event] = []

    def add(self, events: Sequence[Event]) -> None:
        """These have been committed, in this order."""
        if not events:
            return
        if self._events and events[0].seq != self._events[-1].seq + 1:
            self._events.clear()
        self._events += events
        if len(self._events) > 2 * self._most:
            del self._events[: -self._most]

    def behind(self, after: int, limit: int) -> list[Event] | None:
        """The first ``limit`` events behind ``after``, oldest first; ``None`` if some of them may not be here."""
        first = self._events[0].seq if self._events else after + 2
        if after + 1 < first:
            return None
        return self._events[after + 1 - first : after + 1 - first + limit]
