import asyncio

import pytest

from hub.services.feed import MOST_AT_ONCE, Feed
from protocol.events import Event, EventKind


def _event(seq: int, task: str | None = None) -> Event:
    return Event(kind=EventKind.TASK_QUEUED, at_ms=0, seq=seq, task=task)


async def test_what_is_committed_already_needs_no_wait() -> None:
    feed = Feed(newest=5)

    assert await feed.wait(4, timeout_s=0) is True


async def test_a_commit_wakes_everyone_who_waits_for_it() -> None:
    feed = Feed()
    waiting = [asyncio.ensure_future(feed.wait(0, timeout_s=5)) for _ in range(2)]
    output = asyncio.ensure_future(feed.wait_logs("t", timeout_s=5))
    await asyncio.sleep(0)
    feed.committed([_event(1, "t")])

    assert await asyncio.gather(*waiting, output) == [True, True, True]


async def test_output_of_any_task_wakes_whoever_reads_all_of_it() -> None:
    feed = Feed()
    waiting = asyncio.ensure_future(feed.wait_output(timeout_s=5))
    await asyncio.sleep(0)
    feed.logged("t")

    assert await waiting is True
    assert await feed.wait_output(timeout_s=0) is False
    assert feed._output == {}


async def test_a_wait_that_runs_out_says_so_and_leaves_nothing_behind() -> None:
    feed = Feed()

    assert await feed.wait(0, timeout_s=0) is False
    assert await feed.wait_logs("t", timeout_s=0) is False
    assert (feed._events, feed._logs) == ({}, {})


async def test_a_commit_without_events_wakes_nobody() -> None:
    feed = Feed()
    feed.committed([])

    assert await feed.wait(0, timeout_s=0) is False


_ENDS = frozenset({EventKind.TASK_COMPLETED.value})


async def test_who_wants_some_kinds_sleeps_through_the_others_and_learns_how_far_they_went() -> None:
    feed = Feed(newest=5)
    waiting = asyncio.ensure_future(feed.wait_for(_ENDS, 5, timeout_s=5))
    everything = asyncio.ensure_future(feed.wait_for(frozenset(), 5, timeout_s=5))
    await asyncio.sleep(0)
    feed.committed([_event(6), _event(7)])
    await asyncio.sleep(0)

    assert (waiting.done(), await everything) == (False, 5)
    feed.committed([_event(8), Event(kind=EventKind.TASK_COMPLETED, at_ms=0, seq=9)])
    assert await waiting == 7


async def test_who_waited_in_vain_need_not_look_at_what_came_meanwhile() -> None:
    feed = Feed(newest=5)
    waiting = asyncio.ensure_future(feed.wait_for(_ENDS, 5, timeout_s=0.05))
    await asyncio.sleep(0)
    feed.committed([_event(6)])

    assert await waiting == 6
    assert await feed.wait_for(_ENDS, 5, timeout_s=5) == 5  # nobody has looked at 6 for this one
    assert feed._events == {}


async def test_what_comes_when_the_time_has_run_out_is_not_passed_over() -> None:
    feed = Feed(newest=5)
    waiting = asyncio.ensure_future(feed.wait_for(_ENDS, 5, timeout_s=0))
    await asyncio.sleep(0)
    (reader,) = feed._events
    await asyncio.wait({reader})
    feed.committed([Event(kind=EventKind.TASK_COMPLETED, at_ms=0, seq=6)])  # the reader has not gone on yet

    assert await waiting == 5


async def test_events_that_nobody_has_told_of_wake_everyone_where_they_are() -> None:
    feed = Feed(newest=5)
    for news in (lambda: feed.committed([_event(7)]), lambda: feed.committed([_event(6)]), lambda: feed.saw(9)):
        at = feed._newest
        waiting = asyncio.ensure_future(feed.wait_for(_ENDS, at, timeout_s=5))
        await asyncio.sleep(0)
        news()

        assert await waiting == at


def test_who_follows_is_told_of_each_commit_that_holds_what_it_wants_until_it_leaves() -> None:
    feed = Feed(newest=5)
    ends: list[int | None] = []
    everything: list[int | None] = []
    leave, stay = feed.follow(_ENDS, ends.append), feed.follow(frozenset(), everything.append)
    feed.committed([_event(6)])
    feed.committed([_event(7), Event(kind=EventKind.TASK_COMPLETED, at_ms=0, seq=8)])
    feed.committed([_event(10)])  # 9 is of another hub
    leave()
    feed.saw(11)
    stay()
    feed.committed([_event(12)])

    assert ends == [6, None]
    assert everything == [5, 6, None, None]
    assert feed.newest == 12


@pytest.mark.parametrize(
    "kind, readers, is_first",
    [
        (EventKind.TASK_COMPLETED, 1, True),
        (EventKind.TASK_COMPLETED, MOST_AT_ONCE, True),
        (EventKind.TASK_COMPLETED, MOST_AT_ONCE + 1, False),
        (EventKind.TASK_ASSIGNED, 1, False),
    ],
)
def test_few_readers_come_first_unless_work_was_given_away(kind: EventKind, readers: int, is_first: bool) -> None:
    feed = Feed()
    seen: list[bool] = []
    for _ in range(readers):
        feed.follow(frozenset(), lambda _before: seen.append(feed.comes_first))
    feed.committed([Event(kind=kind, at_ms=0, seq=1)])

    assert seen == [is_first] * readers
