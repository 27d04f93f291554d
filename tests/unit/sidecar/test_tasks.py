"""The promises of jobs that run as one."""

import asyncio

import pytest

from sidecar.tasks import together, uninterrupted


async def test_the_first_error_ends_all_and_is_told() -> None:
    ended: list[str] = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("endless")

    async def breaks() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await together(endless(), breaks())

    assert ended == ["endless"]


async def test_the_first_to_end_ends_all() -> None:
    async def endless() -> None:
        await asyncio.Event().wait()

    async def short() -> None:
        await asyncio.sleep(0)

    await together(endless(), short())


async def test_cancelling_reaches_all_jobs() -> None:
    begun = asyncio.Event()
    ended = asyncio.Event()

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(together(endless()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert ended.is_set()


@pytest.mark.parametrize("after", range(4))
async def test_a_cancellation_is_never_lost_however_close_to_the_end_of_the_work_it_comes(after: int) -> None:
    may_end = asyncio.Event()
    ended: list[str] = []

    async def work() -> None:
        await may_end.wait()
        ended.append("work")

    task = asyncio.create_task(uninterrupted(work()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    may_end.set()
    for _ in range(after):
        await asyncio.sleep(0)
        if task.done():
            return
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert ended == ["work"]
