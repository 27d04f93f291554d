"""A submitter in a hurry: batches over open connections, several in flight, ends heard from the hub's event stream.

Does what any fast client of :mod:`agentcom.aio` could do. It counts a task as done when it has read the event of its
end, and every task that it got an id for has to end, or the measurement fails.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from itertools import count as count_from
from itertools import cycle, islice
from time import perf_counter
from typing import Any, Final
from uuid import uuid4

import msgspec
from msgspec import Struct

from agentcom.bench import exposition
from agentcom.bench.ear import listen
from agentcom.bench.statistics import due_times, waits_ms
from agentcom.bench.wire import Wire, wire
from agentcom.transport import Transport
from protocol.api import PREFIX
from protocol.errors import WorkFailed

STALL_S: Final = 60.0
"""So long without the end of any task, while some are open, is no measurement any more."""
SPEC: Final[dict[str, str]] = {"title": "bench", "executor": "noop"}
IDLE_LINES: Final = 4
"""Connections for tasks that are sent one by one, open before the first is due."""
_PATH: Final = f"{PREFIX}/tasks"
_ONE: Final = msgspec.json.encode(SPEC)
_ENDS: Final = ("task_completed", "task_failed", "task_cancelled", "task_dead")


class _Event(Struct):
    kind: str
    task: str | None = None


class _Task(Struct):
    id: str


class _Tasks(Struct):
    tasks: list[_Task]


_task: Final = msgspec.json.Decoder(_Task).decode


class Rates(Struct, frozen=True, kw_only=True):
    """One run: tasks a second until all were acknowledged, and until all had ended."""

    submitted_per_s: float
    ended_per_s: float


class Submitter:
    """Submits to the hub at ``url``; call :meth:`listen` first and :meth:`close` at the end."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        self._transport = Transport(url, token, patience_s=30.0)
        self._run, self._numbers = uuid4().hex, count_from()  # of idempotency keys
        self._open: set[str] = set()
        self._ended_at: dict[str, float] = {}  # since the last wait
        self._waiter: asyncio.Future[None] | None = None  # of whoever waits for the end of all
        self._listening: asyncio.Task[None] | None = None
        self.ends: Counter[str] = Counter()

    async def listen(self) -> None:
        """Hear of every end from now on."""
        newest = (await self.numbers()).get(("agentcom_newest_event", ""), 0.0)
        self._listening = asyncio.create_task(self._hear(int(newest)))
        self._listening.add_done_callback(lambda _: self._wake())

    async def close(self) -> None:
        """Hang up."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        await self._transport.close()

    async def numbers(self) -> exposition.Samples:
        """What the hub counts."""
        return exposition.samples(await self._transport.text("/metrics"))

    # --- submitting ---------------------------------------------------------------------------------------------------

    async def batches(self, count: int, size: int, in_flight: int) -> Rates:
        """Submit ``count`` tasks in batches of ``size``, ``in_flight`` of them at a time, and wait for every end."""
        left = [size] * (count // size) + ([count % size] if count % size else [])
        began = perf_counter()

        async def one_after_another() -> None:
            while left:
                await self._submit([SPEC] * left.pop())

        await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
        acknowledged = perf_counter()
        await self.until_ended()
        return Rates(
            submitted_per_s=round(count / (acknowledged - began), 1),
            ended_per_s=round(count / (perf_counter() - began), 1),
        )

    async def fill(self, count: int, size: int, in_flight: int, specs: Sequence[dict[str, Any]]) -> float:
        """Submit tasks like ``specs`` in turn, without waiting for their ends; tasks acknowledged a second."""
        left = [size] * (count // size) + ([count % size] if count % size else [])
        began = perf_counter()

        async def one_after_another() -> None:
            while left:
                await self._post(list(islice(cycle(specs), left.pop())))

        await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
        return round(count / (perf_counter() - began), 1)

    async def singles(self, count: int, callers: int) -> tuple[float, list[float]]:
        """Submit ``count`` tasks one a request from ``callers`` that each wait for their answer.

        Returns:
            Acknowledged tasks a second, and milliseconds from asking to being answered, of each. Then all have ended.
        """
        took_ms: list[float] = []
        left = [None] * count
        lines = await asyncio.gather(*(wire(self._url, self._token) for _ in range(callers)))
        began = perf_counter()

        async def caller(line: Wire) -> None:
            while left:
                left.pop()
                asked = perf_counter()
                await self._submit_one(line)
                took_ms.append((perf_counter() - asked) * 1000)

        try:
            await asyncio.gather(*(caller(line) for line in lines))
        finally:
            _hang_up(lines)
        per_s = round(count / (perf_counter() - began), 1)
        await self.until_ended()
        return per_s, took_ms

    async def round_trips_ms(self, count: int, per_s: float) -> list[float]:
        """Milliseconds from when a task was due to the event of its end, one task every ``1 / per_s`` seconds.

        A task is sent when it is due, whether or not the one before it has ended.
        """
        due: dict[str, float] = {}
        free = list(await asyncio.gather(*(wire(self._url, self._token) for _ in range(IDLE_LINES))))
        lines = tuple(free)

        async def one(at: float) -> None:
            await asyncio.sleep(max(0.0, at - perf_counter()))
            line = free.pop() if free else await wire(self._url, self._token)
            due[await self._submit_one(line)] = at
            free.append(line)

        try:
            await asyncio.gather(*(one(at) for at in due_times(perf_counter() + 0.05, per_s, count)))
            return waits_ms(due, await self.until_ended())
        finally:
            _hang_up({*lines, *free})

    async def one_after_another_ms(self, count: int) -> list[float]:
        """Milliseconds from sending a task to the event of its end, each sent when the one before it has ended."""
        line = await wire(self._url, self._token)
        took_ms = []
        try:
            for _ in range(count):
                asked = perf_counter()
                task = await self._submit_one(line)
                took_ms += waits_ms({task: asked}, await self.until_ended())
        finally:
            line.close()
        return took_ms

    async def _submit(self, specs: Sequence[dict[str, str]]) -> None:
        self._expect(await self._post(specs))

    async def _post(self, specs: Sequence[dict[str, Any]]) -> list[str]:
        headers = {"Idempotency-Key": f"{self._run}-{next(self._numbers)}"}
        answer = await self._transport.call(
            "POST", _PATH, _Tasks, body={"tasks": specs}, headers=headers, is_repeatable=True
        )
        return [task.id for task in answer.tasks]

    async def _submit_one(self, line: Wire) -> str:
        status, body = await line.post(_PATH, _ONE, f"{self._run}-{next(self._numbers)}")
        if status != HTTPStatus.CREATED:
            raise WorkFailed(f"the hub answered {status}: {body[:500].decode('utf-8', 'replace')}")
        task = _task(body).id
        self._expect([task])
        return task

    # --- hearing of ends ----------------------------------------------------------------------------------------------

    def _expect(self, ids: Sequence[str]) -> None:
        # A task may have ended before the answer to its submission was read.
        self._open.update(task for task in ids if task not in self._ended_at)

    async def until_ended(self) -> dict[str, float]:
        """Wait until every task has ended; when each did that has since the last call, by ``time.perf_counter``.

        Raises:
            WorkFailed: nothing ends any more, or the stream broke.
        """
        while self._open:
            before = len(self._ended_at)
            if self._listening is None or not self._listening.done():
                await self._wait()
            if self._listening is not None and self._listening.done():
                self._listening.result()
                raise WorkFailed("the hub ended its event stream")
            if self._open and len(self._ended_at) == before:
                raise WorkFailed(f"{len(self._open):,} tasks have not ended, and for {STALL_S:g} s none did")
        ended_at, self._ended_at = self._ended_at, {}
        return ended_at

    async def _wait(self) -> None:
        """Until all that is open has ended, nobody listens any more, or it takes too long."""
        # One future: what a submitter does beside its tasks is time that hub and sidecar lack.
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(STALL_S, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _hear(self, after: int) -> None:
        decode = msgspec.json.Decoder(_Event).decode
        path = f"{PREFIX}/events?kind={','.join(_ENDS)}"

        def heard(data: bytes) -> None:
            event = decode(data)
            if event.task is not None:
                self._ended(event.task, event.kind)

        while True:  # one that was cut off goes on where it was
            ear = await listen(self._url, self._token, path, after, heard)
            try:
                await ear.over
            finally:
                ear.close()
            after = ear.newest

    def _ended(self, task: str, kind: str) -> None:
        self.ends[kind.removeprefix("task_")] += 1
        self._ended_at[task] = perf_counter()
        self._open.discard(task)
        if not self._open:
            self._wake()


def _hang_up(lines: Iterable[Wire]) -> None:
    for line in lines:
        line.close()
