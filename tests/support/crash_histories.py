"""Histories of a hub's store and of a sidecar's journal, each with what must be there after each of its commits.

They are lived in a process of their own (:func:`lived`), where the recording layer is in place before the production
code opens its first file.
"""

import asyncio
import contextlib
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

import apsw

from hub.store import sqlite_file
from hub.store.changes import AppendLog, Cancel, Record, Retry
from hub.store.many_changes import End
from hub.store.pace import Pace
from hub.store.pages import PAGE_BYTES, UNSYNCED
from hub.store.redo import LARGEST_BYTES, RedoFile
from hub.store.sqlite import SqliteStore
from hub.store.token_changes import AddToken, TokenRow
from protocol.errors import StoreDamaged
from protocol.events import Event, EventKind
from protocol.model import AttemptId, AttemptState, TaskState
from sidecar.journal import Journal
from tests.support.crash_images import NOTHING, Content, Recorder, content, recorded
from tests.support.stores import RESULT, Rows, new_task, task_id

ROOT: Final = Path(__file__).parents[2]
MANY_PAGES: Final = 30
"""From here on a log is copied into the store: far sooner than usual."""
FACT: Final = Event(kind=EventKind.HUB_STARTED, at_ms=1)
STORE: Final = "hub.sqlite"


class RecordedRedo(RedoFile):
    """A redo journal of which every step is recorded, so small that it is soon full."""

    size_bytes: ClassVar[int] = LARGEST_BYTES + 8 * PAGE_BYTES

    def __init__(self, truth: "Truth", path: Path) -> None:
        self._truth = truth
        super().__init__(path)

    def _make(self) -> None:
        self._truth.recorder.note("truncate", str(self.path))
        super()._make()
        self._truth.recorder.note("sync", str(self.path))

    def write(self, data: bytes, offset: int) -> None:
        super().write(data, offset)
        self._truth.recorder.note("write", str(self.path), offset, data)

    def sync(self) -> None:
        super().sync()
        self._truth.recorder.note("sync", str(self.path))
        self._truth.acknowledged()


class Truth:
    """What was in the database after each commit, and how many steps the disk had seen by then."""

    def __init__(self, recorder: Recorder, path: Path) -> None:
        self.recorder, self._path = recorder, path
        self.known: list[tuple[int, Content, bool]] = [(0, {}, True)]
        self.early = 0
        """Commits that were acknowledged before the store had them."""
        self._acknowledged: int | None = None

    def acknowledged(self) -> None:
        """What the store commits next was acknowledged just now."""
        self._acknowledged = len(self.recorder.steps)
        self.early += 1

    def note(self, *, lasts: bool = True) -> None:
        """A change is in the database, and was acknowledged by now; ``lasts``: also a power cut must leave it."""
        steps, self._acknowledged = self._acknowledged or len(self.recorder.steps), None
        self.known.append((steps, content(self._path), lasts))

    def judge(self, image: Path, cut: int) -> str:
        """What is wrong with an image after ``cut`` steps; empty if nothing is."""
        try:
            if self._path.name == STORE:
                take_over(image / STORE)
            found = content(image / self._path.name)
        except (apsw.Error, StoreDamaged) as exc:
            return f"after {cut} steps: {exc}"
        done = [place for place, (steps, _, _) in enumerate(self.known) if steps <= cut]
        last = max(place for place in done if self.known[place][2])
        if any(found == known for _, known, _ in self.known[last : done[-1] + 2]):
            return ""
        place = next((place for place, (_, known, _) in enumerate(self.known) if known == found), None)
        holds = "half a change" if place is None else f"commit {place}"
        return f"after {cut} steps: commit {last} must last, the disk holds {holds}"

    def wrong(self, folder: Path, seeds: range, images: int) -> list[str]:
        """What is wrong with images for about so many points, spread over all of them, one for each seed."""
        steps = len(self.recorder.steps)
        found = []
        for cut in sorted({round(place * steps / images) for place in range(images + 1)}):
            image = folder / f"image-{cut}"
            for seed in seeds:
                image.mkdir()
                self.recorder.image(cut, seed, image)
                found.append(self.judge(image, cut))
                shutil.rmtree(image)
        return [text for text in found if text]


