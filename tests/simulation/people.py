"""The people of a simulation: they submit, lose patience, cancel, retry dead letters, drain agents and read events.

All of them live in one process that never fails; what reaches the hub, and what comes back, is the network's affair.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from hub.assembly import Parts
from hub.store.store import TaskQuery
from protocol import codec
from protocol.errors import (
    AgentComError,
    BadInput,
    Conflict,
    HubUnreachable,
    IdempotencyConflict,
    NotFound,
    Overloaded,
    Unavailable,
)
from protocol.model import TaskState
from tests.simulation.history import Asked, History
from tests.simulation.hub import Hub
from tests.simulation.network import Unknown
from tests.simulation.plan import Order, Plan, Wish
from tests.simulation.world import Machine, Process, World

AGAIN: Final = (HubUnreachable, Unknown, Overloaded, Unavailable)
"""What a client answers by asking again: nobody knows whether it was done, or it was not."""


class People:
    """Everybody who asks the hub for something."""

    def __init__(self, world: World, hub: Hub, history: History, plan: Plan) -> None:
        self.world, self.hub, self.history, self.plan = world, hub, history, plan
        self.process = Process(world, Machine("people"), "people")
        self._chance = world.random("people")
        self._ids: dict[int, tuple[str, ...]] = {}  # what each order was answered
        self._needed: dict[int, tuple[str, ...]] = {}  # what each order has named as its dependencies
        self._busy = 0
        self._faults_are_over = False

    def start(self) -> None:
        """Begin."""
        for place, order in enumerate(self.plan.orders):
            self._spawn(self._submit(place, order))
            if order.again_at:
                self._spawn(self._submit(place, order, again=True))
        for wish in self.plan.wishes:
            self._spawn(self._cancel(wish) if wish.verb == "cancel" else self._drain(wish))
        self.process.create_task(self._retry())
        for number in range(2):
            self.process.create_task(self._read(f"reader{number}", 0.2 + number * 5.0))

    def heal(self) -> None:
        """No more faults: undo what keeps work from ending."""
        self._faults_are_over = True
        self._spawn(self._let_all_work())

    @property
    def is_done(self) -> bool:
        """Everybody has an answer."""
        return not self._busy

    def _spawn(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        async def counted() -> None:
            try:
                await work
            finally:
                self._busy -= 1

        self._busy += 1
        self.process.create_task(counted())

    async def _until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self.world.now))

    async def _ask(self, verb: Callable[[Parts], Awaitable[Any]]) -> Any:  # noqa: ANN401 - what the verb answers
        """Ask until there is an answer.

        Raises:
            AgentComError: the answer is no.
        """
        while True:
            try:
                return await self.hub.ask(self.process, verb, 10.0)
            except AGAIN:
                await asyncio.sleep(self._chance.uniform(0.1, 3.0))

    # --- submitting ---------------------------------------------------------------------------------------------------

    async def _submit(self, place: int, order: Order, *, again: bool = False) -> None:
        await self._until(order.again_at if again else order.at)
        while again and place not in self._ids:  # noqa: ASYNC110 - virtual seconds cost nothing
            await asyncio.sleep(1.0)
        needed = [self._ids.get(needs, ()) for needs in order.needs]
        depends_on = tuple(ids[0] for ids in needed if ids) if not again else self._needed[place]
        self._needed[place] = depends_on
        if not order.specs:
            self._ids[place] = ()
            return
        specs = [
            msgspec.structs.replace(spec, depends_on=depends_on, labels={**spec.labels, "op": order.key})
            for spec in order.specs
        ]
        digest = hashlib.sha256(b"".join(codec.encode_spec(spec) for spec in specs)).digest()
        asked = Asked(
            "submitter", "submit", order.key, self.world.now, count=len(specs), may_be_doubled=self.plan.loses > 0
        )
        self.history.asked.append(asked)
        try:
            done = await self._ask(lambda parts: parts.intake.submit(specs, key=order.key, digest=digest, by="tok"))
        except IdempotencyConflict as exc:
            self.history.problems.append(f"key {order.key} conflicts with itself: {exc}")
        except BadInput:
            asked.answer = "fail"  # a task that it depends on will never complete
            self._ids.setdefault(place, ())
        else:
            asked.answer, asked.tasks = "ok", tuple(task.id for task in done.tasks)
            self._ids[place] = asked.tasks
            self.world.tell("people", f"{order.key} is {' '.join(asked.tasks)}{' again' if done.replayed else ''}")
        asked.ended = self.world.now

    # --- changing -----------------------------------------------------------------------------------------------------

    async def _cancel(self, wish: Wish) -> None:
        await self._until(wish.at)
        known = [task for _, tasks in sorted(self._ids.items()) for task in tasks]
        if known:
            await self._cancel_task(known[wish.what % len(known)])

    async def _cancel_task(self, task: str) -> None:
        asked = Asked("canceller", "cancel", task, self.world.now)
        self.history.asked.append(asked)
        is_first = True
        while asked.ended is None:
            try:
                await self.hub.ask(self.process, lambda parts: parts.intake.cancel(task, "not wanted", "tok"), 10.0)
                asked.answer = "ok"
                self.world.tell("people", f"cancelled {task}")
            except AGAIN:
                is_first = False
                await asyncio.sleep(self._chance.uniform(0.1, 3.0))
                continue
            except (Conflict, NotFound):
                # It has ended; if an earlier try was not answered, perhaps by our own hand.
                asked.answer = "fail" if is_first else "unknown"
            asked.ended = self.world.now

    async def _drain(self, wish: Wish) -> None:
        await self._until(wish.at)
        name = self.plan.seats[wish.what % len(self.plan.seats)].name
        try:
            await self._ask(lambda parts: parts.presence.drain(name, "tok"))
            await asyncio.sleep(wish.seconds)
            await self._ask(lambda parts: parts.presence.resume(name, "tok"))
        except NotFound:
            return

    async def _retry(self) -> None:
        """Put dead letters back now and then, as long as faults can explain them."""
        while not self._faults_are_over:
            await asyncio.sleep(self._chance.uniform(5.0, 20.0))
            try:
                found = await self.hub.ask(
                    self.process, lambda parts: parts.insight.tasks(TaskQuery(states=frozenset({TaskState.DEAD}))), 10.0
                )
                for task in found.tasks[:2]:
                    await self.hub.ask(self.process, lambda parts, task=task: parts.intake.retry(task.id, "tok"), 10.0)
            except (*AGAIN, Conflict):
                continue

    async def _let_all_work(self) -> None:
        for seat in self.plan.seats:
            try:
                await self._ask(lambda parts, seat=seat: parts.presence.resume(seat.name, "tok"))
            except NotFound:
                continue
        while len(self._ids) < len(self.plan.orders):  # noqa: ASYNC110 - as above
            await asyncio.sleep(1.0)
        for place, order in enumerate(self.plan.orders):
            for task, spec in zip(self._ids[place], order.specs, strict=False):
                if "moon" in spec.needs:
                    await self._cancel_task(task)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _read(self, name: str, pause_s: float) -> None:
        """Read events page by page, and go on behind the last one after every failure."""
        cursor, pages = 0, self.history.pages.setdefault(name, [])
        while True:
            try:
                page = await self.hub.ask(self.process, lambda parts, after=cursor: _page(parts, after), 20.0)
            except (*AGAIN, AgentComError):
                await asyncio.sleep(self._chance.uniform(0.1, 2.0))
                continue
            numbers = [event.seq for event in page.events]
            if numbers:
                pages.append((cursor, numbers))
                cursor = numbers[-1]
            await asyncio.sleep(pause_s)


async def _page(parts: Parts, after: int) -> Any:  # noqa: ANN401 - an EventList
    await parts.feed.wait(after, 8.0)
    return await parts.insight.events(after=after, limit=50)
