"""Dramatiq on Redis with its result backend, one worker process of 8 threads."""

import asyncio
import os
from pathlib import Path
from typing import Any

import dramatiq
from common import PYTHON, arguments, measure, processes
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Callbacks, Retries, TimeLimit
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

PATIENCE_MS = 120_000


def connect(url: str) -> dramatiq.Actor[Any, Any]:
    broker = RedisBroker(url=url, middleware=[Retries(max_retries=3), TimeLimit(), Callbacks()])
    broker.add_middleware(Results(backend=RedisBackend(url=url), store_results=True))
    dramatiq.set_broker(broker)
    return dramatiq.actor(noop)


def noop(number: int) -> int:
    return number


if "PEER_REDIS" in os.environ:  # the worker imports this module
    connect(os.environ["PEER_REDIS"])


async def main() -> None:
    asked = arguments()
    with processes() as running:
        url = running.redis(asked.mode)
        env = {"PEER_REDIS": url, "PYTHONPATH": str(Path(__file__).parent), "dramatiq_queue_prefetch": "64"}
        running.start("worker", PYTHON, "-m", "dramatiq", "dramatiq_peer", "-p", "1", "-t", "8", env=env)
        actor = connect(url)

        def results(messages: list[Any]) -> None:
            for message in messages:
                message.get_result(block=True, timeout=PATIENCE_MS)

        async def submit(count: int) -> list[Any]:
            return list(await asyncio.to_thread(lambda: [actor.send(number) for number in range(count)]))

        async def wait(messages: list[Any]) -> None:
            await asyncio.to_thread(lambda: results(messages))

        async def round_trip() -> None:
            await asyncio.to_thread(lambda: results([actor.send(0)]))

        await measure(running, tasks=asked.tasks, idle=asked.idle, submit=submit, wait=wait, round_trip=round_trip)


if __name__ == "__main__":
    asyncio.run(main())
