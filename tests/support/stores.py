"""Stores to run the conformance suite on, and short ways to state what should become of their rows."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

from hub.core.routing import Placement, encode_placement
from hub.store.backend import Backend
from hub.store.changes import (
    Accept,
    Added,
    AddTasks,
    Claim,
    Claimed,
    Finish,
    Finished,
    NewTask,
)
from hub.store.hub_changes import Joined, PutAgent
from hub.store.pace import Pace
from hub.store.postgres import PostgresStore
from hub.store.sqlite import SqliteStore
from protocol import codec
from protocol.events import Event, EventKind
from protocol.ids import encode
from protocol.model import AttemptState, FailureClass, Strategy, TaskResult, TaskSpec, TaskState, Tier, TierDecision
from tests.support.postgres import postgres_server

BACKENDS: Final = ("sqlite-memory", "sqlite-file", "postgres")
"""Every store has to keep the same promises; one that is added here is held to all of them."""

CLASS: Final = '{"executor":"noop","strategies":["trivial"]}'
TIER: Final = TierDecision(
    explicit=None, inferred=Tier.STANDARD, effective=Tier.STANDARD, confidence=0.5, signals=("x",)
)
RESULT: Final = codec.encode_result(TaskResult(execution_ok=True, verified=None, output="done"))
PLACEMENT: Final = encode_placement(
    Placement(strategy=Strategy.TRIVIAL, executor="noop", agent="a", reason="test", at_ms=1_000)
)


async def make_store(backend: str, folder: Path) -> Backend:
    """A store of this kind, not open yet; the same folder gives the same data."""
    if backend == "postgres":
        note = folder / "database"
        if not note.exists():
            note.write_text(await postgres_server().new_database())
        return PostgresStore(note.read_text())
    if backend == "sqlite-memory":
        return SqliteStore(":memory:")
    return SqliteStore(folder / "hub.sqlite", pace=Pace(60.0))  # short batches are the event loop's


@contextlib.asynccontextmanager
async def opened(backend: str, folder: Path) -> AsyncIterator["Rows"]:
    """A store of this kind, open."""
    store = await make_store(backend, folder)
    await store.open()
    try:
        yield Rows(store)
    finally:
        await store.close()


def task_id(number: int) -> str:
    """Ids that sort as their numbers do."""
    return encode(number << 80)


def new_task(number: int, **changes: Any) -> NewTask:
    """A task to add."""
    values: dict[str, Any] = {
        "id": task_id(number),
        "state": TaskState.QUEUED,
        "class_text": CLASS,
        "priority": 2,
        "title": f"task {number}",
        "labels": {},
        "spec": codec.encode_spec(TaskSpec(title=f"task {number}", executor="noop")),
        "tier": codec.encode_tier(TIER),
        "max_retries": 3,
    }
    return NewTask(**{**values, **changes})


class Rows:
    """A store with the verbs spelled out; time is a counter that every verb moves on."""

    def __init__(self, store: Backend) -> None:
        self.store = store
        self.now_ms = 1_000
        self.committed: list[Event] = []
        store.on_commit = self.committed.extend

    def tick(self) -> int:
        """The next moment."""
        self.now_ms += 1
        return self.now_ms

    async def add(self, *tasks: NewTask, key: str | None = None, digest: bytes = b"", by: str = "me") -> Added:
        """Add these tasks."""
        added: Added = await self.store.commit(AddTasks(at_ms=self.tick(), tasks=tasks, by=by, key=key, digest=digest))
        return added

    def claim_change(self, number: int, agent: str = "a", boot: int = 1, *, hub: int = 0) -> Claim:
        """A claim for an agent at a hub."""
        at_ms, task = self.tick(), task_id(number)
        return Claim(at_ms=at_ms, task=task, agent=agent, host="h", boot=boot, placement=PLACEMENT, hub=hub)

    async def claim(self, number: int, agent: str = "a", boot: int = 1, *, hub: int = 0) -> Claimed:
        """Give a task to an agent."""
        claimed: Claimed = await self.store.commit(self.claim_change(number, agent, boot, hub=hub))
        return claimed

    def join_change(self, agent: str = "a", boot: int = 1, **more: Any) -> PutAgent:
        """An agent introduces itself to a hub."""
        event = Event(kind=EventKind.AGENT_JOINED, at_ms=self.now_ms, agent=agent)
        return PutAgent(
            at_ms=self.tick(),
            name=agent,
            host="h",
            boot=boot,
            slots=1,
            version="1",
            capabilities=("x",),
            event=event,
            **more,
        )

    async def join(self, agent: str = "a", boot: int = 1, **more: Any) -> Joined:
        """An agent is welcomed by a hub."""
        joined: Joined = await self.store.commit(self.join_change(agent, boot, **more))
        return joined

    async def accept(self, number: int, epoch: int, *, hub: int = 0) -> None:
        """The agent takes it."""
        await self.store.commit(Accept(at_ms=self.tick(), task=task_id(number), epoch=epoch, hub=hub))

    def finish_change(self, number: int, epoch: int, state: TaskState = TaskState.COMPLETED, **changes: Any) -> Finish:
        """The end of an attempt, by what becomes of the task."""
        passed = state is TaskState.COMPLETED
        values: dict[str, Any] = {
            "at_ms": self.tick(),
            "task": task_id(number),
            "epoch": epoch,
            "attempt": AttemptState.PASSED if passed else AttemptState.FAILED,
            "next": state,
            "retries": 0,
            "infra_failures": 0,
            "failure": None if passed else FailureClass.AGENT,
            "result": RESULT if state is not TaskState.QUEUED else None,
            "execution_ok": True if passed else None,
        }
        return Finish(**{**values, **changes})

    async def finish(self, number: int, epoch: int, state: TaskState = TaskState.COMPLETED, **changes: Any) -> Finished:
        """End an attempt."""
        finished: Finished = await self.store.commit(self.finish_change(number, epoch, state, **changes))
        return finished

    async def completed(self, *numbers: int) -> None:
        """Take these tasks all the way."""
        for number in numbers:
            epoch = (await self.claim(number)).epoch
            await self.accept(number, epoch)
            await self.finish(number, epoch)

    async def state(self, number: int) -> TaskState:
        """Where a task stands."""
        row = await self.store.task(task_id(number))
        assert row is not None
        return row.state

    async def states(self, numbers: Sequence[int]) -> list[TaskState]:
        """Where tasks stand."""
        return [await self.state(number) for number in numbers]

    async def kinds(self, number: int | None = None) -> list[str]:
        """Kinds of all events, or of those of one task."""
        task = None if number is None else task_id(number)
        return [event.kind.value for event in await self.store.events(0, 10_000, task)]
