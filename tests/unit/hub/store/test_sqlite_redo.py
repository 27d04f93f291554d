"""The promises of the redo journal to whoever opens a store: all that was told is there, once, or it is damaged."""

import errno
import os
import random
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import apsw
import pytest

from hub.clock import SystemClock
from hub.services.audit import Audit
from hub.store.backend import Backend
from hub.store.changes import Accept, AddTasks, AnyChange, Cancel, Claim, Record
from hub.store.many_changes import End
from hub.store.pages import PAGE_BYTES
from hub.store.redo import RedoFile, redo_of
from hub.store.store import TaskQuery
from protocol.errors import AgentComError, StoreDamaged
from protocol.events import Event, EventKind
from protocol.model import TaskState
from tests.support.crash_images import Content, content, lies_below
from tests.support.redo import idle, owes, quick_store, ready, told
from tests.support.stores import PLACEMENT, RESULT, Rows, new_task, task_id

FACT: Final = Record(Event(kind=EventKind.HUB_STARTED, at_ms=1))
"""A change that no short batch has."""
Q, DONE = TaskState.QUEUED, TaskState.COMPLETED
FRAME_BYTES: Final = PAGE_BYTES + 24
"""A page in the log, with what stands before it."""


def image(home: Path, into: Path, *, without: Sequence[str] = (), log_bytes: int | None = None) -> Path:
    """The files of a store as somebody finds them who comes after a crash.

    Args:
        home: where the store is at work.
        into: a folder, which is made.
        without: ends of the names of files that are gone.
        log_bytes: so much of the log has reached the disk; ``None``: all of it.
    """
    into.mkdir()
    for end in {"", "-wal", "-redo", "-mark"} - set(without):
        shutil.copyfile(home / f"hub.sqlite{end}", into / f"hub.sqlite{end}")
    if log_bytes is not None:
        with (into / "hub.sqlite-wal").open("r+b") as log:
            log.truncate(log_bytes)
    return into


def died(store: Backend, home: Path, into: Path) -> bool:
    """Make that image; whether the store owed something then."""
    image(home, into)
    return owes(store)


def log_bytes(home: Path) -> int:
    return (home / "hub.sqlite-wal").stat().st_size


async def opened(folder: Path) -> Rows:
    rows = Rows(quick_store(folder))
    await rows.store.open()
    return rows


async def is_sound(store: Backend) -> bool:
    """Whether events have no gap, counts are right and the audit log holds."""
    tasks = await store.tasks(TaskQuery(limit=10_000))
    counted = {state: n for state, n in (await store.counts()).items() if n}
    assert counted == {state: n for state in TaskState if (n := sum(task.state is state for task in tasks))}
    events = await store.events(0, 10_000)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    verdict = await Audit(store, SystemClock()).verify()
    assert verdict.problems == ()
    return verdict.ok


def adding(number: int, **more: Any) -> AddTasks:
    return AddTasks(at_ms=number, tasks=(new_task(number),), by="me", **more)


async def holds(folder: Path, tasks: int) -> bool:
    """Whether a store has tasks from 0 to this, is sound, and goes on."""
    rows = await opened(folder)
    assert await rows.states(range(tasks + 1)) == [Q] * (tasks + 1)
    assert await rows.store.task(task_id(tasks + 1)) is None
    for number in (tasks + 1, tasks + 2):
        await rows.add(new_task(number))
    assert await is_sound(rows.store)
    await rows.store.close()
    return True


# --- a process that is killed, and a power cut ------------------------------------------------------------------------


async def test_what_was_told_is_there_after_a_kill_before_the_store_had_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    rows = await ready(home)
    for number in range(1, 6):

        def dies(number: int = number) -> bool:
            image(home, tmp_path / str(number))
            return owes(rows.store)

        assert await told(rows.store, adding(number), dies), "the journal alone has it"
    await rows.store.close()

    for number in range(1, 6):
        assert await holds(tmp_path / str(number), number)


