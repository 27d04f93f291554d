"""Simulated time: one heap of what happens next, and event loops that live in it, one a process.

Every simulated process is an asyncio event loop of its own, so it can be killed (nothing of it runs again, no
``finally`` either), stopped for a while, and have a clock that runs fast, slow or steps. Nothing here reads the time,
opens a socket or starts a thread: the same seed does the same things in the same order.

Within a process callbacks run in asyncio's order. What the seed decides is when a process gets the CPU, how long its
threads take, and (in ``network.py``) what the network does.
"""

import asyncio
import contextlib
import hashlib
import inspect
import struct
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from typing import Any, Final

EPOCH_MS: Final = 1_790_000_000_000
"""The wall clock when a world begins, in Unix milliseconds."""
MAX_BURST: Final = 100_000
"""Callbacks that a process may run without time going on: more is a loop that spins."""


class World:
    """True time, in seconds from 0, and everything that waits for it.

    Attributes:
        lines: what has been told, for people: (time, who, what).
        problems: what no run may show: exceptions that nobody caught, loops that spin.
    """

    def __init__(self, seed: int) -> None:
        self.seed, self.now = seed, 0.0
        self.lines: list[tuple[float, str, str]] = []
        self.problems: list[str] = []
        self.processes: list[Process] = []
        self._heap: list[tuple[float, int, Process | None, Any]] = []
        self._count = 0
        self._digest = hashlib.blake2b(digest_size=16)
        self._is_over = False
        self.chance = self.random("schedule")

    def random(self, name: str) -> Random:
        """A source of its own for one use, so that leaving out one thing changes no other one's luck."""
        return Random(f"{self.seed}/{name}")

    def later(self, delay_s: float, call: Callable[..., object], *args: Any) -> None:
        """Have the world itself do something."""
        self.push(self.now + delay_s, None, (call, args))

    def push(self, when: float, process: "Process | None", what: object) -> None:
        """Put something on the heap; equal times keep their order."""
        self._count += 1
        heappush(self._heap, (max(self.now, when), self._count, process, what))

    def tell(self, who: str, what: str) -> None:
        """Write a line of the trace; part of the hash."""
        self.lines.append((self.now, who, what))
        self._digest.update(f"{self.now!r} {who} {what}\n".encode())

    def mark(self, number: int) -> None:
        """Let a number that is not worth a line take part in the hash."""
        self._digest.update(struct.pack("<dI", self.now, number))

    @property
    def trace(self) -> str:
        """The hash of all that happened."""
        return self._digest.hexdigest()

    def stop(self) -> None:
        """This world is over."""
        self._is_over = True

    def run(self, limit_s: float) -> None:
        """Let time pass until :meth:`stop`, or until ``limit_s``."""
        heap = self._heap
        while heap and not self._is_over:
            when, _, process, what = heappop(heap)
            if when > limit_s:
                break
            self.now = when
            if process is None:
                call, args = what
                call(*args)
            elif what is None:
                process.burst()
            else:
                process.ring(what)

    def look_for_errors(self) -> None:
        """Note exceptions that nobody has looked at, of processes that live."""
        for process in self.processes:
            if not process.is_dead:
                process.look_for_errors()

    def end(self) -> None:
        """Take every process apart, so that nothing of this world lives on in the next one."""
        for process in self.processes:
            process.bury()
        self._heap.clear()


@dataclass(slots=True)
class Machine:
    """A machine: its clocks run at ``rate`` of true time, its wall clock is ``wall_ms`` off."""

    name: str
    rate: float = 1.0
    booted: float = 1_000.0
    wall_ms: int = 0
    asleep_s: float = 0.0

    def monotonic(self, now: float) -> float:
        """Seconds since it started, time asleep included."""
        return self.booted + now * self.rate


class ProcessClock:
    """The clocks of a machine, as :class:`protocol.clock.Clock`."""

    def __init__(self, world: World, machine: Machine) -> None:
        self._world, self._machine = world, machine

    def now_ms(self) -> int:
        """Unix time in milliseconds; may step."""
        return EPOCH_MS + self._machine.wall_ms + int(self._world.now * self._machine.rate * 1000)

    def monotonic(self) -> float:
        """Seconds, time asleep included."""
        return self._machine.monotonic(self._world.now)


