"""A store of every kind, and what must be true of it after every test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.clock import SystemClock
from hub.services.audit import Audit
from hub.store.store import TaskQuery
from protocol.model import TaskState
from tests.support.stores import BACKENDS, Rows, opened

Q, A, R = TaskState.QUEUED, TaskState.ASSIGNED, TaskState.RUNNING
DONE, FAILED, CANCELLED, DEAD = TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.DEAD


@pytest.fixture(params=BACKENDS)
async def rows(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rows]:
    async with opened(request.param, tmp_path) as made:
        yield made
        await facts_hold(made)


@pytest.fixture(params=BACKENDS)
async def bare(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rows]:
    """A store that may end in a state in which its log has a beginning or a gap."""
    async with opened(request.param, tmp_path) as made:
        yield made


async def facts_hold(rows: Rows) -> None:
    """What is true of every store after every test."""
    tasks = await rows.store.tasks(TaskQuery(limit=10_000))
    counted = {state: n for state, n in (await rows.store.counts()).items() if n}
    assert counted == {state: n for state in TaskState if (n := sum(t.state is state for t in tasks))}

    events = await rows.store.events(0, 10_000)
    assert [event.seq for event in events] == list(range(1, len(events) + 1)) == [e.seq for e in rows.committed]
    assert rows.store.newest_event == len(events)

    looked = await Audit(rows.store, SystemClock()).verify()
    assert looked.problems == ()
    assert looked.events == len(events)

    for task in tasks:
        attempts = await rows.store.attempts(task.id)
        assert [attempt.epoch for attempt in attempts] == list(range(1, task.epoch + 1))
        assert sum(attempt.accepted for attempt in attempts) <= 1
        assert sum(attempt.ended_ms is None for attempt in attempts) == (task.state in {A, R})
        assert (task.hub is not None) == (task.state in {A, R})
