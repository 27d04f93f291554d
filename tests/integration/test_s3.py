"""Kept files in a bucket of a real S3 server: nothing is lost, nothing is left, and hubs that share it do no harm."""

import hashlib
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp_s3_client.client import MultipartUploader

from hub.core.fleet import Fleet
from hub.services.artifacts import YOUNG_MS, Artifacts
from hub.settings import load, s3_keys
from hub.store.blobs import BlobsAway, Draft, Drafts, Place
from hub.store.hub_changes import PutArtifact
from hub.store.s3 import LEFT_MS, Bucket, S3Blobs
from hub.store.sqlite import SqliteStore
from protocol.errors import BadInput
from tests.support.foreign_agent import ForeignAgent
from tests.support.running_hub import running_hub
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, s3_server
from tests.support.stores import Rows, new_task, task_id

MIB = 1 << 20


@pytest.fixture
async def bucket() -> Bucket:
    return await s3_server().new_bucket("some/where/")


@pytest.fixture
async def blobs(bucket: Bucket) -> AsyncIterator[S3Blobs]:
    made = S3Blobs(bucket, part_bytes=5 * MIB)
    yield made
    await made.close()


async def drafted(folder: Path, content: bytes) -> tuple[Draft, Place]:
    draft = Drafts(folder / "incoming").begin()
    await draft.add(content)
    await draft.finish()
    return draft, Place(task_id(1), 3, draft.sha256)


async def kept(blobs: S3Blobs) -> list[tuple[str, int, str, int]]:
    return [(blob.task, blob.epoch, blob.sha256, blob.size_bytes) async for blob in blobs.list()]