class Process(asyncio.AbstractEventLoop):
    """One process: an event loop, and the threads it hands work to."""

    def __init__(self, world: World, machine: Machine, name: str) -> None:
        self.world, self.machine, self.name = world, machine, name
        self.number = len(world.processes)
        world.processes.append(self)
        self.clock = ProcessClock(world, machine)
        self.is_dead = False
        self.stopped_until = self._asleep_until = 0.0
        self.thread_s: Callable[[], float] = lambda: world.chance.random() * 0.002
        """How long a call in a thread takes, a new answer every time."""
        self._ready: deque[events.Handle] = deque()
        self._is_armed = False
        self._tasks: list[asyncio.Task[Any]] = []
        self._threads: dict[int, float] = {}  # by executor: when it is free again

    # --- life ---------------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """Nothing of this process runs again."""
        self.is_dead = True

    def stop_for(self, seconds: float, *, asleep: bool = False) -> None:
        """Stand still, threads too; what comes in meanwhile waits. ``asleep``: the whole machine does."""
        self.stopped_until = max(self.stopped_until, self.world.now + seconds)
        if asleep:
            self._asleep_until = self.world.now + seconds

    @property
    def is_asleep(self) -> bool:
        """Whether its machine sleeps."""
        return self._asleep_until > self.world.now

    def burst(self) -> None:
        """Run what is ready, and what that makes ready."""
        if self.is_dead:
            return
        if self.stopped_until > self.world.now:
            self.world.push(self.stopped_until, self, None)
            return
        self.world.mark(self.number)
        ready, left = self._ready, MAX_BURST
        events._set_running_loop(self)
        try:
            while ready and not self.is_dead:
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
                left -= 1
                if not left:
                    self.world.problems.append(f"{self.name} spins: {handle!r}")
                    self.is_dead = True
        finally:
            events._set_running_loop(None)
        self._is_armed = False
        if len(self._tasks) > 200:
            self.look_for_errors()
            self._tasks = [task for task in self._tasks if not task.done()]

    def look_for_errors(self) -> None:
        """Note exceptions that ended a task and that nobody has looked at."""
        for task in self._tasks:
            if task.done() and task._log_traceback:  # type: ignore[attr-defined]  # asyncio's own flag
                self.world.problems.append(f"{self.name}: nobody saw {task.exception()!r}")

    def ring(self, handle: events.TimerHandle) -> None:
        """A timer is due by true time."""
        if self.is_dead or handle._cancelled:
            return
        if self.stopped_until > self.world.now:
            self.world.push(self.stopped_until, self, handle)
        elif (left_s := handle.when() - self.time()) > 1e-6:  # the machine was asleep in between
            self.world.push(self.world.now + left_s / self.machine.rate, self, handle)
        else:
            self._ready.append(handle)
            self._arm()

    def bury(self) -> None:
        """Close every coroutine that is left, quietly."""
        self.is_dead = True
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own flag
                coroutine: Any = task.get_coro()
                for _ in range(9):
                    if inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED:
                        break
                    with contextlib.suppress(BaseException):
                        coroutine.close()
        self._tasks.clear()
        self._ready.clear()

    def _arm(self) -> None:
        if self._is_armed:
            return
        self._is_armed = True
        chance = self.world.chance.random()
        # Mostly the CPU is free at once; now and then somebody else has it.
        self.world.push(self.world.now + (chance * 2e-4 if chance < 0.99 else (chance - 0.99) * 3.0), self, None)

    # --- what asyncio asks of a loop ----------------------------------------------------------------------------------

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.is_dead

    def is_closed(self) -> bool:
        return self.is_dead

    def time(self) -> float:
        return self.machine.monotonic(self.world.now) - self.machine.asleep_s

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> events.Handle:
        handle = events.Handle(callback, args, self, context)
        if not self.is_dead:
            self._ready.append(handle)
            self._arm()
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> events.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> events.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> events.TimerHandle:
        handle = events.TimerHandle(when, callback, args, self, context)
        if not self.is_dead:
            self.world.push(self.world.now + max(0.0, when - self.time()) / self.machine.rate, self, handle)
        return handle

    def _timer_handle_cancelled(self, handle: events.TimerHandle) -> None:
        pass

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None, **_more: Any
    ) -> "asyncio.Task[Any]":
        task = asyncio.Task(coro, loop=self, name=name or "task", context=context)
        self._tasks.append(task)  # asyncio holds tasks weakly: what is left of a killed process must not be finalised
        return task

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        """The call happens at one moment and is answered at a later one: a kill may come before, between or after."""
        future = self.create_future()
        begins = max(self.world.now, self._threads.get(id(executor), 0.0)) + self.thread_s()
        ends = self._threads[id(executor)] = begins + self.world.chance.random() * 5e-4

        def call() -> None:
            if self.is_dead:
                return
            if self.stopped_until > self.world.now:
                self.world.later(self.stopped_until - self.world.now, call)
                return
            try:
                done, error = func(*args), None
            except Exception as exc:  # noqa: BLE001 - passed on to whoever waits, as a thread does
                done, error = None, exc
            self.world.push(max(ends, self.world.now), None, (answer, (done, error)))

        def answer(done: object, error: Exception | None) -> None:
            if not self.is_dead and not future.done():
                if error is None:
                    future.set_result(done)
                else:
                    future.set_exception(error)

        self.world.push(begins, None, (call, ()))
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.is_dead:
            self.world.problems.append(f"{self.name}: {context.get('message')}: {context.get('exception')!r}")
