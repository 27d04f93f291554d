"""SAQ on Redis, one worker process: 64 submissions in flight, 50 jobs at a time."""

import asyncio
import contextlib
import os
from pathlib import Path

from common import PYTHON, arguments, measure, processes
from saq import Job, Queue
from saq.queue.base import JobError

IN_FLIGHT = 64
STARTS = 10
ENDED = frozenset({"complete", "failed", "aborted"})


async def noop(_context: object, *, number: int) -> int:
    return number


if "PEER_REDIS" in os.environ:  # the worker imports this module
    settings = {"queue": Queue.from_url(os.environ["PEER_REDIS"]), "functions": [noop], "concurrency": 50}


async def until_served(queue: Queue) -> None:
    """Wait for the worker. One that starts sweeps away what it has just taken itself, at times."""
    for _ in range(STARTS):
        with contextlib.suppress(JobError):
            await queue.apply("noop", number=0)
            return
    raise TimeoutError


async def main() -> None:
    asked = arguments()
    with processes() as running:
        url = running.redis(asked.mode)
        here = str(Path(__file__).parent)
        running.start("worker", PYTHON, "-m", "saq", "saq_peer.settings", env={"PEER_REDIS": url, "PYTHONPATH": here})
        queue = Queue.from_url(url, max_concurrent_ops=IN_FLIGHT)
        await queue.connect()
        await until_served(queue)
        gate = asyncio.Semaphore(IN_FLIGHT)

        async def one(number: int) -> Job | None:
            async with gate:
                return await queue.enqueue("noop", number=number)

        async def submit(count: int) -> list[Job]:
            return await asyncio.gather(*(one(number) for number in range(count)))

        async def wait(jobs: list[Job]) -> None:
            left = [job.key for job in jobs]
            while left:
                found = [job for at in range(0, len(left), 500) for job in await queue.jobs(left[at : at + 500])]
                left = [key for key, job in zip(left, found, strict=True) if not job or job.status not in ENDED]
                if left:
                    await asyncio.sleep(0.01)

        async def round_trip() -> None:
            await queue.apply("noop", number=0, poll_interval=0.0005)

        await measure(running, tasks=asked.tasks, idle=asked.idle, submit=submit, wait=wait, round_trip=round_trip)
        await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(main())
