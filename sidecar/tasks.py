"""Run several endless jobs as one: none of them can die unseen, and none outlives the others."""

import asyncio
from collections.abc import Coroutine


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
