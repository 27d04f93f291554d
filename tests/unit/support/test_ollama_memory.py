"""The memory of the stand-in for Ollama keeps to what was seen on the real scheduler."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.ollama_memory import COLD_LOAD_NS, Memory, QueueFull
from tests.support.ollama_shapes import FOREVER_S, Model, keep_alive_s

A, B, C, D = (Model(f"{name}:1", size_bytes=5_000_000_000) for name in "abcd")
START = datetime(2026, 1, 1, tzinfo=UTC)


async def use(memory: Memory, model: Model, *, context: int = 1024, keep_s: float = 300.0) -> int:
    async with memory.turn(model, context, keep_s) as (load_ns, _):
        return load_ns


async def settle() -> None:
    """Let every task run until it waits for something."""
    for _ in range(20):
        await asyncio.sleep(0)


def names(memory: Memory) -> list[str]:
    return [resident.model.name for resident in memory.look()]


async def test_the_first_use_loads_and_the_second_does_not() -> None:
    memory = Memory()

    assert await use(memory, A) >= COLD_LOAD_NS
    assert await use(memory, A) < COLD_LOAD_NS
    assert memory.loads == ["a:1"]


async def test_another_context_loads_again() -> None:
    memory = Memory()
    await use(memory, A, context=1024)
    await use(memory, A, context=2048)

    assert memory.loads == ["a:1", "a:1"]
    assert [resident.context for resident in memory.look()] == [2048]


async def test_what_it_takes_is_weights_and_context_of_all_slots() -> None:
    memory = Memory(num_parallel=2)
    await use(memory, A, context=1000)

    [resident] = memory.look()
    assert resident.size_bytes == resident.vram_bytes == A.size_bytes + 2 * 1000 * A.kv_bytes_per_token


async def test_when_the_memory_is_full_the_idle_one_with_the_shortest_stay_goes() -> None:
    memory = Memory(vram_bytes=11_000_000_000)
    await use(memory, A, keep_s=600)
    await use(memory, B, keep_s=60)
    await use(memory, C, keep_s=300)

    assert names(memory) == ["a:1", "c:1"]


async def test_a_model_larger_than_the_memory_lies_there_in_part() -> None:
    memory = Memory(vram_bytes=3_000_000_000)
    await use(memory, A)

    [resident] = memory.look()
    assert resident.vram_bytes == 3_000_000_000 < resident.size_bytes


async def test_a_busy_model_is_never_thrown_out() -> None:
    memory = Memory(max_loaded=1)
    async with memory.turn(A, 1024, 0.0):
        newcomer = asyncio.create_task(use(memory, B))
        await settle()
        assert names(memory) == ["a:1"]
    await newcomer

    assert names(memory) == ["b:1"]


async def test_more_requests_than_slots_wait_in_silence() -> None:
    memory, done = Memory(num_parallel=2), asyncio.Event()
    inside: list[int] = []

    async def one(number: int) -> None:
        async with memory.turn(A, 1024, 300.0):
            inside.append(number)
            await done.wait()

    tasks = [asyncio.create_task(one(number)) for number in range(40)]
    await settle()
    at_once = len(inside)
    done.set()
    await asyncio.gather(*tasks)

    assert (at_once, len(inside)) == (2, 40)


async def test_who_needs_a_load_waits_in_a_bounded_queue() -> None:
    memory = Memory(max_loaded=1, max_queue=1)
    async with AsyncExitStack() as busy:
        await busy.enter_async_context(memory.turn(A, 1024, 300.0))
        waiting = [asyncio.create_task(use(memory, model)) for model in (B, C)]
        await settle()
        with pytest.raises(QueueFull):
            await use(memory, D)
        also_a = asyncio.create_task(use(memory, A))  # it is loaded: no queue for it
        await settle()
        assert not also_a.done()
    await asyncio.gather(*waiting, also_a)


async def test_a_load_shows_before_it_is_done_and_a_client_that_leaves_ends_it() -> None:
    memory = Memory(hold_loads=asyncio.Event())
    client = asyncio.create_task(use(memory, A))
    await settle()
    seen = [resident.is_loading for resident in memory.look()]
    client.cancel()
    await asyncio.gather(client, return_exceptions=True)

    assert seen == [True]
    assert names(memory) == []


async def test_models_leave_when_their_time_is_over() -> None:
    now = START
    memory = Memory(now=lambda: now)
    await use(memory, A, keep_s=10)
    await use(memory, B, keep_s=FOREVER_S)
    await use(memory, C, keep_s=0)
    before = names(memory)
    now = START + timedelta(seconds=11)

    assert before == ["b:1", "a:1"]
    assert names(memory) == ["b:1"]
    assert memory.look()[0].expires_at.year > 2300 - 20


@pytest.mark.parametrize(
    "wish, seconds",
    [(None, 300.0), (0, 0.0), (-1, FOREVER_S), ("1m30s", 90.0), ("-1s", FOREVER_S), ("250ms", 0.25), ("0", 0.0)],
)
def test_a_wish_to_stay_is_read_as_go_reads_it(wish: object, seconds: float) -> None:
    assert keep_alive_s(wish, 300.0) == seconds
