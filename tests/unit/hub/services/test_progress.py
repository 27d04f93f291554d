"""The promises of what is left for the next attempt: how long it is waited for, and that what is newer is shown."""

from collections.abc import AsyncGenerator, AsyncIterator

import msgspec
import pytest

from hub.services.progress import PATIENT_ATTEMPTS, Progress
from hub.store.hub_changes import PutArtifact
from hub.store.sqlite import SqliteStore
from protocol.api import ArtifactView
from protocol.errors import Unavailable
from protocol.model import AttemptId, AttemptState, FailureClass, TaskState
from protocol.progress import DOCUMENT, Saved
from tests.support.stores import Rows, new_task, task_id

SAVED = Saved(iteration=1, turn=3)


@pytest.fixture
async def rows() -> AsyncIterator[Rows]:
    store = SqliteStore(":memory:")
    await store.open()
    yield Rows(store)
    await store.close()


async def _keep(rows: Rows, epoch: int) -> None:
    size_bytes = len(msgspec.json.encode(SAVED))
    change = PutArtifact(
        at_ms=1, id=task_id(9), task=task_id(1), epoch=epoch, path=DOCUMENT, size_bytes=size_bytes, sha256="0" * 64
    )
    await rows.store.commit(change)


async def test_bytes_that_nobody_can_read_are_waited_for_and_then_given_up(rows: Rows) -> None:
    progress = Progress(rows.store, lambda _attempt: True)  # whose files lie nowhere
    await rows.add(new_task(1))
    epoch = (await rows.claim(1)).epoch
    await _keep(rows, epoch)

    async def next_attempt() -> AttemptId:
        nonlocal epoch
        lost = {"attempt": AttemptState.LOST, "failure": FailureClass.INFRA}
        await rows.finish(1, epoch, TaskState.QUEUED, **lost)
        epoch = (await rows.claim(1)).epoch
        return AttemptId("a", 1, task_id(1), epoch)

    for _ in range(PATIENT_ATTEMPTS):
        with pytest.raises(Unavailable):
            await progress.left(await next_attempt())
    assert (await progress.left(await next_attempt())).saved is None


async def test_what_is_replaced_while_somebody_looks_is_shown_as_it_is_now(rows: Rows) -> None:
    progress, looks = Progress(rows.store, lambda _attempt: True), 0
    await rows.add(new_task(1))
    await _keep(rows, (await rows.claim(1)).epoch)

    async def read(_artifact: ArtifactView, _start: int, _stop: int) -> AsyncGenerator[bytes, None]:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise Unavailable("it was just removed")
        yield msgspec.json.encode(SAVED)

    progress.read = read
    seen = await progress.view(task_id(1), await rows.store.attempts(task_id(1)))

    assert seen is not None
    assert seen.turn == SAVED.turn
