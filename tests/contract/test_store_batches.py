"""The promise of a batch: it does what its changes would do one after the other, each in a transaction of its own.

The daily work is read, decided and written by the batch; so this compares the two ways, outcome by outcome and row by
row, on lists in which the same tasks come again and again among changes of every kind.
"""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.store import changes as c
from hub.store import keeping_changes as k
from hub.store.backend import Backend
from hub.store.batches import Unwritable
from hub.store.hub_changes import MarkAgent, PutAgent
from hub.store.many_changes import End, Many, singly
from hub.store.store import TaskQuery
from protocol.errors import AgentComError
from protocol.events import Event, EventKind
from protocol.limits import MAX_DEATHS
from protocol.model import AttemptState, FailureClass, TaskState
from tests.support.stores import BACKENDS, CLASS, PLACEMENT, RESULT, make_store, new_task, task_id

Q, DONE, FAILED, DEAD = TaskState.QUEUED, TaskState.COMPLETED, TaskState.FAILED, TaskState.DEAD
FIRST, NAMED = 5, 8
"""Tasks that are there from the start; tasks that changes are about (some come to be, if new ones are added)."""

tasks = st.integers(1, NAMED).map(task_id)
epochs = st.sampled_from([1, 1, 1, 2, 2, 3, 4])
hubs = st.sampled_from([1, 1, 1, 2])
agents = st.sampled_from(["a", "a", "b", "stranger"])
times = st.integers(1_000, 1_050)
texts = st.sampled_from(["", "ünï", "half\nof it", "x" * 300])


def claims(task: str, agent: str = "a", hub: int = 1, boot: int = 1, at_ms: int = 1_000) -> c.Claim:
    return c.Claim(at_ms=at_ms, task=task, agent=agent, host="h", boot=boot, placement=PLACEMENT, hub=hub)


def ends(task: str, epoch: int, how: TaskState, *, died: bool = False, hub: int = 1, at_ms: int = 1_000) -> c.Finish:
    is_lost = how is Q
    return c.Finish(
        at_ms=at_ms,
        task=task,
        epoch=epoch,
        attempt=AttemptState.LOST if is_lost else AttemptState.PASSED,
        next=how,
        retries=epoch,
        infra_failures=int(is_lost),
        failure=FailureClass.INFRA if is_lost else None,
        reason="lost" if is_lost else "",
        result=None if is_lost else RESULT,
        execution_ok=None if is_lost else True,
        facts={"model": "m", "verified": None},
        orderly=not died,
        hub=hub,
    )


@st.composite
def submissions(draw: st.DrawFn, numbers: Iterator[int]) -> c.AddTasks:
    """New tasks: perhaps waiting for others, for a time, under a key that was used, or (rarely) there already."""
    fresh = [next(numbers) for _ in range(draw(st.integers(1, 3)))]
    if draw(st.integers(0, 30)) == 30:
        fresh[-1] = 1
    made = tuple(
        new_task(
            number,
            title=draw(texts),
            priority=draw(st.integers(0, 3)),
            labels=draw(st.sampled_from([{}, {"a": "b"}])),
            ready_ms=draw(st.sampled_from([None, None, 1_030])),
            expires_ms=draw(st.sampled_from([None, None, 1_040])),
            depends_on=tuple(draw(st.lists(tasks, max_size=2))),
        )
        for number in fresh
    )
    key = draw(st.sampled_from([None, "k", "l"]))
    return c.AddTasks(at_ms=draw(times), tasks=made, by="me", key=key, digest=draw(st.sampled_from([b"x", b"y"])))


@st.composite
def logs(draw: st.DrawFn) -> c.AppendLog:
    return c.AppendLog(
        at_ms=1_000,
        task=draw(tasks),
        epoch=draw(epochs),
        offset=draw(st.integers(0, 3)),
        stream="stdout",
        text=draw(texts),
        hub=draw(hubs),
    )


def plain_ends(task: str, epoch: int) -> End:
    return End(1_000, task, epoch, 1, epoch, 0, RESULT, {"model": "none"}, accepts=epoch == 1)


def lives(task: str, epoch: int) -> list[Any]:
    """An attempt from its claim to its end."""
    return [claims(task), c.Accept(at_ms=1_001, task=task, epoch=epoch, hub=1), ends(task, epoch, DONE)]


def dies(task: str) -> list[Any]:
    """One agent after another dies of a task, until nobody may have it."""
    taken = [[claims(task), ends(task, epoch, Q, died=True)] for epoch in range(1, MAX_DEATHS + 1)]
    return [*chain(*taken), claims(task)]


def _marked(on: bool) -> MarkAgent:
    return MarkAgent("a", Event(kind=EventKind.AGENT_DRAINING, at_ms=1_000, agent="a"), draining=on)


def _joins(hub: int) -> PutAgent:
    return PutAgent(at_ms=1_000, name="a", host="h", boot=1, slots=1, version="1", capabilities=(), event=None, hub=hub)