@pytest.mark.parametrize("size", [0, 1_000, 12 * MIB + 7])
async def test_a_file_is_kept_in_one_piece_or_in_parts_and_given_out_as_it_came(
    blobs: S3Blobs, tmp_path: Path, size: int
) -> None:
    content = os.urandom(size)
    draft, place = await drafted(tmp_path, content)

    await blobs.keep(draft, place)

    assert b"".join([piece async for piece in blobs.read(place, 0, size)]) == content
    assert (
        b"".join([piece async for piece in blobs.read(place, size // 3, size // 2)]) == content[size // 3 : size // 2]
    )
    (found,) = [blob async for blob in blobs.list()]
    assert (found.task, found.epoch, found.sha256, found.size_bytes) == (*place, size)
    await blobs.remove(found)
    await blobs.remove(found)
    assert await kept(blobs) == []


async def test_what_is_not_there_and_what_others_keep_there(blobs: S3Blobs, tmp_path: Path) -> None:
    draft, place = await drafted(tmp_path, b"x")
    for name in ("some/where/readme.txt", "elsewhere", f"some/where/{task_id(1)}/x/{'0' * 64}"):
        async with blobs._client().put(
            name, data=b"theirs", content_sha256=hashlib.sha256(b"theirs").hexdigest()
        ) as put:
            assert put.status == 200

    with pytest.raises(FileNotFoundError):
        _ = [piece async for piece in blobs.read(place, 0, 1)]
    await blobs.keep(draft, place)
    assert [each[:3] for each in await kept(blobs)] == [tuple(place)]


async def test_an_upload_that_fails_leaves_no_parts(blobs: S3Blobs, bucket: Bucket, tmp_path: Path) -> None:
    draft, place = await drafted(tmp_path, bytes(12 * MIB))
    os.truncate(draft.path, 6 * MIB)  # a disk that loses what it had

    with pytest.raises(OSError, match="are gone") as failed:
        await blobs.keep(draft, place)

    assert SECRET_KEY not in str(failed.value)
    assert await kept(blobs) == []
    assert await blobs.tidy(2**50) == 0


async def test_parts_that_a_killed_hub_has_left_go_a_day_later(blobs: S3Blobs, bucket: Bucket) -> None:
    place = Place(task_id(1), 3, "0" * 64)
    left = MultipartUploader(blobs._client(), blobs._key(place), auto_abort=False)
    await left.create()
    await left.put_part(b"x", hashlib.sha256(b"x").hexdigest())
    theirs = MultipartUploader(blobs._client(), "some/where/theirs", auto_abort=False)
    await theirs.create()

    assert await blobs.tidy(0) == 0
    assert await blobs.tidy(2**42 + LEFT_MS) == 1
    assert await blobs.tidy(2**42 + LEFT_MS) == 0


@pytest.mark.parametrize("changes", [{"secret_key": "another"}, {"url": "http://127.0.0.1:9/test-1"}])
async def test_a_store_that_refuses_or_is_away_is_said_to_be(
    bucket: Bucket, tmp_path: Path, changes: dict[str, str]
) -> None:
    fields = {name: getattr(bucket, name) for name in Bucket.__struct_fields__}
    blobs = S3Blobs(Bucket(**{**fields, **changes}))
    draft, place = await drafted(tmp_path, b"x")

    for act in (blobs.keep(draft, place), kept(blobs), blobs.tidy(0)):
        with pytest.raises(BlobsAway) as failed:
            await act
        assert SECRET_KEY not in str(failed.value)
    assert SECRET_KEY not in repr(bucket)
    await blobs.close()


class Hand:
    """A clock that stands a day ahead: whatever is in the bucket is old."""

    now = 2**42

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1000


async def test_a_hub_removes_nothing_that_an_attempt_may_be_bringing_to_another_hub(
    blobs: S3Blobs, tmp_path: Path
) -> None:
    store = SqliteStore(":memory:")
    await store.open()
    rows, drafts = Rows(store), Drafts(tmp_path / "incoming")
    await rows.add(new_task(1), new_task(2))
    epochs = [(await rows.claim(number)).epoch for number in (1, 2)]
    for number, epoch in zip((1, 2), epochs, strict=True):
        for name in (b"named", b"not named"):
            draft, _ = await drafted(tmp_path, name)
            await blobs.keep(draft, Place(task_id(number), epoch, draft.sha256))
    older, _ = await drafted(tmp_path, b"of an attempt before")
    await blobs.keep(older, Place(task_id(1), epochs[0] - 1, older.sha256))
    gone, _ = await drafted(tmp_path, b"of a task that is forgotten")
    await blobs.keep(gone, Place(task_id(3), 1, gone.sha256))
    named = hashlib.sha256(b"named").hexdigest()
    change = PutArtifact(at_ms=1, id=task_id(9), task=task_id(2), epoch=epochs[1], path="a", size_bytes=5, sha256=named)
    await store.commit(change)
    artifacts = Artifacts(store, Fleet(), Hand(), drafts, blobs, random_bits=lambda _bits: 1)

    assert Hand.now > YOUNG_MS
    assert await artifacts.sweep() == 2
    assert len(await kept(blobs)) == 4
    await rows.accept(2, epochs[1])
    await rows.finish(2, epochs[1])
    assert await artifacts.sweep() == 1
    assert (task_id(2), epochs[1], named, 5) in await kept(blobs)
    await store.close()


async def test_a_hub_keeps_files_of_attempts_in_its_bucket(bucket: Bucket, blobs: S3Blobs, tmp_path: Path) -> None:
    name, body = bucket.url.rpartition("/")[2], os.urandom(100_000)
    keys = tmp_path / "keys"
    keys.write_text(f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
    settings = {
        "artifact_store": f"s3://{name}/some/where",
        "s3_endpoint": s3_server().endpoint,
        "s3_credentials": str(keys),
    }
    async with running_hub(tmp_path / "data", **settings) as hub:
        agent = await ForeignAgent.join(hub.url, hub.tokens["agent"])
        made = await hub.ask("POST", "/api/v1/tasks", json={"command": "true", "executor": "shell"})
        task = (await made.json())["id"]
        sidecar, boot, _, epoch = (await agent.until("assign"))["attempt"]
        await agent.tell("accept", [sidecar, boot, task, epoch])
        query = {"sidecar": sidecar, "boot": boot, "epoch": epoch, "path": "a.bin"}
        query["sha256"] = hashlib.sha256(body).hexdigest()
        answer = await hub.ask(
            "POST", f"/api/v1/tasks/{task}/artifacts", role="agent", data=io.BytesIO(body), params=query
        )
        artifact = (await answer.json())["id"]
        part = await hub.ask("GET", f"/api/v1/artifacts/{artifact}/download", headers={"Range": "bytes=10-19"})
        await agent.leave()

        assert answer.status == 201
        assert (await part.text("latin-1")).encode("latin-1") == body[10:20]
        assert await kept(blobs) == [(task, epoch, query["sha256"], len(body))]
        assert not (tmp_path / "data" / "artifacts" / "blobs").exists()


def test_settings_of_a_bucket_are_read_and_wrong_ones_are_told(tmp_path: Path) -> None:
    wrong = {"artifact_store": "s3://B_ucket", "s3_endpoint": "https://user:pass@host/x", "s3_region": "a b"}
    with pytest.raises(BadInput) as refused:
        load(wrong, env={"HOME": "/"})
    found, _ = load({"artifact_store": "s3://files/a/b/", "s3_path_style": "false"}, env={"HOME": "/"})
    (tmp_path / "keys").write_text("[default]\naws_access_key_id = x\nnonsense " + SECRET_KEY)
    broken, _ = load({"artifact_store": "s3://files", "s3_credentials": str(tmp_path / "keys")}, env={"HOME": "/"})

    assert {problem.path for problem in refused.value.problems} == set(wrong)
    assert "pass@" not in str(refused.value)
    assert found.bucket == ("https://files.s3.us-east-1.amazonaws.com", "a/b/")
    assert s3_keys(found, {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})["secret_key"] == "b"
    for settings in (found, broken):
        with pytest.raises(BadInput, match="s3_credentials") as missing:
            s3_keys(settings, {})
        assert SECRET_KEY not in str(missing.value)
