"""The word to a sidecar that a model will be needed, and the word that it will not after all."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from hub.core.agent import Held
from hub.core.fleet import Fleet
from hub.core.speeds import Speeds
from hub.core.terms import Rates
from hub.core.window import Window
from hub.services.dispatch import Dispatch
from hub.services.intake import Intake
from hub.services.prewarming import Prewarming
from hub.store.changes import Record
from hub.store.sqlite import SqliteStore
from protocol.clock import Clock
from protocol.events import Event, EventKind
from protocol.ids import IdMaker
from protocol.messages import PREWARM, Assign, Message, Prewarm
from protocol.model import TaskSpec
from tests.support.machines import add, model


class Still(Clock):
    def __init__(self) -> None:
        self.at_s = 1_000.0

    def now_ms(self) -> int:
        return int(self.at_s * 1000)

    def monotonic(self) -> float:
        return self.at_s


@dataclass
class Line:
    """What sidecars were told."""

    sent: list[tuple[str, Message]] = field(default_factory=list)

    def send(self, agent: str, _boot: int, message: Message) -> None:
        self.sent.append((agent, message))

    def send_all(self, agent: str, _boot: int, messages: Sequence[Message]) -> None:
        self.sent += [(agent, message) for message in messages]

    @property
    def wishes(self) -> list[tuple[str, str, bool]]:
        return [(agent, m.model, m.on) for agent, m in self.sent if isinstance(m, Prewarm)]


@dataclass
class Bench:
    store: SqliteStore
    fleet: Fleet
    clock: Still
    line: Line
    intake: Intake
    prewarming: Prewarming
    events: list[Event]
    dear: set[str]

    async def submit(self, *specs: TaskSpec) -> list[str]:
        made = await self.intake.submit(list(specs), key=None, digest=b"", by="x")
        return [task.id for task in made.tasks]

    async def settle(self) -> None:
        """What was posted is stored, and what came of it."""
        for _ in range(3):
            await self.store.commit(Record(Event(kind=EventKind.HUB_STARTED, at_ms=1)))
            await self.prewarming.look()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.line.wishes) < count:  # noqa: ASYNC110 - what is awaited is a commit and a look
                await asyncio.sleep(0.01)

    def kinds(self, kind: EventKind) -> list[Event]:
        return [event for event in self.events if event.kind is kind]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    store, fleet, window, clock, line = SqliteStore(tmp_path / "hub.sqlite"), Fleet(), Window(), Still(), Line()
    await store.open()
    for name in ("a", "b"):
        add(fleet, name, model("m", 10.0), model("n", 10.0), slots=2)
        fleet.agents[name].capabilities |= {PREWARM} if name == "a" else set()
    fleet.agents["b"].endpoints = ()
    speeds, events, dear = Speeds(), list[Event](), set[str]()
    rates = Rates(risk=lambda _demand, way, _terms: 1_000.0 if way.agent in dear else 0.0)
    dispatch = Dispatch(store, fleet, window, line, clock, lease_s=30.0, speeds=speeds, rates=rates)
    prewarming = Prewarming(store, fleet, window, speeds, line, clock, matcher=dispatch.matcher, rates=rates)

    def committed(some: "list[Event] | tuple[Event, ...]") -> None:
        events.extend(some)
        prewarming.committed(some)

    store.on_commit = committed
    store.on_seal = dispatch.run
    intake = Intake(store, fleet, window, line, clock, IdMaker(Random(1).getrandbits))
    loop = asyncio.create_task(prewarming.run())
    yield Bench(store, fleet, clock, line, intake, prewarming, events, dear)
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    await store.close()


def chat(name: str, *after: str) -> TaskSpec:
    return TaskSpec(prompt="say it", executor="chat", model=name, depends_on=after)


async def test_a_task_that_waits_for_a_busy_server_has_its_model_loaded_meanwhile(bench: Bench) -> None:
    await bench.submit(chat("m"))
    [waiting] = await bench.submit(chat("n"))
    await bench.settle()

    [told] = bench.kinds(EventKind.MODEL_PREWARMED)
    assert bench.line.wishes == [("a", "n", True)]
    assert (told.task, told.agent, told.facts["model"], told.facts["reason"]) == (
        waiting,
        "a",
        "n",
        "its turn comes next",
    )
    await bench.settle()
    assert len(bench.line.wishes) == 1  # said once, however often the plan is made


async def test_when_the_work_comes_as_expected_nothing_is_taken_back(bench: Bench) -> None:
    [first] = await bench.submit(chat("m"))
    await bench.submit(chat("n"))
    await bench.settle()
    held = bench.fleet.held[first]
    bench.fleet.release(first, held.epoch)
    await bench.settle()

    assert [message.routing.model for _, message in bench.line.sent if isinstance(message, Assign)] == ["m", "n"]
    assert bench.line.wishes == [("a", "n", True)]
    assert bench.prewarming.wishes == ()


async def test_a_load_is_taken_back_when_its_task_is_cancelled(bench: Bench) -> None:
    await bench.submit(chat("m"))
    [waiting] = await bench.submit(chat("n"))
    await bench.settle()
    await bench.intake.cancel(waiting, "not needed", by="x")
    await bench.settle()

    assert bench.line.wishes == [("a", "n", True), ("a", "n", False)]
    assert [event.task for event in bench.kinds(EventKind.PREWARM_CANCELLED)] == [waiting]


async def test_a_load_is_taken_back_when_the_work_goes_elsewhere(bench: Bench) -> None:
    await bench.submit(chat("m"))
    [waiting] = await bench.submit(chat("n"))
    await bench.settle()
    bench.fleet.take(Held(waiting, 1, "b", 1, 0.0, server=("b", "ollama"), model="n"))
    assigned = Event(kind=EventKind.TASK_ASSIGNED, at_ms=1, task=waiting, agent="b")
    bench.prewarming.committed([assigned])

    assert bench.line.wishes[-1] == ("a", "n", False)


async def test_the_last_task_before_others_has_their_model_loaded(bench: Bench) -> None:
    [first] = await bench.submit(TaskSpec(command="make", executor="shell"))
    [second] = await bench.submit(chat("n", first))
    await bench.settle()
    bench.prewarming.committed([Event(kind=EventKind.TASK_ITERATION, at_ms=1, task=first)])

    await bench.until(1)
    await bench.settle()
    [told] = bench.kinds(EventKind.MODEL_PREWARMED)
    assert (told.task, told.facts["reason"]) == (second, f"it waits only for {first}")


async def test_a_task_that_waits_for_more_is_not_near(bench: Bench) -> None:
    first, other = await bench.submit(*[TaskSpec(command="make", executor="shell")] * 2)
    await bench.submit(chat("n", first, other))
    await bench.settle()

    assert await bench.store.soon(first, 10) == []


async def test_a_wish_whose_time_is_over_is_told_again_while_its_task_waits(bench: Bench) -> None:
    await bench.submit(chat("m"))
    await bench.submit(chat("n"))
    await bench.settle()
    bench.clock.at_s += 10_000
    await bench.prewarming.look()

    assert bench.line.wishes == [("a", "n", True), ("a", "n", True)]


async def test_a_wish_goes_with_its_sidecar(bench: Bench) -> None:
    await bench.submit(chat("m"))
    await bench.submit(chat("n"))
    await bench.settle()
    bench.fleet.agents["a"].fire("lose")
    bench.fleet.changed()
    await bench.prewarming.look()

    assert bench.prewarming.wishes == ()
    assert bench.line.wishes == [("a", "n", True)]


async def test_a_model_is_loaded_where_its_work_will_go_all_things_counted(bench: Bench) -> None:
    add(bench.fleet, "c", model("n", 10.0), slots=2)
    bench.fleet.agents["c"].capabilities |= {PREWARM}
    bench.dear.add("a")
    [first] = await bench.submit(TaskSpec(command="make", executor="shell"))
    await bench.submit(chat("n", first))
    await bench.settle()
    bench.prewarming.committed([Event(kind=EventKind.TASK_ITERATION, at_ms=1, task=first)])
    await bench.until(1)

    assert bench.line.wishes == [("c", "n", True)]
