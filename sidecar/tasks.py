"""Run several endless jobs as one: none of them can die unseen, and none outlives the others; or one to its end."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def together(*jobs: Coroutine[None, None, None]) -> None:
    """Run all jobs until the first one ends, then end the others; its error is ours."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        done = [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which runs to its end even if the caller is cancelled; the cancellation follows then."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})  # raises nothing of the work's own: what is raised here is meant for the caller
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        if not task.cancelled():
            task.exception()
        raise cancelled
    return task.result()
