"""Bring back a store that is lost or damaged: what to do, said in commands, and the commands themselves.

Nothing is deleted here. A store that is replaced moves into ``DIR/replaced-TIME/`` with everything that belongs to it,
so two write-ahead logs never mix; while that goes on, ``restore.pending`` keeps every hub out. A restored store goes on
far ahead of what the lost one gave out: epochs, boots and event numbers jump, so nothing that happened after the backup
can be taken for something of the new history. Callers: ``app.py``, and the commands ``backup`` and ``restore``.
"""

import contextlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import apsw
import structlog
from msgspec import Struct

from hub.lock import hold
from hub.services.audit import ANCHOR_FILE
from hub.services.backups import backups_in, finish, name_of
from hub.store import copying
from hub.store.copying import CopyFacts
from hub.store.keeping_changes import Restore, Restored
from hub.store.mark import mark_of
from hub.store.queries import queries
from hub.store.redo import redo_of
from hub.store.rows import moment
from hub.store.sqlite import SqliteStore
from hub.store.sqlite_file import connect
from protocol.errors import BadInput, Problem, StoreDamaged, StoreFailed

log = structlog.get_logger(__name__)
STORE_FILE: Final = "hub.sqlite"
BACKUPS: Final = "backups"
_DAMAGE_NOTE: Final = "damage.txt"
_PENDING: Final = "restore.pending"
_DRAFT: Final = ".restoring"
_SHOWN: Final = 3


class Loss(Struct, frozen=True, kw_only=True):
    """What the replaced store held beyond the backup, as far as it can still be read."""

    tasks: int
    events: int


class Restoration(Struct, frozen=True, kw_only=True):
    """What a restore has done."""

    store: str
    file: str
    at: datetime
    """When the backup was made: what happened later is lost."""
    tasks: int
    requeued: int
    """Tasks that agents held when the backup was made; they run again."""
    replaced: str
    """Where the store that was there lies now; empty if there was none."""
    lost: Loss | None
    """``None``: there was none, or it cannot be read."""


# --- what to do -------------------------------------------------------------------------------------------------------


def steps(folder: Path) -> tuple[str, ...]:
    """The commands that bring a good store back to ``folder``, the newest backup first."""
    found = backups_in(folder / BACKUPS)
    lines = [f"agentcom restore {path} --data-dir {folder}" for path in found[:_SHOWN]]
    if not lines:
        lines = [f"agentcom restore FILE --data-dir {folder}    (there is no backup in {folder / BACKUPS})"]
    return (*lines, f"agentcom hub --data-dir {folder} --read-only    (to look at what can still be read)")


def check_folder(folder: Path) -> None:
    """Pass if no restore was cut off here.

    Raises:
        StoreFailed: one was; the text says how to go on.
    """
    pending = folder / _PENDING
    if pending.exists():
        said = pending.read_text("utf-8").strip()
        raise StoreFailed(f"a restore was cut off half-way; do it again: agentcom restore {said} --data-dir {folder}")


def is_noted(folder: Path) -> bool:
    """Whether a hub has found damage here while it worked: then the whole store is looked through before it serves."""
    return (folder / _DAMAGE_NOTE).exists()


