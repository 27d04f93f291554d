"""The promises of backups: a name only for what was looked through, the newest kept, failures told until they end."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.services import backups as module
from hub.services.backups import BackupElsewhere, Backups, backups_in, name_of
from hub.store import copying
from hub.store.sqlite import SqliteStore
from protocol.errors import Conflict, StoreFailed
from tests.support.stores import Rows, new_task


class Hand:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000

    def now_ms(self) -> int:
        self.now += 1
        return self.now

    def monotonic(self) -> float:
        return self.now / 1000


@pytest.fixture
async def rows(tmp_path: Path) -> AsyncIterator[Rows]:
    store = SqliteStore(tmp_path / "hub.sqlite")
    await store.open()
    made = Rows(store)
    await made.add(*(new_task(number) for number in range(1, 30)))
    yield made
    await store.close()


def backups_of(rows: Rows, folder: Path, *, every_s: float = 60.0, keep: int = 3, free: int = 1 << 40) -> Backups:
    store = rows.store
    assert isinstance(store, SqliteStore)
    return Backups(store, store, Hand(), folder / "backups", every_s=every_s, keep=keep, space=lambda _folder: free)


async def test_a_backup_has_a_name_when_it_was_looked_through_and_is_told_of(rows: Rows, tmp_path: Path) -> None:
    backups = backups_of(rows, tmp_path)
    made = await backups.make("me")
    await rows.add(new_task(30))

    assert (await backups.list()).backups == (made,)
    path = Path(made.path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in path.parent.iterdir()] == [made.name]
    assert copying.look_through(path).tasks == 29
    assert (await rows.kinds())[-2:] == ["backup_made", "task_queued"]
    assert backups.health().state == "ok"


async def test_only_the_newest_stay_and_what_is_not_ours_is_left_alone(rows: Rows, tmp_path: Path) -> None:
    backups = backups_of(rows, tmp_path, keep=2)
    await backups.make("me")
    (tmp_path / "backups" / "mine.sqlite").write_text("x")
    made = [(await backups.make("me")).name for _ in range(3)]

    assert [path.name for path in backups_in(tmp_path / "backups")] == made[:0:-1]
    assert (tmp_path / "backups" / "mine.sqlite").exists()


async def test_a_disk_without_room_is_told_until_a_backup_succeeds(rows: Rows, tmp_path: Path) -> None:
    short = backups_of(rows, tmp_path, free=10)
    with pytest.raises(StoreFailed, match=r"needs \d+ MiB free .* keep fewer backups"):
        await short.make("me")
    await rows.add(new_task(30))

    assert short.health().state == "degraded"
    assert "the last one failed" in short.health().detail
    assert "backup_failed" in await rows.kinds()
    assert (await short.list()).backups == ()
    short._space = lambda _folder: 1 << 40
    await short.make("me")
    assert short.health().state == "ok"


async def test_a_folder_that_cannot_be_made_is_told_of(rows: Rows, tmp_path: Path) -> None:
    (tmp_path / "backups").write_text("in the way")

    with pytest.raises(StoreFailed, match="cannot make a backup"):
        await backups_of(rows, tmp_path).make("me")


async def test_a_copy_that_is_not_whole_is_put_aside_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "draft").write_bytes(b"SQLite format 3\0" + bytes(8_000))

    with pytest.raises(StoreFailed, match=r"the copy is not whole .* put aside as"):
        module.finish(tmp_path / "draft", tmp_path / name_of(0), 0)
    assert [path.suffix for path in tmp_path.iterdir()] == [".damaged"]


async def test_half_a_copy_of_a_hub_that_ended_goes_with_the_next_one(rows: Rows, tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    (tmp_path / "backups" / ".draft-17").write_text("half")
    made = await backups_of(rows, tmp_path).make("me")

    assert [path.name for path in (tmp_path / "backups").iterdir()] == [made.name]


async def test_one_at_a_time(rows: Rows, tmp_path: Path) -> None:
    backups = backups_of(rows, tmp_path)
    first = asyncio.create_task(backups.make("me"))
    await asyncio.sleep(0)

    with pytest.raises(Conflict, match="being made already"):
        await backups.make("me")
    await first


async def test_a_store_on_a_server_says_what_to_use(rows: Rows, tmp_path: Path) -> None:
    backups = Backups(rows.store, None, Hand(), tmp_path / "backups", every_s=60, keep=3)

    with pytest.raises(BackupElsewhere, match="pg_dump --format=custom"):
        await backups.make("me")
    assert backups.health().state == "ok"
    await backups.run()  # nothing to do: it ends


async def test_without_a_schedule_there_is_none_and_health_says_so(rows: Rows, tmp_path: Path) -> None:
    backups = backups_of(rows, tmp_path, every_s=0)
    await backups.run()

    assert backups.health().detail == "none yet; only when asked for (backup_every_s is 0)"


def test_the_next_one_is_due_when_the_last_is_old_enough(tmp_path: Path) -> None:
    store, clock = SqliteStore(":memory:"), Hand()
    backups = Backups(store, store, clock, tmp_path, every_s=3_600, keep=3)
    assert backups._due_in_s() == 0.0

    (tmp_path / name_of(clock.now - 600_000)).touch()
    assert 2_999 < backups._due_in_s() <= 3_000
