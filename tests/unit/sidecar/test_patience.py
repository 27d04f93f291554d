"""Promises of :mod:`sidecar.patience`."""

import asyncio
import threading
from time import monotonic

import pytest

from sidecar.patience import Patient


async def test_what_answers_is_waited_for() -> None:
    patient = Patient("a", lambda: 7)

    assert [await patient.answer(), await patient.answer()] == [7, 7]
    assert patient.silent_s == 0.0


async def test_what_fails_fails_where_it_is_waited_for_and_is_asked_again() -> None:
    asked = 0

    def ask() -> int:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise OSError("gone")
        return asked

    patient = Patient("a", ask)
    with pytest.raises(OSError, match="gone"):
        await patient.answer()

    assert await patient.answer() == 2


async def test_what_hangs_costs_one_wait_one_thread_and_nothing_of_the_loop() -> None:
    go, asked = threading.Event(), threading.Semaphore(0)

    def ask() -> str:
        asked.release()
        go.wait()
        return "at last"

    patient = Patient("hanging", ask, patience_s=0.05)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticking = asyncio.create_task(tick())
    assert await patient.answer() is None
    ticking.cancel()
    began = monotonic()
    assert [await patient.answer() for _ in range(1000)] == [None] * 1000
    assert monotonic() - began < 30  # a thousand waits would take 50 s
    assert patient.silent_s >= 0.05
    assert sum(thread.name == "hanging" for thread in threading.enumerate()) == 1
    assert ticks > 10
    go.set()
    (thread,) = (each for each in threading.enumerate() if each.name == "hanging")
    await asyncio.to_thread(thread.join)

    assert [await patient.answer(), patient.silent_s] == ["at last", 0.0]


def test_an_answer_that_comes_after_the_loop_has_ended_is_dropped() -> None:
    go = threading.Event()

    async def ask() -> None:
        assert await Patient("late", go.wait, patience_s=0.01).answer() is None

    asyncio.run(ask())
    (late,) = (thread for thread in threading.enumerate() if thread.name == "late")
    go.set()
    late.join(30)

    assert not late.is_alive()