def note(folder: Path, damage: StoreDamaged) -> StoreDamaged:
    """Write down that the store is damaged; the same error, with the steps to take."""
    with contextlib.suppress(OSError):  # a disk that is full or gone does not change what there is to say
        (folder / _DAMAGE_NOTE).write_text(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {damage}\n", encoding="utf-8")
    return StoreDamaged(damage.path, damage.damage, steps(folder))


def clear_note(folder: Path) -> None:
    """The whole store was looked through and is sound after all (a cable, a controller)."""
    with contextlib.suppress(FileNotFoundError):
        (folder / _DAMAGE_NOTE).unlink()
        log.warning("damage_not_found_again", path=str(folder), next="look at the disk: it returned wrong bytes once")


# --- backup without a hub ---------------------------------------------------------------------------------------------


def back_up(folder: Path, now_ms: int, out: Path | None = None) -> tuple[Path, CopyFacts]:
    """Copy the store of ``folder``, which no hub uses now; where the copy lies and what is in it.

    Args:
        out: the copy's own name; left out: one among the backups of ``folder``.
    Raises:
        BadInput: a hub uses it, there is none, or ``out`` is taken.
        StoreFailed, StoreDamaged: it cannot be copied.
    """
    source = folder / STORE_FILE
    if not source.is_file():
        raise BadInput([Problem("data_dir", f"there is no store in {folder}; {_ELSEWHERE}")], "settings")
    if out is not None and out.exists():
        raise BadInput([Problem("out", f"{out} is there already; give another name")], "settings")
    with contextlib.closing(hold(folder)):
        path = out or folder / BACKUPS / name_of(now_ms)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        draft = path.with_name(f".draft-{now_ms}")
        draft.touch(mode=0o600)
        with _told(folder):
            copying.copy_whole(source, draft)
        return path, finish(draft, path, now_ms)


_ELSEWHERE: Final = "a store in PostgreSQL is backed up with pg_dump"


# --- restore ----------------------------------------------------------------------------------------------------------


def look_through(file: Path) -> CopyFacts:
    """What is in a backup, after looking at all of it.

    Raises:
        BadInput: there is no such file.
        StoreDamaged: it is not whole, or no store.
        StoreFailed: it cannot be read, or a newer build wrote it.
    """
    if not file.is_file():
        raise BadInput([Problem("file", f"there is no file {file}")], "settings")
    return copying.look_through(file)


def made_at(facts: CopyFacts) -> datetime:
    """When a copy was made."""
    return moment(facts.at_ms)


async def restore(file: Path, folder: Path, now_ms: int) -> Restoration:
    """Put the store that ``file`` is a copy of into ``folder``; what was there moves aside.

    Raises:
        BadInput: a hub uses the folder, or there is no such file.
        StoreDamaged, StoreFailed: the file cannot be used; nothing was changed.
    """
    facts = look_through(file)
    with contextlib.closing(hold(folder)):
        draft = folder / _DRAFT
        shutil.rmtree(draft, ignore_errors=True)  # of a restore that was cut off: a copy of a file that is still there
        draft.mkdir(mode=0o700)
        (draft / STORE_FILE).touch(mode=0o600)
        copying.copy_whole(file, draft / STORE_FILE, as_it_is=True)
        store = SqliteStore(draft / STORE_FILE, deep=True)
        try:
            await store.open()
            done: Restored = await store.commit(Restore(at_ms=now_ms, copied_ms=facts.at_ms))
        finally:
            await store.close()
        copying.look_through(draft / STORE_FILE)
        copying.sync(draft / STORE_FILE)
        lost = _loss(folder / STORE_FILE, draft / STORE_FILE, done.last_event)
        replaced = _swap(draft, folder, file, now_ms)
    log.info("store_restored", file=str(file), tasks=facts.tasks, requeued=done.requeued, replaced=str(replaced or ""))
    return Restoration(
        store=str(folder / STORE_FILE),
        file=str(file),
        at=moment(facts.at_ms),
        tasks=facts.tasks,
        requeued=done.requeued,
        replaced=str(replaced or ""),
        lost=lost,
    )


def _swap(draft: Path, folder: Path, file: Path, now_ms: int) -> Path | None:
    """Move what is there aside and the new store in; where the old one is now."""
    pending = folder / _PENDING
    pending.write_text(f"{file}\n", encoding="utf-8")
    copying.sync(pending)
    store = folder / STORE_FILE
    aside = folder / f"replaced-{moment(now_ms):%Y%m%dT%H%M%S}.{now_ms % 1000:03}Z"
    beside = (mark_of(store), redo_of(store), folder / _DAMAGE_NOTE, folder / ANCHOR_FILE)
    old = [store, Path(f"{store}-wal"), Path(f"{store}-shm"), *beside]
    for path in old:
        if path.exists():
            aside.mkdir(mode=0o700, exist_ok=True)
            path.replace(aside / path.name)
    for path in (draft / STORE_FILE, mark_of(draft / STORE_FILE)):
        path.replace(folder / path.name)
    copying.sync(store)
    shutil.rmtree(draft)
    pending.unlink()
    copying.sync(store)
    return aside if aside.exists() else None


def _loss(old: Path, new: Path, last_event: int) -> Loss | None:
    """How much the old store knew beyond ``last_event``; it may be damaged, so this is a hint and no more."""
    sql = queries("sqlite")
    try:
        connections = [connect(str(path), 1.0, read_only=True) for path in (old, new)]
        try:
            (events, tasks), (_, kept) = (
                (copying.number(each, sql["last_event"]), copying.number(each, sql["count_tasks"]))
                for each in connections
            )
        finally:
            for each in connections:
                each.close()
    except apsw.Error:
        return None
    return Loss(tasks=max(0, tasks - kept), events=max(0, events - last_event))


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except StoreDamaged as exc:
        raise note(folder, exc) from exc
