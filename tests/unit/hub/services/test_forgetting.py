"""The promise of forgetting work in progress: what nobody goes on from goes, here and where it was pushed to."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from hub.core.fleet import Fleet
from hub.services.forgetting import MAX_AT_ONCE, PATIENT_MS, Forgetting
from hub.store.changes import Cancel
from hub.store.hub_changes import PutArtifact
from hub.store.sqlite import SqliteStore
from hub.store.store import ArtifactRow
from protocol import codec
from protocol.messages import Forget, Message
from protocol.model import AgentState, AttemptState, Context, FailureClass, TaskSpec, TaskState
from protocol.progress import DOCUMENT, FORGET, bundle_path
from tests.support.machines import add
from tests.support.stores import Rows, new_task, task_id

REPO = "https://example.org/r.git"


@dataclass
class Desk:
    """A hub's store with an agent ``a`` that is here, and a clock that stands."""

    rows: Rows
    fleet: Fleet = field(default_factory=Fleet)
    sent: list[tuple[str, int, Message]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    now: int = 5_000

    def __post_init__(self) -> None:
        add(self.fleet, "a")
        self.fleet.agents["a"].boot = 1
        self.fleet.agents["a"].capabilities |= {FORGET}
        self.forgetting = Forgetting(self.rows.store, self.fleet, self, self)
        self.forgetting.drop = self.drop

    def send(self, agent: str, boot: int, message: Message) -> None:
        self.sent.append((agent, boot, message))

    async def drop(self, row: ArtifactRow) -> None:
        self.dropped.append(row.path)

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1000

    async def work(self, number: int, repo: str = REPO) -> int:
        """Have an attempt keep its work; its epoch."""
        spec = codec.encode_spec(TaskSpec(title="t", context=Context(repo=repo)))
        await self.rows.add(replace(new_task(number), spec=spec))
        epoch = (await self.rows.claim(number)).epoch
        for place, path in enumerate((DOCUMENT, bundle_path(1), "wanted.txt")):
            name, digest = task_id(1000 * number + place), f"{number}{place}".rjust(64, "0")
            put = PutArtifact(
                at_ms=1, id=name, task=task_id(number), epoch=epoch, path=path, size_bytes=1, sha256=digest
            )
            await self.rows.store.commit(put)
        return epoch

    async def kept(self, number: int) -> list[str]:
        return [row.path for row in await self.rows.store.artifacts(task_id(number))]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    store = SqliteStore(":memory:")
    await store.open()
    yield Desk(Rows(store))
    await store.close()


async def test_work_in_progress_of_tasks_that_have_ended_goes_and_its_sidecar_is_told(desk: Desk) -> None:
    await desk.rows.finish(1, await desk.work(1))
    await desk.work(2)
    await desk.rows.store.commit(Cancel(at_ms=9, task=task_id(2), reason="", by="me"))

    assert await desk.forgetting.look() == 2
    assert await desk.kept(1) == await desk.kept(2) == ["wanted.txt"]
    assert sorted(desk.dropped) == sorted([DOCUMENT, bundle_path(1)] * 2)
    assert desk.sent == [("a", 1, Forget(repo=REPO, tasks=(task_id(number),))) for number in (1, 2)]
    assert await desk.forgetting.look() == 0


async def test_what_somebody_may_go_on_from_stays(desk: Desk) -> None:
    lost = {"attempt": AttemptState.LOST, "failure": FailureClass.INFRA}
    await desk.work(1)
    await desk.rows.finish(2, await desk.work(2), TaskState.QUEUED, **lost)
    await desk.rows.finish(3, await desk.work(3), TaskState.DEAD, **lost)

    assert await desk.forgetting.look() == 0
    assert [len(await desk.kept(number)) for number in (1, 2, 3)] == [3, 3, 3]


async def test_a_sidecar_that_is_away_is_waited_for_a_day_and_only_if_it_may_have_pushed(desk: Desk) -> None:
    desk.fleet.agents["a"].state = AgentState.OFFLINE
    await desk.rows.finish(1, await desk.work(1))
    await desk.rows.finish(2, await desk.work(2, repo=""))

    assert await desk.forgetting.look() == 1
    assert (len(await desk.kept(1)), len(await desk.kept(2))) == (3, 1)
    desk.now += PATIENT_MS
    assert await desk.forgetting.look() == 1
    assert (await desk.kept(1), desk.sent) == (["wanted.txt"], [])


async def test_a_sidecar_at_another_hub_is_told_by_that_one(desk: Desk) -> None:
    desk.forgetting.is_elsewhere = lambda agent: agent.name == "a"
    await desk.rows.finish(1, await desk.work(1))

    assert (await desk.forgetting.look(), desk.sent, len(await desk.kept(1))) == (0, [], 3)
    desk.forgetting.is_elsewhere = lambda _agent: False
    assert (await desk.forgetting.look(), len(desk.sent)) == (1, 1)


async def test_tasks_that_wait_for_their_sidecar_stand_in_nobodys_way(desk: Desk) -> None:
    for number in range(1, MAX_AT_ONCE + 2):
        await desk.rows.finish(number, await desk.work(number))
    desk.fleet.agents["a"].state = AgentState.OFFLINE
    assert await desk.forgetting.look() == 0

    desk.fleet.agents["a"].state = AgentState.IDLE
    assert await desk.forgetting.look() == 1  # the one behind the first hundred
    assert await desk.forgetting.look() == MAX_AT_ONCE


async def test_an_older_sidecar_is_told_nothing(desk: Desk) -> None:
    desk.fleet.agents["a"].capabilities -= {FORGET}
    await desk.rows.finish(1, await desk.work(1))

    assert (await desk.forgetting.look(), desk.sent) == (0, [])
