"""Procrastinate on PostgreSQL, one worker of 10 jobs at a time, submissions in batches of 500.

It keeps no results, so its submitter asks the table how many jobs have succeeded.
"""

import asyncio
from pathlib import Path
from typing import Any

import procrastinate
import psycopg
from common import PYTHON, arguments, measure, processes

BATCH = 500


def application(store: str) -> tuple[procrastinate.App, Any]:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=store, min_size=2, max_size=16))

    @app.task(name="noop", queue="bench")
    async def noop(number: int) -> int:
        return number

    return app, noop


async def work(store: str) -> None:
    app, _ = application(store)
    async with app.open_async():
        await app.run_worker_async(queues=["bench"], concurrency=10, wait=True, listen_notify=True)


async def main() -> None:
    asked = arguments()
    if asked.worker:
        await work(asked.store)
        return
    app, noop = application(asked.store)
    counted = "SELECT count(*) FROM procrastinate_jobs WHERE id >= %s AND status = 'succeeded'"
    with processes() as running:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            running.start("worker", PYTHON, str(Path(__file__)), "--worker", "--store", asked.store)
            looking = await psycopg.AsyncConnection.connect(asked.store, autocommit=True)

            async def submit(count: int) -> list[int]:
                ids: list[int] = []
                for first in range(0, count, BATCH):
                    numbers = range(first, min(count, first + BATCH))
                    ids += await noop.batch_defer_async(*({"number": number} for number in numbers))
                return ids

            async def wait(ids: list[int], pause_s: float = 0.02) -> None:
                while True:
                    row = await (await looking.execute(counted, (min(ids),))).fetchone()
                    if row and row[0] >= len(ids):
                        return
                    await asyncio.sleep(pause_s)

            async def round_trip() -> None:
                await wait([await noop.defer_async(number=0)], 0.0005)

            await measure(running, tasks=asked.tasks, idle=asked.idle, submit=submit, wait=wait, round_trip=round_trip)
            await looking.close()


if __name__ == "__main__":
    asyncio.run(main())
