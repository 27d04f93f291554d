"""Wake those who read events and output: something new has been committed.

Only a wake-up: readers go to the rows by sequence number, so a wake-up that is lost or comes twice changes nothing.
"""

import asyncio
from collections.abc import Sequence

from protocol.events import Event

_Waiting = dict[asyncio.Future[None], None]
"""Who waits, in the order they came: readers are woken in the same order in every run."""


class Feed:
    """Waits for commits."""

    def __init__(self, newest: int = 0) -> None:
        self._newest = newest
        self._events: _Waiting = {}
        self._logs: dict[str, _Waiting] = {}
        self._output: _Waiting = {}

    def committed(self, events: Sequence[Event]) -> None:
        """These events are durable now."""
        if not events:
            return
        self._newest = max(self._newest, events[-1].seq)
        waiting, self._events = self._events, {}
        _wake(waiting)
        if self._logs:
            for event in events:
                if event.task in self._logs:
                    _wake(self._logs.pop(event.task))
        self._wake_output()

    def logged(self, task: str) -> None:
        """New output of ``task`` is durable now."""
        _wake(self._logs.pop(task, {}))
        self._wake_output()

    def _wake_output(self) -> None:
        waiting, self._output = self._output, {}
        _wake(waiting)

    def look(self) -> None:
        """There may be new output of any task, stored by another hub."""
        for task in list(self._logs):
            self.logged(task)

    async def wait(self, after: int, timeout_s: float) -> bool:
        """Wait until there is an event behind ``after``; ``False`` if the time ran out."""
        if self._newest > after:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._events[future] = None
        return await _until(future, self._events, timeout_s)

    async def wait_logs(self, task: str, timeout_s: float) -> bool:
        """Wait until something of ``task`` is new; ``False`` if the time ran out."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._logs.setdefault(task, {})
        waiting[future] = None
        try:
            return await _until(future, waiting, timeout_s)
        finally:
            if not waiting and self._logs.get(task) is waiting:
                del self._logs[task]

    async def wait_output(self, timeout_s: float) -> bool:
        """Wait until there may be new output of any task; ``False`` if the time ran out."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._output[future] = None
        return await _until(future, self._output, timeout_s)


def _wake(waiting: _Waiting) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)


async def _until(future: asyncio.Future[None], waiting: _Waiting, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):  # wait_for() may swallow the cancellation of a reader that leaves
            await future
    except TimeoutError:
        return False
    finally:
        waiting.pop(future, None)
    return True
