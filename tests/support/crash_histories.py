"""Histories of a hub's store and of a sidecar's journal, each with what must be there after each of its commits.

They are lived in a process of their own (:func:`lived`), where the recording layer is in place before the production
code opens its first file.
"""

import asyncio
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import apsw

from hub.store.changes import AppendLog, Cancel, Record, Retry
from hub.store.pace import Pace
from hub.store.sqlite import SqliteStore
from hub.store.token_changes import AddToken, TokenRow
from protocol.events import Event, EventKind
from protocol.model import AttemptId, AttemptState, TaskState
from sidecar.journal import Journal
from tests.support.crash_images import Content, Recorder, content, recorded
from tests.support.stores import Rows, new_task, task_id

ROOT: Final = Path(__file__).parents[2]
FACT: Final = Event(kind=EventKind.HUB_STARTED, at_ms=1)


class Truth:
    """What was in the database after each commit, and how many steps the disk had seen by then."""

    def __init__(self, recorder: Recorder, path: Path) -> None:
        self.recorder, self._path = recorder, path
        self.known: list[tuple[int, Content, bool]] = [(0, {}, True)]

    def note(self, *, lasts: bool = True) -> None:
        """A change was acknowledged; ``lasts``: also a power cut must leave it."""
        self.known.append((len(self.recorder.steps), content(self._path), lasts))

    def judge(self, image: Path, cut: int) -> str:
        """What is wrong with an image after ``cut`` steps; empty if nothing is."""
        try:
            found = content(image / self._path.name)
        except apsw.Error as exc:
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


def lived(who: str, folder: Path, *, is_lax: bool = False) -> Truth:
    """A history, lived in ``folder``.

    Args:
        who: ``hub`` or ``sidecar``.
        folder: a place for its files, and for the images that are made of it.
        is_lax: commits of the hub's store are not synced; the journal does as it does.
    """
    home, out = folder / "home", folder / "truth"
    home.mkdir()
    command = [sys.executable, "-m", "tests.support.crash_histories", who, str(home), str(int(is_lax)), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    steps, known = pickle.loads(out.read_bytes())  # noqa: S301 - our own process wrote it
    truth = Truth(Recorder(home, steps), home / ("hub.sqlite" if who == "hub" else "journal.db"))
    truth.known = known
    return truth


async def _hub(path: Path, truth: Truth, *, is_lax: bool) -> None:
    """A history with every kind of change, checkpoints in between, and a restart; then short batches are the loop's."""
    for first, pace in ((1, Pace()), (20, Pace(60.0, trial=0))):
        store = SqliteStore(path, pace=pace)
        await store.open()
        truth.note()
        assert store._writing is not None
        truth.recorder.is_lax = is_lax
        store._writing.set_wal_hook(lambda writing, _name, pages: _committed(writing, pages, truth))
        await store.start(first)
        await _work(Rows(store), first)
        truth.recorder.is_lax = False
        await store.close()
        truth.note()


def _committed(writing: apsw.Connection, pages: int, truth: Truth) -> int:
    """Remember what a commit has left; and copy the log into the store far more often than usual."""
    truth.note()
    if pages >= 12:
        is_lax, truth.recorder.is_lax = truth.recorder.is_lax, False
        writing.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        truth.recorder.is_lax = is_lax
    return apsw.SQLITE_OK


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


def _main(who: str, home: Path, out: Path, *, is_lax: bool) -> None:
    with recorded(home) as recorder:
        if who == "hub":
            truth = Truth(recorder, home / "hub.sqlite")
            asyncio.run(_hub(home / "hub.sqlite", truth, is_lax=is_lax))
        else:
            truth = Truth(recorder, home / "journal.db")
            _sidecar(home / "journal.db", truth)
        out.write_bytes(pickle.dumps((recorder.steps, truth.known)))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[4]), is_lax=sys.argv[3] == "1")
