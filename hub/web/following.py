"""A reader of the event stream who has seen all that there is: told of each commit in a callback of it.

Of one that gives work to agents it hears a turn of the event loop later: assignments leave first.
Nothing waits here and no task wakes. What cannot be told at once is left to whoever reads page by page
(``hub/web/events.py``): events that are not in memory, a reader that is slow, a token that has to be looked at.
"""

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from aiohttp import web

from hub.services.feed import Feed
from hub.services.insight import Insight
from hub.store.rows import moment
from hub.web.replies import encode
from hub.web.stream import Stream, chunk
from protocol.events import Event

PAGE: Final = 200
"""Events that are written at once; mostly less than a stream writes in one piece."""
_MOST_KEPT: Final = 16


def frames(events: Sequence[Event]) -> bytes:
    """These events as a stream tells them: each as an event of its own, byte for byte what its view is as JSON."""
    told: list[str] = []
    at_ms, kind, agent, facts = -1, None, None, None  # of the event before: mostly the same
    at = named = shown = ""
    host = "null"
    for event in events:
        if event.at_ms != at_ms:
            at_ms, at = event.at_ms, _time(event.at_ms)
        if event.kind is not kind:
            kind, named = event.kind, _word(event.kind)
        if event.agent is not agent:
            agent, host = event.agent, _word(event.agent)
        if event.facts is not facts:
            facts, shown = event.facts, _text(event.facts)
        task, epoch = event.task, "null" if event.epoch is None else event.epoch
        # An id of letters and digits needs no escaping.
        task = f'"{task}"' if task is not None and task.isalnum() else _text(task)
        told.append(
            f'id: {event.seq}\ndata: {{"seq":{event.seq},"at":{at},"kind":{named},'
            f'"task":{task},"agent":{host},"epoch":{epoch},"facts":{shown}}}\n\n'
        )
    return "".join(told).encode()


def _text(part: object) -> str:
    return encode(part).decode()


def _time(ms: int) -> str:
    second, ms = divmod(ms, 1_000)
    return f'"{_second(second)}.{ms:03d}000Z"' if ms else f'"{_second(second)}Z"'


@lru_cache(64)  # many commits fall into one
def _second(second: int) -> str:
    return moment(second * 1_000).isoformat()[:19]


_word: Final = lru_cache(256)(_text)
"""Kinds are few, and agents have much to tell."""


class Told:
    """What readers are told who stand at the same place and want the same: made once for all of them."""

    def __init__(self) -> None:
        self._newest = 0
        self._made: dict[tuple[int, frozenset[str]], bytes] = {}

    def of(self, newest: int, after: int, kinds: frozenset[str], events: Sequence[Event]) -> bytes:
        """Those of ``events``, the next ones behind ``after``, that are of these kinds (none named: any)."""
        if newest != self._newest or len(self._made) >= _MOST_KEPT:
            self._newest, self._made = newest, {}
        made = self._made.get((after, kinds))
        if made is None:
            wanted = [event for event in events if event.kind in kinds] if kinds else events
            made = self._made[after, kinds] = chunk(frames(wanted)) if wanted else b""
        return made


TOLD: Final = web.AppKey("told", Told)


class Follower:
    """One reader, behind the event ``after``."""

    def __init__(
        self, stream: Stream, insight: Insight, feed: Feed, told: Told, kinds: frozenset[str], after: int
    ) -> None:
        self._stream, self._insight, self._feed, self._told = stream, insight, feed, told
        self._kinds, self._after = kinds, after
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[int] = self._loop.create_future()
        self._is_due = False

    async def follow(self) -> int:
        """Tell of commits until that is not enough.

        Returns:
            Behind which event to look: the reader was told of all up to there that it wants.
        """
        if self._feed.newest > self._after:
            return self._after
        leave = self._feed.follow(self._kinds, self._news)
        timer = self._loop.call_later(self._stream.rests_in, self._tick)
        try:
            return await self._over
        finally:
            leave()
            timer.cancel()

    def _news(self, before: int | None) -> None:
        """There is something behind ``before``; ``None``: perhaps, and it has to be read."""
        if self._over.done():
            return
        if before is None:
            self._over.set_result(self._after)
        elif not self._is_due:
            self._after = max(self._after, before)
            if self._feed.comes_first:
                self._look()
            else:
                self._is_due = True
                self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._is_due = False
        if self._over.done():
            return
        try:
            if not self._tell():
                self._over.set_result(self._after)
        except Exception as exc:  # noqa: BLE001 - the loop would only log it; whoever waits is told
            self._over.set_exception(exc)

    def _tell(self) -> bool:
        """Write what is new; ``False``: not all of it could be."""
        while True:
            found = self._insight.newest_behind(self._after, PAGE)
            if found is None:
                return False
            if found:
                page = self._told.of(self._insight.newest_event, self._after, self._kinds, found)
                if page and not self._stream.tell(page):
                    return False
                self._after = found[-1].seq
            if len(found) < PAGE:
                return True

    def _tick(self) -> None:
        """It is time to show life, and to look at the token."""
        if not self._over.done():
            # Who was not told of the newest events does not want them, or will be in this turn of the loop.
            self._over.set_result(self._after if self._is_due else max(self._after, self._feed.newest))