async def test_every_step_of_a_task_that_was_told_is_there_after_a_kill(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    rows = await ready(home)
    await rows.add(new_task(1))
    seen: list[TaskState] = []
    for change in (
        rows.claim_change(1),
        End(rows.tick(), task_id(1), 1, 0, 0, 0, RESULT, {"model": "none"}, accepts=True),
    ):
        into = tmp_path / str(len(seen))
        assert await told(rows.store, change, partial(died, rows.store, home, into))
        found = await opened(into)
        seen.append(await found.state(1))
        assert await is_sound(found.store)
        await found.store.close()
    await rows.store.close()

    assert seen == [TaskState.ASSIGNED, DONE]


async def test_what_was_told_is_there_wherever_a_power_cut_has_left_the_log(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    rows = await ready(home)
    await rows.store.commit(FACT)  # which is synced with everything before it
    await idle(rows.store)
    synced = log_bytes(home)
    for number in range(1, 8):
        await rows.add(new_task(number))
    await rows.state(0)  # by now the last one is in the log, too
    cuts = range(synced, log_bytes(home) + FRAME_BYTES, 3 * FRAME_BYTES + 1_000)
    folders = [image(home, tmp_path / str(cut), log_bytes=cut) for cut in cuts]
    await rows.store.close()

    assert len(folders) > 10
    for folder in folders:
        assert await holds(folder, 7), folder


async def test_a_power_cut_while_the_last_one_is_owed_loses_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    rows = await ready(home)
    await rows.store.commit(FACT)
    await idle(rows.store)
    synced = log_bytes(home)
    for number in (1, 2):
        await rows.add(new_task(number))
    await told(rows.store, adding(3), lambda: image(home, tmp_path / "cut", log_bytes=synced))
    await rows.store.close()

    assert await holds(tmp_path / "cut", 3)


async def test_a_store_that_lost_power_again_right_after_it_was_opened_has_everything(tmp_path: Path) -> None:
    home, first = tmp_path / "home", tmp_path / "first"
    home.mkdir()
    rows = await ready(home)
    await told(rows.store, adding(1), lambda: image(home, first))
    await rows.store.close()
    again = await opened(first)
    image(first, tmp_path / "second")
    await again.store.close()

    assert await holds(tmp_path / "second", 1)


class Below(apsw.VFS):
    """What lies below the store; it notes when a log is synced."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.name = f"noted-{id(self)}"
        super().__init__(self.name, "unix")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _Log(self, name, flags) if flags[0] & apsw.SQLITE_OPEN_WAL else apsw.VFSFile("unix", name, flags)


class _Log(apsw.VFSFile):
    def __init__(self, below: Below, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._below = below
        super().__init__("unix", name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        self._below.order.append("log synced")
        super().xSync(flags)


@pytest.mark.parametrize("is_hub", [True, False], ids=["by a hub", "by another program"])
async def test_a_store_that_is_opened_after_a_kill_syncs_its_log_before_the_journal_is_written_over(
    tmp_path: Path, is_hub: bool
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    rows = await ready(home)
    for number in (1, 2, 3):
        await rows.add(new_task(number), key=f"k{number}")
    await rows.state(0)  # all of it is in the log, and none of it synced
    image(home, tmp_path / "dead")
    await rows.store.close()
    disk = Below()
    with lies_below(disk, disk.name):

        class Noted(RedoFile):
            def write(self, data: bytes, offset: int) -> None:
                disk.order.append("journal written over")
                super().write(data, offset)

        again = Rows(quick_store(tmp_path / "dead", open_redo=Noted))
        await again.store.open()
        if is_hub:
            await again.store.start(20)
        await idle(again.store)
        for number in (1, 4, 5, 6):
            await again.add(new_task(number), key=f"k{number}")
            await idle(again.store)  # else the thread writes the next one, too
        await again.store.close()

    assert disk.order.index("log synced") < disk.order.index("journal written over")


# --- what is gone -----------------------------------------------------------------------------------------------------


async def test_a_store_whose_journal_was_deleted_while_it_was_needed_is_damaged(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    rows = await ready(home)
    await told(rows.store, adding(1), lambda: image(home, tmp_path / "image", without=("-redo",)))
    await rows.store.close()

    with pytest.raises(StoreDamaged, match=r"its last 1 commit is gone: .*hub\.sqlite-redo was cut off or deleted"):
        await opened(tmp_path / "image")


async def test_a_store_whose_journal_is_an_older_one_is_damaged(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    rows = await ready(home)
    synced = log_bytes(home)
    await rows.add(new_task(1))
    shutil.copyfile(redo_of(home / "hub.sqlite"), tmp_path / "older")
    await rows.add(new_task(2))
    await rows.state(0)
    image(home, tmp_path / "image", log_bytes=synced)
    shutil.copyfile(tmp_path / "older", redo_of(tmp_path / "image" / "hub.sqlite"))
    await rows.store.close()

    with pytest.raises(StoreDamaged, match="its last 1 commit is gone"):
        await opened(tmp_path / "image")


async def test_a_store_with_the_journal_of_another_one_has_what_is_its_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        rows = await ready(tmp_path / name)
        await told(rows.store, adding(1), partial(image, tmp_path / name, tmp_path / f"{name} dead"))
        await rows.store.close()
    shutil.copyfile(redo_of(tmp_path / "two dead" / "hub.sqlite"), redo_of(tmp_path / "one" / "hub.sqlite"))

    assert await holds(tmp_path / "one", 1)


async def test_a_store_that_is_only_looked_at_says_what_is_still_in_its_journal_and_leaves_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    rows = await ready(home)
    await told(rows.store, adding(1), lambda: image(home, tmp_path / "image"))
    await rows.store.close()
    before = redo_of(tmp_path / "image" / "hub.sqlite").read_bytes()
    looked = quick_store(tmp_path / "image", read_only=True)
    await looked.open()
    found = looked.damage
    await looked.close()

    assert "still in hub.sqlite-redo: a hub that starts here puts that in" in found
    assert redo_of(tmp_path / "image" / "hub.sqlite").read_bytes() == before
    assert await holds(tmp_path / "image", 1)


# --- a long history ---------------------------------------------------------------------------------------------------


def no_journal(path: Path) -> RedoFile:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


class History:
    """Changes of all kinds, most of them short, as chance has them; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self._chance, self._newest, self._at_ms = random.Random(seed), 0, 1_000
        self._makers: list[Callable[[], AnyChange]] = [self._add] * 4 + [self._many, self._claim, self._claim]
        self._makers += [self._accept, self._end, self._end, self._end, self._cancel, lambda: FACT]

    def next(self) -> AnyChange:
        self._at_ms += 1
        return self._chance.choice(self._makers)()

    def _task(self) -> int:
        return self._chance.randint(max(0, self._newest - 5), self._newest)

    def _add(self) -> AddTasks:
        self._newest += 1
        key = self._chance.choice([None, None, f"k{self._newest}", f"k{self._task()}"])
        spec = b"x" * self._chance.choice([10, 3_000, 16_000])
        task = new_task(self._newest, spec=spec, title=self._chance.choice(["a", "ünï 🚀", "a\0b"]))
        return AddTasks(at_ms=self._at_ms, tasks=(task,), by="me", key=key, digest=b"d")

    def _many(self) -> AddTasks:
        first, self._newest = self._newest + 1, self._newest + 3
        tasks = tuple(new_task(number) for number in range(first, first + 3))
        return AddTasks(at_ms=self._at_ms, tasks=tasks, by="me")

    def _claim(self) -> Claim:
        return Claim(
            at_ms=self._at_ms, task=task_id(self._task()), agent="a", host="h", boot=1, placement=PLACEMENT, hub=0
        )

    def _accept(self) -> Accept:
        return Accept(at_ms=self._at_ms, task=task_id(self._task()), epoch=1)

    def _end(self) -> End:
        accepts, offers = self._chance.random() < 0.7, self._chance.random() < 0.3
        task = task_id(self._task())
        return End(self._at_ms, task, 1, 0, 0, 0, RESULT, {"model": "none"}, accepts=accepts, offers=offers)

    def _cancel(self) -> Cancel:
        return Cancel(at_ms=self._at_ms, task=task_id(self._task()), reason="no", by="me")


async def lived(folder: Path, seed: int, *, open_redo: Callable[[Path], RedoFile]) -> tuple[list[str], Content, int]:
    """A history, with the store closed or killed every now and then: all outcomes, all rows, and how often it owed."""
    history, chance = History(seed), random.Random(seed + 1)
    outcomes: list[str] = []
    home, debts, gone = folder / "0", 0, () if open_redo is RedoFile else ("-redo",)
    home.mkdir(parents=True)
    for life in range(8):
        rows = await ready(home, open_redo=open_redo) if not life else Rows(quick_store(home, open_redo=open_redo))
        if life:
            await rows.store.open()
        for _ in range(chance.randint(5, 50)):
            await idle(rows.store)
            try:
                outcomes.append(repr(await rows.store.commit(history.next())))
            except AgentComError as exc:
                outcomes.append(repr(exc))
            debts += owes(rows.store)
        home = folder / str(life + 1)
        if is_killed := chance.random() < 0.7:
            image(folder / str(life), home, without=gone)
        await rows.store.close()
        if not is_killed:
            image(folder / str(life), home, without=("-wal", *gone))
    last = Rows(quick_store(home))
    await last.store.open()
    assert await is_sound(last.store)
    await last.store.close()
    rows_of = content(home / "hub.sqlite")
    rows_of["facts"] = tuple(row for row in rows_of["facts"] if row[0] != "store_id")
    return outcomes, rows_of, debts


@pytest.mark.parametrize("seed", range(4))
async def test_a_history_with_kills_leaves_what_it_leaves_without_a_journal(tmp_path: Path, seed: int) -> None:
    noted, rows_noted, debts = await lived(tmp_path / "with", seed, open_redo=RedoFile)
    plain, rows_plain, no_debts = await lived(tmp_path / "without", seed, open_redo=no_journal)

    assert debts > 20
    assert no_debts == 0
    assert noted == plain
    assert [name for name in rows_plain if rows_noted[name] != rows_plain[name]] == []
