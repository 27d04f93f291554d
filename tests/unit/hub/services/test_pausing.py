"""What sidecars are told about work that people hold up: the newest of it, once, and only those that understand it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from hub.clock import SystemClock
from hub.core.agent import Held
from hub.core.fleet import Fleet
from hub.core.routing import route
from hub.core.window import Window
from hub.services.pausing import Pausing
from hub.store.hold_changes import EndHold, HoldRow, PutHold
from hub.store.sqlite import SqliteStore
from protocol.messages import Message, Pause
from protocol.model import TaskSpec
from protocol.progress import PAUSE, HoldKind
from tests.support.machines import add
from tests.support.stores import Rows, new_task, task_id


@dataclass
class Line:
    """What sidecars were told."""

    sent: list[tuple[str, int, Message]] = field(default_factory=list)

    def send(self, agent: str, boot: int, message: Message) -> None:
        self.sent.append((agent, boot, message))


class Slow(SqliteStore):
    """What it has read about holds comes when it may."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        self.has_read, self.go = asyncio.Event(), asyncio.Event()
        self.go.set()

    async def open_holds(self, tasks: Sequence[str]) -> tuple[HoldRow, ...]:
        rows = await super().open_holds(tasks)
        self.has_read.set()
        await self.go.wait()
        return rows


@dataclass
class Desk:
    """Task 1 in the hands of agent ``a`` of this hub."""

    store: Slow
    fleet: Fleet
    line: Line
    pausing: Pausing

    async def hold_elsewhere(self) -> None:
        await self.store.commit(PutHold(at_ms=10, task=task_id(1), kind=HoldKind.PAUSE, by="me", reason="lunch"))

    async def let_go_elsewhere(self) -> None:
        await self.store.commit(EndHold(at_ms=20, task=task_id(1), by="me"))

    @property
    def told(self) -> list[tuple[bool, str]]:
        return [(message.on, message.reason) for _, _, message in self.line.sent if isinstance(message, Pause)]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    store, fleet, window, line, clock = Slow(), Fleet(), Window(), Line(), SystemClock()
    await store.open()
    rows = Rows(store)
    _, requirements = route(TaskSpec(prompt="do it", executor="agent"))
    await rows.add(replace(new_task(1), class_text=requirements.text))
    epoch = (await rows.claim(1)).epoch
    add(fleet, "a")
    fleet.agents["a"].capabilities |= {PAUSE}
    fleet.take(Held(task_id(1), epoch, "a", 1, 0.0, is_committed=True))
    yield Desk(store, fleet, line, Pausing(store, fleet, window, line, clock))
    await store.close()


async def test_a_sidecar_is_told_once_to_stop_and_once_to_go_on(desk: Desk) -> None:
    await desk.pausing.hold(task_id(1), HoldKind.PAUSE, "lunch", "me")
    for _ in range(2):
        await desk.pausing.look()
    await desk.pausing.let_go(task_id(1), "", "me")
    for _ in range(2):
        await desk.pausing.look()

    assert desk.told == [(True, "it was paused: lunch"), (False, "")]


async def test_a_sidecar_is_told_here_what_was_said_at_another_hub(desk: Desk) -> None:
    await desk.hold_elsewhere()
    await desk.pausing.look()
    await desk.let_go_elsewhere()
    await desk.pausing.look()

    assert desk.told == [(True, "it was paused: lunch"), (False, "")]


async def test_a_task_that_is_let_go_while_the_rows_are_read_is_told_to_go_on_at_last(desk: Desk) -> None:
    await desk.hold_elsewhere()
    desk.store.go.clear()
    look = asyncio.create_task(desk.pausing.look())
    await desk.store.has_read.wait()
    await desk.pausing.let_go(task_id(1), "", "me")
    desk.store.go.set()
    await look
    await desk.pausing.look()

    assert desk.told == [(True, "it was paused: lunch"), (False, "")]


async def test_a_sidecar_is_told_nothing_of_an_attempt_that_is_over(desk: Desk) -> None:
    await desk.hold_elsewhere()
    await desk.pausing.look()
    desk.fleet.release(task_id(1), 1)
    await desk.let_go_elsewhere()
    await desk.pausing.look()

    assert desk.told == [(True, "it was paused: lunch")]


async def test_an_older_sidecar_is_told_nothing(desk: Desk) -> None:
    desk.fleet.agents["a"].capabilities -= {PAUSE}
    await desk.hold_elsewhere()
    await desk.pausing.look()
    await desk.let_go_elsewhere()
    await desk.pausing.look()

    assert desk.told == []
