"""The promises of simulated time: each process has its own loop, clock and end, and nothing happens by chance."""

import asyncio
from collections.abc import Coroutine

from tests.simulation.world import Machine, Process, World


def world(*works: Coroutine[None, None, None], seed: int = 1) -> tuple[World, list[Process]]:
    made = World(seed)
    processes = [Process(made, Machine(f"m{number}"), f"p{number}") for number, _ in enumerate(works)]
    for process, work in zip(processes, works, strict=True):
        process.create_task(work)
    return made, processes


async def note(times: list[float], *waits: float) -> None:
    for wait in waits:
        await asyncio.sleep(wait)
        times.append(asyncio.get_running_loop().time())


def test_time_passes_without_anybody_waiting() -> None:
    times: list[float] = []
    made, _ = world(note(times, 3600.0, 7200.0))
    made.run(1e6)

    assert [round(at - 1_000.0) for at in times] == [3600, 10_800]


def test_what_asyncio_offers_works_in_virtual_time() -> None:
    found: list[object] = []

    async def work() -> None:
        try:
            async with asyncio.timeout(2.0):
                await asyncio.Event().wait()
        except TimeoutError:
            found.append("late")
        found.append(await asyncio.to_thread(lambda: 7))
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(1.0))
            group.create_task(asyncio.sleep(2.0))
        found.append(round(asyncio.get_running_loop().time() - 1_000.0))

    made, _ = world(work())
    made.run(100.0)
    made.look_for_errors()

    assert found == ["late", 7, 4]
    assert made.problems == []


def test_a_killed_process_runs_nothing_more_not_even_a_finally() -> None:
    found: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(10.0)
        finally:
            found.append("tidied")

    made, (process,) = world(work())
    made.later(5.0, process.kill)
    made.run(100.0)

    assert found == []


def test_a_stopped_process_goes_on_later_and_the_others_do_not_wait() -> None:
    stopped: list[float] = []
    going: list[float] = []
    made, (process, _) = world(note(stopped, 10.0), note(going, 10.0))
    made.later(5.0, process.stop_for, 20.0)
    made.run(100.0)

    assert round(stopped[0] - 1_000.0) == 25
    assert round(going[0] - 1_000.0) == 10


def test_a_call_in_a_thread_may_be_done_though_its_process_never_hears_of_it() -> None:
    done: list[str] = []

    async def work() -> None:
        await asyncio.to_thread(lambda: done.append("applied"))
        done.append("answered")

    fates = set()
    for seed in range(200):
        done.clear()
        made, (process,) = world(work(), seed=seed)
        made.later(1e-3, process.kill)
        made.run(1.0)
        fates.add(tuple(done))
        made.end()

    assert fates == {(), ("applied",), ("applied", "answered")}


def test_an_error_that_nobody_looked_at_is_a_problem() -> None:
    async def work() -> None:
        raise ValueError("lost")

    made, _ = world(work())
    made.run(1.0)
    made.look_for_errors()

    assert made.problems == ["p0: nobody saw ValueError('lost')"]
