import asyncio

from hub.services.feed import Feed
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
