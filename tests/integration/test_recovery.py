"""A store with the files that belong to it, as it is backed up and restored while no hub uses it."""

import shutil
from pathlib import Path

import pytest

from hub import recovery
from hub.store.mark import mark_of
from hub.store.pace import Pace
from hub.store.redo import redo_of
from hub.store.sqlite import SqliteStore
from protocol.errors import StoreDamaged
from tests.support.redo import idle
from tests.support.stores import Rows, new_task, task_id

NOW_MS = 1_800_000_000_000


async def lived(folder: Path) -> tuple[Path, Path]:
    """A store that was killed with its last task in the journal alone, and one whose journal begins too late."""
    store = SqliteStore(folder / "hub.sqlite", pace=Pace(60.0))
    await store.open()
    rows = Rows(store)
    await rows.add(new_task(1))
    await rows.add(new_task(2), new_task(3))  # the log is synced, the journal begins anew
    await idle(store)  # or the next one is the thread's, too
    killed, gone = folder / "killed", folder / "gone"
    for other in (killed, gone):
        other.mkdir()
        for end in ("", "-wal"):
            shutil.copy(folder / f"hub.sqlite{end}", other / f"hub.sqlite{end}")
    await rows.add(new_task(4))
    shutil.copy(redo_of(folder / "hub.sqlite"), redo_of(killed / "hub.sqlite"))
    await rows.add(new_task(5), new_task(6))
    await idle(store)
    await rows.add(new_task(7))
    shutil.copy(redo_of(folder / "hub.sqlite"), redo_of(gone / "hub.sqlite"))
    await store.close()
    return killed, gone


async def tasks_in(path: Path) -> list[int]:
    store = SqliteStore(path)
    await store.open()
    found = [number for number in range(1, 8) if await store.task(task_id(number)) is not None]
    await store.close()
    return found


async def test_a_backup_of_a_stopped_hub_holds_what_its_journal_holds(tmp_path: Path) -> None:
    killed, _ = await lived(tmp_path)
    before = {file.name: file.read_bytes() for file in killed.iterdir() if file.suffix != ".sqlite-shm"}
    copy, facts = recovery.back_up(killed, NOW_MS)

    assert facts.tasks == 4
    assert await tasks_in(copy) == [1, 2, 3, 4]
    assert {name: (killed / name).read_bytes() for name in before} == before, "the source is as it was"


async def test_no_backup_is_made_of_a_store_whose_journal_begins_too_late(tmp_path: Path) -> None:
    _, gone = await lived(tmp_path)
    with pytest.raises(StoreDamaged, match="does not go on from there"):
        recovery.back_up(gone, NOW_MS)
    with pytest.raises(StoreDamaged, match="does not go on from there"):
        await SqliteStore(gone / "hub.sqlite").open()


async def test_a_store_whose_journal_begins_too_late_can_be_restored_from_itself(tmp_path: Path) -> None:
    _, gone = await lived(tmp_path)
    done = await recovery.restore(gone / "hub.sqlite", gone, NOW_MS)
    aside = {file.name for file in Path(done.replaced).iterdir()}

    assert done.tasks == 3
    assert redo_of(gone / "hub.sqlite").name in aside
    assert await tasks_in(gone / "hub.sqlite") == [1, 2, 3]


async def test_a_restore_moves_the_journal_aside_with_the_store_that_it_belongs_to(tmp_path: Path) -> None:
    killed, _ = await lived(tmp_path)
    copy, _ = recovery.back_up(killed, NOW_MS)
    journal = redo_of(killed / "hub.sqlite").read_bytes()
    done = await recovery.restore(copy, killed, NOW_MS + 1)

    assert redo_of(Path(done.replaced) / "hub.sqlite").read_bytes() == journal
    assert not redo_of(killed / "hub.sqlite").exists()
    assert mark_of(killed / "hub.sqlite").exists()
    assert await tasks_in(killed / "hub.sqlite") == [1, 2, 3, 4]