def _one(changes: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return changes.map(lambda change: [change])


others = st.one_of(
    _one(st.builds(claims, tasks, agents, hubs, st.integers(1, 2), times)),
    _one(st.builds(claims, tasks)),
    _one(st.builds(c.Accept, at_ms=times, task=tasks, epoch=epochs, hub=hubs)),
    _one(
        st.builds(
            c.Advance,
            at_ms=times,
            task=tasks,
            epoch=epochs,
            state=st.sampled_from([AttemptState.RUNNING, AttemptState.VERIFYING]),
            iteration=st.integers(1, 2),
            hub=hubs,
        )
    ),
    _one(
        st.builds(
            ends,
            tasks,
            epochs,
            st.sampled_from([DONE, DONE, FAILED, Q, Q, DEAD]),
            died=st.booleans(),
            hub=hubs,
            at_ms=times,
        )
    ),
    st.builds(lives, tasks, epochs),
    st.builds(lives, tasks, epochs).map(lambda changes: [Many(changes)]),
    st.builds(dies, tasks),
    _one(logs()),
    _one(st.lists(st.one_of(st.builds(claims, tasks), st.builds(plain_ends, tasks, epochs)), max_size=4).map(Many)),
    _one(st.builds(c.Cancel, at_ms=times, task=tasks, reason=st.just("no"), by=st.just("me"))),
    _one(st.builds(c.Retry, at_ms=times, task=tasks, by=st.just("me"))),
    _one(st.builds(c.Exonerate, at_ms=times, task=tasks, epoch=epochs, agent=st.just("a"), boot=st.just(1))),
    _one(st.builds(_marked, st.booleans())),
    _one(st.builds(_joins, hubs)),
    _one(st.builds(c.Promote, at_ms=times)),
    _one(st.builds(c.Expire, at_ms=times)),
    _one(st.builds(c.ReadClass, at_ms=times, class_text=st.just(CLASS), limit=st.just(10))),
    _one(st.just(c.Record(Event(kind=EventKind.DISK_LOW, at_ms=1_000, facts={"free": 1})))),
    _one(
        st.builds(
            k.ForgetTasks,
            at_ms=times,
            tasks=st.tuples(tasks),
            states=st.just(frozenset({DONE, FAILED})),
            ended_before_ms=times,
        )
    ),
)


@st.composite
def histories(draw: st.DrawFn) -> list[list[Any]]:
    """Batches of changes."""
    added = submissions(count(FIRST + 1)).map(lambda change: [change])
    batches = st.lists(st.lists(others | others | added, min_size=1, max_size=12), min_size=1, max_size=3)
    return [list(chain(*batch)) for batch in draw(batches)]


async def outcomes(store: Backend, changes: Sequence[Any]) -> list[object]:
    """What becomes of changes that are posted at once, so that they are one batch."""
    told, answers = list[object](), list[object]()
    done = asyncio.Event()

    def keep(outcome: object) -> None:
        for each in outcome if isinstance(outcome, list) else [outcome]:
            if isinstance(each, Unwritable):
                told.append("unwritable")  # each database has its own words for it
            else:
                told.append(f"{type(each).__name__}: {each}" if isinstance(each, AgentComError) else each)
        answers.append(outcome)
        if len(answers) == len(changes):
            done.set()

    for change in changes:
        store.post(change, keep)
    await asyncio.wait_for(done.wait(), 60)
    return told


async def rows(store: Backend) -> dict[str, object]:
    """Everything that a store shows."""
    found = await store.tasks(TaskQuery(limit=1_000))
    return {
        "tasks": found,
        "specs": [await store.spec(row.id) for row in found],
        "attempts": [await store.attempts(row.id) for row in found],
        "blockers": [sorted(await store.blockers(row.id)) for row in found],
        "logs": [[(p.epoch, p.at_ms, p.stream, p.text) for p in await store.logs(row.id, 0, 1_000)] for row in found],
        "events": [(e.seq, e.kind, e.at_ms, e.task, e.agent, e.epoch, e.facts) for e in await store.events(0, 10_000)],
        "counts": {state: n for state, n in (await store.counts()).items() if n},
        "keys": await store.walk_keys("", 100),
        "agents": await store.agents(),
    }


async def compare(backend: str, history: Sequence[Sequence[Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        alone, together = await make_store("sqlite-memory", Path(folder)), await make_store(backend, Path(other))
        await alone.open()
        await together.open()
        try:
            for store in (alone, together):
                await store.commit(_joins(1))
                waiting = [new_task(FIRST, depends_on=(task_id(1), task_id(2)))]
                first = (*map(new_task, range(1, FIRST)), *waiting)
                await store.commit(c.AddTasks(at_ms=1_000, tasks=first, by="me"))
            for changes in history:
                one_by_one = [outcome for change in singly(changes) for outcome in await outcomes(alone, [change])]
                batches = together.batches
                at_once = await outcomes(together, changes)
                assert at_once == one_by_one
                assert together.batches == batches + 1
            assert await rows(together) == await rows(alone)
        finally:
            await alone.close()
            await together.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_does_what_its_changes_would_do_alone(backend: str) -> None:
    examples = 100 if backend == "sqlite-memory" else 12

    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
    @given(history=histories())
    def agree(history: list[list[Any]]) -> None:
        asyncio.run(compare(backend, history))

    agree()
