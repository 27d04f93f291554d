import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from hub.gateway.line import Line
from hub.gateway.patience import patience

_SHORT_S = 0.005


class Coming:
    """A line of which only the bytes matter: they are what ``how_many`` says when it is asked."""

    def __init__(self, how_many: Callable[[], int]) -> None:
        self._how_many = how_many

    @property
    def received_bytes(self) -> int:
        return self._how_many()


def line(how_many: Callable[[], int]) -> Line:
    return cast("Line", Coming(how_many))


@pytest.mark.parametrize("longest_s", [_SHORT_S, 1_000 * _SHORT_S])
async def test_a_line_that_says_nothing_is_waited_for_once(longest_s: float) -> None:
    with pytest.raises(TimeoutError):
        async with patience(_SHORT_S, longest_s, line(lambda: 7)):
            await asyncio.Event().wait()


@pytest.mark.parametrize("silent_s, ends", [(1_500.0, False), (5_500.0, True)])
async def test_a_frame_that_comes_in_parts_is_waited_for_but_not_for_ever(silent_s: float, ends: bool) -> None:
    came = iter(range(9))
    async with patience(1_000.0, 4_000.0, line(lambda: next(came))) as waited:
        waited._heard_at -= silent_s
        waited._look()
        assert (waited._limit.when() is not None) is ends
        waited._limit.reschedule(None)


async def test_each_frame_begins_the_wait_anew() -> None:
    async with patience(1_000.0, 1_000.0, line(lambda: 7)) as waited:
        waited._heard_at -= 2_000.0
        assert waited.heard() == 7
        waited._look()
        assert waited._limit.when() is None

        waited._heard_at -= 2_000.0
        waited._look()
        assert waited._limit.when() is not None
        waited._limit.reschedule(None)


async def test_what_ends_in_time_leaves_no_timer_behind() -> None:
    async with patience(_SHORT_S, _SHORT_S, line(lambda: 7)) as waited:
        pass

    assert waited._timer.cancelled()
