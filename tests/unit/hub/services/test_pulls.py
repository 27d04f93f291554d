"""The promises of the loop of pull requests: no answer of a forge ends it, and nothing that is over begins again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

import pytest
from msgspec.structs import replace

from hub.core.projects import Project
from hub.forges.shapes import Forge, ForgeFailed, Seen, Trouble
from hub.services.pulls import AT_ONCE, Pulls, proof_in
from hub.store.pull_changes import PullRow, PutPull
from hub.store.sqlite import SqliteStore
from protocol import codec
from protocol.errors import NotFound, Unavailable
from protocol.model import Context, TaskResult, TaskSpec
from protocol.pulls import Forge as Kind
from protocol.pulls import PullRules, PullState
from tests.support.stores import Rows, new_task, task_id

REPOSITORY = "https://forge.example.org/a/b.git"
PROJECT = Project(name="p", repository=REPOSITORY, pulls=PullRules(forge=Kind.FORGEJO, into="main"))
SPEC = TaskSpec(title="t", prompt="x", project="p", context=Context(repo=REPOSITORY))
RESULT = codec.encode_result(TaskResult(execution_ok=True, verified=True, pushed=True, branch="b", commit="c" * 40))
NOW_MS = 1_000_000
PATIENCE_S = 60.0


class Wake(asyncio.Event):
    """Notes how often a forge was asked between two waits of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.rounds: list[int] = []

    async def wait(self) -> Literal[True]:
        self.rounds.append(self.asked)
        self.asked = 0
        return await super().wait()


@dataclass
class Desk:
    """A loop over a store; the forge does to whoever looks for a request what the test says, one after the other."""

    rows: Rows
    answers: list[Callable[[], Awaitable[Seen | None]]] = field(default_factory=list)
    looked: int = 0
    wake: Wake = field(default_factory=Wake)

    def now_ms(self) -> int:
        return NOW_MS

    def monotonic(self) -> float:
        return NOW_MS / 1000

    def project(self, name: str) -> Project:
        if name != PROJECT.name:
            raise NotFound("project", name)
        return PROJECT

    async def find(self, head: str, base: str) -> Seen | None:
        """The only thing that these tests let a forge do."""
        assert (head, base) == ("b", "main")
        self.wake.asked += 1
        return await self.answers.pop(0)()

    async def pushed(self, number: int) -> None:
        """The work of a task, ready to be offered."""
        await self.rows.add(replace(new_task(number), spec=codec.encode_spec(SPEC)))
        epoch = (await self.rows.claim(number)).epoch
        await self.rows.accept(number, epoch)
        await self.rows.finish(number, epoch, result=RESULT, verified=True, offers=True)
        self.wake.set()

    async def pull(self, number: int) -> PullRow:
        row = await self.rows.store.pull(task_id(number))
        assert row is not None
        return row

    async def until_kept(self, number: int) -> PullRow:
        """A request as soon as its problem is kept."""
        async with asyncio.timeout(PATIENCE_S):
            while not (row := await self.pull(number)).record.problem:
                self.looked += 1
        return row


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    store = SqliteStore(":memory:")
    await store.open()
    desk = Desk(Rows(store))
    forge: Forge = desk  # type: ignore[assignment]  # of a forge these tests need one answer
    pulls = Pulls(store, desk, desk.project, lambda _: ("u", "p"), lambda *_: forge, wake=desk.wake)
    running = asyncio.create_task(pulls.run())
    yield desk
    assert not running.done(), "the loop goes on"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()


@pytest.mark.parametrize("odd", [TypeError("'int' object is not iterable"), RecursionError("too deep"), OSError(5)])
async def test_what_nobody_has_thought_of_keeps_one_request_waiting(desk: Desk, odd: Exception) -> None:
    async def answer() -> Seen | None:
        raise odd

    desk.answers.append(answer)
    await desk.pushed(1)
    row = await desk.until_kept(1)

    assert (row.state, row.record.tries, row.next_ms) == (PullState.PENDING, 1, NOW_MS + 2_000)
    assert f"not understood here ({type(odd).__name__})" in row.record.problem
    assert str(odd) not in row.record.problem


@pytest.mark.parametrize("trouble", [Trouble.REJECTED, Trouble.UNREACHABLE])
@pytest.mark.parametrize("state", [PullState.MERGED, PullState.FAILED])
async def test_what_another_hub_has_ended_meanwhile_stays_as_it_is(
    desk: Desk, trouble: Trouble, state: PullState
) -> None:
    quicker = asyncio.Event()

    async def answer() -> Seen | None:
        row = await desk.pull(1)
        await desk.rows.store.commit(PutPull(replace(row, state=state, next_ms=None)))
        quicker.set()
        raise ForgeFailed(trouble, "api", "look for the request", "no")

    async def other() -> Seen | None:
        raise ForgeFailed(Trouble.UNREACHABLE, "api", "look for the request", "away")

    desk.answers += [answer, other]
    await desk.pushed(1)
    async with asyncio.timeout(PATIENCE_S):
        await quicker.wait()
    await desk.pushed(2)
    await desk.until_kept(2)
    row = await desk.pull(1)

    assert (row.state, row.next_ms, row.record.problem) == (state, None, "")


async def test_what_cannot_be_kept_is_tried_again_after_a_while_also_if_it_is_much(desk: Desk) -> None:
    async def answer() -> Seen | None:
        raise Unavailable("the database does not answer")

    desk.answers += [answer] * 1_000
    for number in range(1, AT_ONCE + 1):
        await desk.pushed(number)
    async with asyncio.timeout(PATIENCE_S):
        while AT_ONCE not in desk.wake.rounds:
            await desk.pull(1)

    assert max(desk.wake.rounds) == AT_ONCE


@pytest.mark.parametrize("verified, rooms", [(True, ("other",)), (False, ()), (None, ())])
async def test_only_a_proof_that_has_proven_something_is_told(
    desk: Desk, verified: bool | None, rooms: tuple[str, ...]
) -> None:
    await desk.rows.add(replace(new_task(1), spec=codec.encode_spec(SPEC)))
    await desk.rows.claim(1)
    await desk.rows.finish(1, 1, result=RESULT, verified=True)
    task, (work,) = await desk.rows.store.task(task_id(1)), await desk.rows.store.attempts(task_id(1))
    found = codec.encode_result(TaskResult(execution_ok=True, verified=verified))
    proof = replace(work, epoch=2, host="other", accepted=False, result=found)

    assert task is not None
    known = proof_in(task, SPEC, [work, proof])
    assert known is not None
    assert (known.epoch, known.rooms) == (1, rooms)
