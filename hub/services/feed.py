"""Wake those who read events and output: something new has been committed.

Only a wake-up: readers go to the rows by sequence number, so a wake-up that is lost or comes twice changes nothing.
Whoever wants some kinds only sleeps through the commits that hold none of them, and learns how far those went.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from protocol.events import Event, EventKind

_Wake = asyncio.Future[int | None]
_Waiting = dict[_Wake, frozenset[str]]
"""Who waits for what (nothing: for everything), in the order they came: all runs wake readers in the same order."""
_Told = Callable[[int | None], None]
_ALL: Final[frozenset[str]] = frozenset()
_ASSIGNED: Final = EventKind.TASK_ASSIGNED
MOST_AT_ONCE: Final = 16
"""Readers that a commit may wait for: with more of them the next one begins first."""
_LATE: Final = -1
"""What a reader is woken with whose time has run out."""


class Feed:
    """Waits for commits.

    Attributes:
        comes_first: whether nothing of the commit that is told of is more urgent: no assignment that has yet to leave.
    """

    def __init__(self, newest: int = 0) -> None:
        self._newest = newest
        self.comes_first = False
        self._events: _Waiting = {}
        self._followers: dict[object, tuple[frozenset[str], _Told]] = {}
        self._logs: dict[str, _Waiting] = {}
        self._output: _Waiting = {}

    @property
    def newest(self) -> int:
        """The newest event that was told of here."""
        return self._newest

    def committed(self, events: Sequence[Event]) -> None:
        """These events are durable now."""
        if not events:
            return
        before = self._newest
        self._newest = max(before, events[-1].seq)
        if self._events or self._followers:
            self._tell(events, before)
        if self._logs:
            for event in events:
                if event.task in self._logs:
                    _wake(self._logs.pop(event.task))
        if self._output:
            _wake(self._output)

    def saw(self, newest: int) -> None:
        """Events up to ``newest`` are durable, and nobody has said of which kinds they are."""
        self._newest = max(self._newest, newest)
        self._tell_all()
        _wake(self._output)

    def _tell_all(self) -> None:
        _wake(self._events)
        for _, told in tuple(self._followers.values()):
            told(None)

    def _tell(self, events: Sequence[Event], before: int) -> None:
        """Wake those who wait for one of ``events``, and for what came behind the event ``before``."""
        if events[0].seq != before + 1:  # there are others in between: of another hub, which may tell of them later
            self._tell_all()
            return
        told = {event.kind for event in events}
        for future, kinds in tuple(self._events.items()):
            if kinds and kinds.isdisjoint(told):
                continue
            del self._events[future]
            _end(future, before)
        self.comes_first = _ASSIGNED not in told and len(self._followers) <= MOST_AT_ONCE
        for kinds, news in tuple(self._followers.values()):
            if not kinds or not kinds.isdisjoint(told):
                news(before)

    def logged(self, task: str) -> None:
        """New output of ``task`` is durable now."""
        _wake(self._logs.pop(task, {}))
        _wake(self._output)

    def look(self) -> None:
        """There may be new output of any task, stored by another hub."""
        for task in list(self._logs):
            self.logged(task)

    async def wait(self, after: int, timeout_s: float) -> bool:
        """Wait until there is an event behind ``after``; ``False`` if the time ran out."""
        await self.wait_for(_ALL, after, timeout_s)
        return self._newest > after

    async def wait_for(self, kinds: frozenset[str], after: int, timeout_s: float) -> int:
        """Wait until there may be an event of one of these kinds (none named: any) behind ``after``, or time runs out.

        Returns:
            Behind which event to look: none of those up to there is wanted.
        """
        if self._newest > after:
            return after
        found = await _until(self._events, kinds, timeout_s, lambda: self._newest)
        return max(after, found or 0)

    def follow(self, kinds: frozenset[str], told: _Told) -> Callable[[], None]:
        """Have ``told`` called at each commit that may hold an event of these kinds (none named: any).

        It learns behind which event to look, if it has looked since it was told the last time: between there and what
        it has seen is nothing that it wants. ``None``: where it stands.

        Returns:
            What ends that.
        """
        place = object()
        self._followers[place] = kinds, told

        def leave() -> None:
            del self._followers[place]

        return leave

    async def wait_logs(self, task: str, timeout_s: float) -> bool:
        """Wait until something of ``task`` is new; ``False`` if the time ran out."""
        waiting = self._logs.setdefault(task, {})
        try:
            return await _until(waiting, _ALL, timeout_s) != _LATE
        finally:
            if not waiting and self._logs.get(task) is waiting:
                del self._logs[task]

    async def wait_output(self, timeout_s: float) -> bool:
        """Wait until there may be new output of any task; ``False`` if the time ran out."""
        return await _until(self._output, _ALL, timeout_s) != _LATE


def _wake(waiting: _Waiting) -> None:
    woken = tuple(waiting)
    waiting.clear()
    for future in woken:
        _end(future, None)


def _end(future: _Wake, found: int | None) -> None:
    if not future.done():
        future.set_result(found)


async def _until(
    waiting: _Waiting, kinds: frozenset[str], timeout_s: float, at_last: Callable[[], int] = lambda: _LATE
) -> int | None:
    """What the wait was ended with; when its time runs out, with what ``at_last`` says in that moment."""
    loop = asyncio.get_running_loop()
    future: _Wake = loop.create_future()
    waiting[future] = kinds
    # No timeout(): that costs five times as much.
    timer = loop.call_later(timeout_s, lambda: _end(future, at_last()))
    try:
        return await future
    finally:
        timer.cancel()
        waiting.pop(future, None)