def take_over(path: Path) -> None:
    """Have a store take over what it lacks of its redo journal, as one that is opened does.

    Raises:
        apsw.Error, StoreDamaged: it is damaged.
    """
    with contextlib.closing(sqlite_file.connect(str(path), 1.0)) as connection:
        sqlite_file.replay(connection, path)


def lived(who: str, folder: Path, *, lax: tuple[str, ...] = ()) -> Truth:
    """A history, lived in ``folder``.

    Args:
        who: ``hub`` or ``sidecar``.
        folder: a place for its files, and for the images that are made of it.
        lax: how the files of the hub's store end that do not sync what is committed; the journal does as it does.
    """
    (folder / "home").mkdir()
    return _lived(who, folder, lax)


def lived_on(truth: Truth, cut: int, folder: Path) -> Truth:
    """What a hub does whose power went after ``cut`` steps, with nothing that was not synced; lived in ``folder``."""
    (folder / "home").mkdir(parents=True)
    truth.recorder.image(cut, NOTHING, folder / "home")
    return _lived("hub-again", folder, ())


def _lived(who: str, folder: Path, lax: tuple[str, ...]) -> Truth:
    home, out = folder / "home", folder / "truth"
    command = [sys.executable, "-m", "tests.support.crash_histories", who, str(home), ",".join(lax), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    steps, before, known, early = pickle.loads(out.read_bytes())  # noqa: S301 - our own process wrote it
    truth = Truth(Recorder(home, steps, before=before), home / ("journal.db" if who == "sidecar" else STORE))
    truth.known, truth.early = known, early
    return truth


async def _hub(path: Path, truth: Truth, lax: tuple[str, ...]) -> None:
    """A history with every kind of change, checkpoints in between, and a restart; then short batches are the loop's."""
    for first, pace in ((1, Pace()), (100, Pace(60.0))):
        store = SqliteStore(path, pace=pace, open_redo=partial(RecordedRedo, truth))
        await store.open()
        truth.note()
        truth.recorder.lax = lax
        rows = await _started(store, first, truth)
        await _work(rows, first)
        await _lone_tasks(rows, range(first + 20, first + 40))
        truth.recorder.lax = ()
        await store.close()
        truth.note()


async def _hub_again(path: Path, truth: Truth) -> None:
    """A hub starts on what a power cut has left, takes over what the journal holds, and goes on."""
    truth.recorder.before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    store = SqliteStore(path, pace=Pace(60.0), open_redo=partial(RecordedRedo, truth))
    await store.open()
    truth.known = [(0, content(path), True)]  # all of this was acknowledged before the power went
    await _lone_tasks(await _started(store, 200, truth), range(200, 206))
    await store.close()
    truth.note()


async def _started(store: SqliteStore, boot: int, truth: Truth) -> Rows:
    assert store._writing is not None
    store._writing.set_wal_hook(lambda writing, _name, pages: _committed(writing, pages, truth))
    await store.start(boot)
    return Rows(store)


def _committed(writing: apsw.Connection, pages: int, truth: Truth) -> int:
    """Remember what a commit has left; and copy the log into the store far more often than usual."""
    truth.note()
    if pages >= MANY_PAGES:
        with _strict(truth.recorder):
            writing.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    return apsw.SQLITE_OK


@contextlib.contextmanager
def _strict(recorder: Recorder) -> Iterator[None]:
    """Every sync is one: a log is not copied in the middle of a commit that leaves its own out, but after it."""
    lax, unsynced = recorder.lax, set(UNSYNCED)
    recorder.lax = ()
    UNSYNCED.clear()
    try:
        yield
    finally:
        recorder.lax = lax
        UNSYNCED.update(unsynced)


async def _lone_tasks(rows: Rows, numbers: range) -> None:
    """Tasks that come alone, with little else in between: given away, accepted, ended; some are left half-way."""
    for number in numbers:
        await rows.add(new_task(number), key=f"lone-{number}")
        epoch = (await rows.claim(number)).epoch
        if number % 5 == 0:
            rows.store.post(Record(FACT))  # one that is not short
        if number % 4:
            await rows.accept(number, epoch)
        if number % 3:
            await rows.store.commit(
                End(rows.tick(), task_id(number), epoch, 0, 0, 0, RESULT, {}, accepts=not number % 4)
            )


async def _work(rows: Rows, first: int) -> None:
    store, one, two, three = rows.store, first, first + 1, first + 2
    await rows.add(*(new_task(number) for number in range(one, one + 6)), key=f"key-{first}", digest=b"d")
    await rows.add(new_task(one + 6, depends_on=(task_id(one),)))
    await store.commit(AddToken(TokenRow(
        id=f"t{first}", role="admin", label="x", digest=bytes(32), created_ms=1, expires_ms=None, last_used_ms=None,
        revoked_ms=None), FACT))  # fmt: skip
    epoch = (await rows.claim(one)).epoch
    await rows.accept(one, epoch)
    for place in range(4):
        await store.commit(AppendLog(
            at_ms=rows.tick(), task=task_id(one), epoch=epoch, offset=place * 3_000, stream="stdout", text="x" * 3_000,
        ))  # fmt: skip
    await rows.finish(one, epoch)
    epoch = (await rows.claim(two)).epoch
    await rows.finish(two, epoch, TaskState.QUEUED)
    epoch = (await rows.claim(two)).epoch
    await rows.accept(two, epoch)
    await rows.finish(two, epoch, TaskState.DEAD)
    await store.commit(Retry(at_ms=rows.tick(), task=task_id(two), by="me"))
    await store.commit(Cancel(at_ms=rows.tick(), task=task_id(three), reason="no", by="me"))
    await rows.completed(two, one + 3)
    for number in range(3):
        store.post(Record(FACT))  # several changes in one transaction
        await rows.add(new_task(one + 7 + number, spec=b"s" * 5_000))


def _sidecar(path: Path, truth: Truth) -> None:
    """A day of a sidecar's journal: attempts that are taken, move on, end, and are forgotten."""
    for boot in range(2):
        with Journal(path) as journal:
            truth.note(lasts=False)
            journal.next_boot(boot)
            truth.note()
            for number in range(12):
                attempt = AttemptId("Steady", boot, f"{boot}-{number:02}", 1)
                journal.accept(attempt, b"spec" * 300)
                _commit(journal, truth, lasts=False)
                journal.progress(attempt, AttemptState.VERIFYING, 1)
                _commit(journal, truth, lasts=False)
                journal.finished(attempt, AttemptState.PASSED, 1, b"report" * 300)
                _commit(journal, truth, lasts=True)
                if number % 3:
                    journal.acknowledged(attempt)
                    _commit(journal, truth, lasts=False)
        truth.note()


def _commit(journal: Journal, truth: Truth, *, lasts: bool) -> None:
    assert journal.commit()
    truth.note(lasts=lasts)


def _main(who: str, home: Path, out: Path, lax: tuple[str, ...]) -> None:
    with recorded(home) as recorder:
        if who == "hub":
            truth = Truth(recorder, home / STORE)
            asyncio.run(_hub(home / STORE, truth, lax))
        elif who == "hub-again":
            truth = Truth(recorder, home / STORE)
            asyncio.run(_hub_again(home / STORE, truth))
        else:
            truth = Truth(recorder, home / "journal.db")
            _sidecar(home / "journal.db", truth)
        out.write_bytes(pickle.dumps((recorder.steps, recorder.before, truth.known, truth.early)))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[4]), tuple(filter(None, sys.argv[3].split(","))))
