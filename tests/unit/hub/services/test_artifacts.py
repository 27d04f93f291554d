"""The promises of kept files that take time: what nobody wants goes, what somebody wants stays."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path

import pytest

from hub.core.agent import Held
from hub.core.fleet import Fleet
from hub.services.artifacts import YOUNG_MS, Allowance, Artifacts, Upload
from hub.store.blobs import Blob, Drafts, LocalBlobs, Place
from hub.store.hub_changes import PutArtifact
from hub.store.sqlite import SqliteStore
from protocol.errors import ArtifactTooLarge, NotFound, Unavailable
from protocol.model import AttemptId
from protocol.progress import DOCUMENT, bundle_path
from tests.support.stores import Rows, new_task, task_id

ARTIFACT = "01hzy0m5k3v8f6c2q9w4e7r1t0"


class Hand:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.now = 10 * YOUNG_MS

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1000


@pytest.fixture
async def rows(tmp_path: Path) -> AsyncIterator[Rows]:
    store = SqliteStore(":memory:")
    await store.open()
    yield Rows(store)
    await store.close()


async def blob(blobs: LocalBlobs, drafts: Drafts, content: bytes, at_ms: int, folder: Path) -> str:
    draft = drafts.begin()
    await draft.add(content)
    await draft.finish()
    await blobs.keep(draft, Place("", 0, draft.sha256))
    draft.drop()
    path = folder / draft.sha256[:2] / draft.sha256
    os.utime(path, (at_ms / 1000, at_ms / 1000))
    return draft.sha256


async def test_what_no_row_names_is_removed_when_it_is_old_and_nothing_else(rows: Rows, tmp_path: Path) -> None:
    drafts, blobs, clock = Drafts(tmp_path / "incoming"), LocalBlobs(tmp_path / "blobs"), Hand()
    named = await blob(blobs, drafts, b"named", 0, tmp_path / "blobs")
    old = await blob(blobs, drafts, b"old", 0, tmp_path / "blobs")
    young = await blob(blobs, drafts, b"young", clock.now, tmp_path / "blobs")
    artifacts = Artifacts(rows.store, Fleet(), clock, drafts, blobs, random_bits=lambda _bits: 1)
    await rows.add(new_task(1))
    epoch = (await rows.claim(1)).epoch
    await rows.store.commit(
        PutArtifact(at_ms=1, id=ARTIFACT, task=task_id(1), epoch=epoch, path="a", size_bytes=5, sha256=named)
    )

    removed = await artifacts.sweep()

    assert removed == 1
    assert {found.sha256 async for found in blobs.list()} == {named, young}
    assert old == hashlib.sha256(b"old").hexdigest()
    found = await artifacts.find(ARTIFACT)
    assert [piece async for piece in artifacts.read(found, 1, 4)] == [b"ame"]


async def test_a_file_that_goes_while_the_sweep_looks_stops_nothing(rows: Rows, tmp_path: Path) -> None:
    drafts, blobs, clock = Drafts(tmp_path / "incoming"), LocalBlobs(tmp_path / "blobs"), Hand()
    for content in (b"one", b"two", b"three"):
        await blob(blobs, drafts, content, 0, tmp_path / "blobs")
    folder = next((tmp_path / "blobs").iterdir())
    gone = folder / hashlib.sha256(b"gone").hexdigest()
    gone.symlink_to(tmp_path / "nowhere")  # listed, and not there when it is looked at
    artifacts = Artifacts(rows.store, Fleet(), clock, drafts, blobs, random_bits=lambda _bits: 1)

    assert await artifacts.sweep() == 3
    assert [found async for found in blobs.list()] == []


class Pausing(LocalBlobs):
    """Kept files on a disk that stands still while one is removed, until it is told to go on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.removes, self.go_on = asyncio.Event(), asyncio.Event()

    async def remove(self, blob: Blob) -> None:
        self.removes.set()
        await self.go_on.wait()
        await super().remove(blob)


