"""Answers that take long: shown as their last heartbeat told, and told of by an event now and then."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.core.agent import Agent, Held
from hub.services.answers import FIRST_TOLD_S, TOLD_EVERY_S, Answers
from hub.store.changes import Record
from hub.store.sqlite import SqliteStore
from protocol.clock import Clock
from protocol.events import Event, EventKind
from protocol.loads import Answering, AnswerPhase
from protocol.messages import Heartbeat, HeldAttempt
from protocol.model import AttemptId, AttemptState

TASK = "01hzy0m5k3v8f6c2q9w4e7r1t0"


class Hand(Clock):
    def __init__(self) -> None:
        self.at_s = 1_000.0

    def now_ms(self) -> int:
        return int(self.at_s * 1000)

    def monotonic(self) -> float:
        return self.at_s


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "hub.sqlite")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def agent() -> Agent:
    agent = Agent("a", boot=1)
    agent.held[TASK] = Held(TASK, 3, "a", 1, 0.0)
    return agent


def heartbeat(seconds: float | None, epoch: int = 3) -> Heartbeat:
    answer = Answering(phase=AnswerPhase.WRITING, endpoint="box", model="m", tokens=312, seconds=seconds or 0.0)
    held = HeldAttempt(
        attempt=AttemptId("a", 1, TASK, epoch),
        state=AttemptState.RUNNING,
        answering=None if seconds is None else answer,
    )
    return Heartbeat(sidecar="a", boot=1, attempts=(held,))


async def told(store: SqliteStore) -> list[Event]:
    await store.commit(Record(Event(kind=EventKind.HUB_STARTED, at_ms=1)))
    return [event for event in await store.events(0, 100) if event.kind is EventKind.TASK_ANSWERING]


async def test_the_newest_word_of_an_answer_is_kept_and_goes_with_it(store: SqliteStore, agent: Agent) -> None:
    answers = Answers(store, Hand())

    answers.heard(agent, heartbeat(2.0))
    assert agent.answering[TASK].tokens == 312

    answers.heard(agent, heartbeat(None))
    assert agent.answering == {}
    assert await told(store) == []


async def test_an_answer_that_takes_long_is_told_of_now_and_then(store: SqliteStore, agent: Agent) -> None:
    clock = Hand()
    answers = Answers(store, clock)
    for second in range(0, 100, 5):
        clock.at_s = 1_000.0 + second
        answers.heard(agent, heartbeat(float(second)))

    events = await told(store)
    assert [event.facts["seconds"] for event in events] == [FIRST_TOLD_S + TOLD_EVERY_S * number for number in range(3)]
    assert (events[0].task, events[0].agent, events[0].epoch) == (TASK, "a", 3)
    assert (events[0].facts["phase"], events[0].facts["model"], events[0].facts["tokens"]) == ("writing", "m", 312)
    assert "m writes, 312 tokens so far" in events[0].facts["detail"]


async def test_an_attempt_that_does_not_count_is_not_told_of(store: SqliteStore, agent: Agent) -> None:
    answers = Answers(store, Hand())

    answers.heard(agent, heartbeat(60.0, epoch=2))
    agent.held.clear()
    answers.heard(agent, heartbeat(60.0))

    assert await told(store) == []
