import asyncio
from typing import cast

import pytest

from hub.gateway.connection import Link
from hub.gateway.line import Line
from hub.gateway.patience import ROUNDS, Patience, Waited
from protocol.session import Session

_SHORT_S = 0.005
_MOST_S = 4_000.0


class Coming:
    """A line of which only the bytes matter."""

    def __init__(self) -> None:
        self.received_bytes = 7


class HandClock:
    """The time that a test says."""

    at = 0.0

    def now_ms(self) -> int:
        return int(self.at * 1000)

    def monotonic(self) -> float:
        return self.at


def waited(line: Coming) -> Waited:
    return Waited(cast("Line", line), Link("a", 1, Session()), asyncio.timeout(None), 0.0)


def is_over(of: Waited, now: float) -> bool:
    return of.is_over(now, 1_000.0, _MOST_S)


async def test_a_line_that_says_nothing_is_waited_for_once() -> None:
    of = waited(Coming())
    assert [is_over(of, now) for now in (0.0, 999.0, 1_000.0)] == [False, False, True]


async def test_a_frame_that_comes_in_parts_is_waited_for_but_not_for_ever() -> None:
    line = Coming()
    of = waited(line)
    for now in (1_500.0, 2_400.0, 3_300.0):
        line.received_bytes += 1
        assert not is_over(of, now)
    line.received_bytes += 1
    assert is_over(of, _MOST_S)


async def test_a_frame_that_comes_no_further_is_given_up_after_the_same_time() -> None:
    line = Coming()
    of = waited(line)
    line.received_bytes += 1
    assert [is_over(of, now) for now in (1_500.0, 2_499.0, 2_500.0)] == [False, False, True]


async def test_each_frame_begins_the_wait_anew() -> None:
    of = waited(Coming())
    assert of.heard(2_000.0) == 7
    assert [is_over(of, now) for now in (2_000.0, 2_999.0, 3_000.0)] == [False, False, True]


async def test_all_are_looked_at_with_one_timer_that_ends_with_the_last_of_them() -> None:
    clock = HandClock()
    patience = Patience(clock, seconds=60.0, longest_s=10.0, heartbeat_s=ROUNDS * _SHORT_S)
    silent, loud = Link("silent", 1, Session(heartbeat_s=15.0)), Link("loud", 1, Session(heartbeat_s=15.0))
    for link in (silent, loud):
        link.session.connected(0, clock.at)
    async with asyncio.timeout(None) as limit, asyncio.timeout(None) as other:
        first = patience.begin(cast("Line", Coming()), silent, limit)
        timer = patience._timer
        second = patience.begin(cast("Line", Coming()), loud, other)
        assert patience._timer is timer
        clock.at = 15.0
        loud.session.heard(loud.session.read_bytes + 1, clock.at)
        await silent.work.wait()
        assert not loud.work._is_set, "it was heard of"
        patience.stop(second)
        assert patience._timer is not None
        patience.stop(first)
        assert patience._timer is None


@pytest.mark.parametrize("is_slow", [False, True])
async def test_who_is_waited_for_too_long_is_told_so_once(*, is_slow: bool) -> None:
    """Also if the turn of the loop that found it out lasts for so long that the next round comes before its end."""
    clock = HandClock()
    patience = Patience(clock, seconds=60.0, longest_s=10.0, heartbeat_s=ROUNDS * _SHORT_S)

    async def wait() -> None:
        async with asyncio.timeout(None) as limit:
            begun = patience.begin(cast("Line", Coming()), Link("a", 1, Session()), limit)
            clock.at = 60.0
            try:
                await asyncio.Event().wait()
            finally:
                if is_slow:
                    patience._look()
                patience.stop(begun)

    with pytest.raises(TimeoutError):
        await wait()
    assert patience._timer is None
