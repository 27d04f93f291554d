"""The promises of handing over work in progress: what it has cost counts once."""

from collections.abc import AsyncGenerator

import msgspec
import pytest
from msgspec.structs import replace

from hub.core.budgets import HUB, Amount, Charge, Limits, Purse
from hub.services.progress import Progress
from hub.store.budget_changes import BudgetRow, PutBudget, Settle
from hub.store.changes import Claimed
from hub.store.hub_changes import PutArtifact
from hub.store.sqlite import SqliteStore
from protocol import codec
from protocol.api import ArtifactView
from protocol.events import Event, EventKind
from protocol.model import AttemptId, AttemptState, FailureClass, TaskResult, TaskState, Usage
from protocol.progress import DOCUMENT, Saved
from tests.support.stores import Rows, new_task, task_id

NEED = Amount(tokens=100, micro=500_000, ms=60_000)
USED = Usage(model="m", input_tokens=30, cost_usd=0.1, seconds=2.0)
DOCUMENT_BYTES = msgspec.json.encode(Saved(iteration=1, turn=2, used=USED, underway=USED))


async def claim(rows: Rows) -> int:
    claimed: Claimed = await rows.store.commit(replace(rows.claim_change(1), charge=Charge(0, "ann", "", NEED)))
    await rows.accept(1, claimed.epoch)
    return claimed.epoch


async def spent(rows: Rows) -> Amount:
    return (await rows.store.purses(0)).purses.get(HUB, Purse()).spent


def result(usage: Usage) -> bytes:
    return codec.encode_result(TaskResult(execution_ok=True, verified=None, usage=usage))


@pytest.mark.parametrize("heard", ["never", "late", "in time"])
async def test_an_attempt_that_goes_on_with_the_work_of_a_lost_one_counts_it_once(heard: str) -> None:
    is_heard = heard == "in time"
    rows = Rows(SqliteStore(":memory:"))
    await rows.store.open()
    event = Event(kind=EventKind.BUDGET_SET, at_ms=1, facts={"budget": "hub"})
    budget = BudgetRow(scope=HUB, limits=Limits(tokens=10_000), changed_ms=5, changed_by="me")
    await rows.store.commit(PutBudget(budget, event))
    await rows.add(new_task(1))
    first = await claim(rows)
    about = {"task": task_id(1), "epoch": first, "path": DOCUMENT, "sha256": "ab" * 32}
    await rows.store.commit(PutArtifact(at_ms=1, id=task_id(9), size_bytes=len(DOCUMENT_BYTES), **about))
    lost = {"attempt": AttemptState.LOST, "failure": FailureClass.INFRA, "orderly": is_heard}
    await rows.finish(1, first, TaskState.QUEUED, result=result(USED) if is_heard else None, **lost)
    late = Settle(task=task_id(1), epoch=first, usage=USED)
    if heard == "late":
        for _ in range(2):  # it may be told again
            await rows.store.commit(late)
        assert await spent(rows) == Amount(30, 100_000, 2_000)
    second = await claim(rows)
    progress = Progress(rows.store, lambda _attempt: True)
    progress.read = read

    for _ in range(2):  # it may have to ask again
        left = await progress.left(AttemptId("a", 1, task_id(1), second))
    await rows.store.commit(late)

    assert (left.epoch, left.reported) == (first, is_heard)
    assert await spent(rows) == (Amount(30, 100_000, 2_000) if is_heard else Amount())
    more = USED if is_heard else USED.plus(USED)
    await rows.finish(1, second, result=result(more))
    assert await spent(rows) == Amount(60, 200_000, 4_000)
    await rows.store.close()


async def read(_artifact: ArtifactView, _start: int, _stop: int) -> AsyncGenerator[bytes, None]:
    yield DOCUMENT_BYTES