async def test_a_file_that_comes_while_the_same_bytes_are_swept_away_is_kept(rows: Rows, tmp_path: Path) -> None:
    drafts, blobs, clock, fleet = Drafts(tmp_path / "incoming"), Pausing(tmp_path / "blobs"), Hand(), Fleet()
    digest = await blob(blobs, drafts, b"same", 0, tmp_path / "blobs")  # of a task that is long forgotten
    artifacts = Artifacts(rows.store, fleet, clock, drafts, blobs, random_bits=lambda _bits: 1)
    await rows.add(new_task(1))
    epoch = (await rows.claim(1)).epoch
    fleet.held[task_id(1)] = Held(task_id(1), epoch, "A", 1, float("inf"), is_committed=True)
    upload = Upload(attempt=AttemptId("A", 1, task_id(1), epoch), path="a", size_bytes=4, sha256=digest)

    async with asyncio.timeout(30):
        sweep = asyncio.create_task(artifacts.sweep())
        await blobs.removes.wait()
        coming = asyncio.create_task(artifacts.receive(upload, one_piece(b"same")))
        while not coming.done() and not artifacts._sweeping._waiters:  # noqa: ASYNC110 - no event tells that it waits for the sweep
            await asyncio.sleep(0)
        blobs.go_on.set()
        kept, _ = await asyncio.gather(coming, sweep)

        assert [piece async for piece in artifacts.read(kept, 0, 4)] == [b"same"]
        assert await artifacts.sweep() == 0


async def one_piece(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_bytes_that_lie_at_another_hub_are_told_as_such(rows: Rows, tmp_path: Path) -> None:
    drafts, blobs = Drafts(tmp_path / "incoming"), LocalBlobs(tmp_path / "blobs")
    artifacts = Artifacts(rows.store, Fleet(), Hand(), drafts, blobs, random_bits=lambda _bits: 1)
    await rows.add(new_task(1))
    epoch = (await rows.claim(1)).epoch
    await rows.store.commit(
        PutArtifact(at_ms=1, id=ARTIFACT, task=task_id(1), epoch=epoch, path="a", size_bytes=5, sha256="0" * 64)
    )
    found = await artifacts.find(ARTIFACT)

    with pytest.raises(Unavailable, match="is not where this hub keeps files"):
        _ = [piece async for piece in artifacts.read(found, 0, 5)]
    with pytest.raises(NotFound):
        await artifacts.find("nothing")


async def test_what_machines_keep_takes_no_room_from_the_task_and_goes_when_it_is_replaced(
    rows: Rows, tmp_path: Path
) -> None:
    drafts, blobs, fleet = Drafts(tmp_path / "incoming"), LocalBlobs(tmp_path / "blobs"), Fleet()
    most = Allowance(attempt_bytes=10)
    artifacts = Artifacts(rows.store, fleet, Hand(), drafts, blobs, random_bits=_numbers(), allowance=most)
    await rows.add(new_task(1))
    epoch = (await rows.claim(1)).epoch
    fleet.held[task_id(1)] = Held(task_id(1), epoch, "A", 1, float("inf"), is_committed=True)

    async def bring(path: str, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        attempt = AttemptId("A", 1, task_id(1), epoch)
        upload = Upload(attempt=attempt, path=path, size_bytes=len(content), sha256=digest)
        await artifacts.receive(upload, one_piece(content))
        return digest

    await bring(DOCUMENT, b"turn one")
    newer = await bring(DOCUMENT, b"turn two")
    same = await bring(DOCUMENT, b"turn two")
    own = [await bring("a", b"first!!!"), await bring("a", b"second!!")]
    with pytest.raises(ArtifactTooLarge):
        await bring("b", b"third!!!")
    with pytest.raises(ArtifactTooLarge):
        await bring(bundle_path(1), b"too much")

    assert same == newer
    assert {found.sha256 async for found in blobs.list()} == {newer, *own}


def _numbers() -> Callable[[int], int]:
    """Numbers that do not come twice."""
    counted = count(1)
    return lambda _bits: next(counted)
