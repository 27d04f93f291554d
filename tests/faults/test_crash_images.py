"""Row T22: everything a disk can hold after a power cut, at every point of a history, with torn sectors.

After each commit the whole content of the database is remembered. An image must hold exactly the content of the last
acknowledged commit or of the one under way, never something between: no loss, no half change and no gap, all at once.
"""

import shutil
from pathlib import Path
from typing import Final

import apsw
import pytest

from hub.store.changes import AddToken, AppendLog, Cancel, Record, Retry, TokenRow
from hub.store.sqlite import SqliteStore
from protocol.events import Event, EventKind
from protocol.model import AttemptId, AttemptState, TaskState
from sidecar.journal import Journal
from tests.support.crash_images import Content, Recorder, content, recorded
from tests.support.stores import Rows, new_task, task_id

FACT: Final = Event(kind=EventKind.HUB_STARTED, at_ms=1)


class Truth:
    """What was in the database after each commit, and how many steps the disk had seen by then."""

    def __init__(self, recorder: Recorder, path: Path) -> None:
        self.recorder, self._path = recorder, path
        self._known: list[tuple[int, Content, bool]] = [(0, {}, True)]

    def note(self, *, lasts: bool = True) -> None:
        """A change was acknowledged; ``lasts``: also a power cut must leave it."""
        self._known.append((len(self.recorder.steps), content(self._path), lasts))

    def judge(self, image: Path, cut: int) -> str:
        """What is wrong with an image after ``cut`` steps; empty if nothing is."""
        try:
            found = content(image / self._path.name)
        except apsw.Error as exc:
            return f"after {cut} steps: {exc}"
        done = [place for place, (steps, _, _) in enumerate(self._known) if steps <= cut]
        last = max(place for place in done if self._known[place][2])
        if any(found == known for _, known, _ in self._known[last : done[-1] + 2]):
            return ""
        place = next((place for place, (_, known, _) in enumerate(self._known) if known == found), None)
        holds = "half a change" if place is None else f"commit {place}"
        return f"after {cut} steps: commit {last} must last, the disk holds {holds}"

    def wrong(self, folder: Path, seeds: range, images: int) -> list[str]:
        """What is wrong with about so many images, spread over all points."""
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


async def _live(path: Path, truth: Truth, synchronous: str) -> None:
    """A history with every kind of change, checkpoints in between, and a restart."""
    store = SqliteStore(path)
    await store.open()
    truth.note()
    await store.start(1)
    truth.note()
    assert store._writing is not None
    store._writing.execute("PRAGMA wal_autocheckpoint = 12")
    store._writing.execute(f"PRAGMA synchronous = {synchronous}")
    await _work(Rows(store), truth, first=1)
    await store.close()
    truth.note()
    again = SqliteStore(path)
    await again.open()
    await again.start(2)
    truth.note()
    await _work(Rows(again), truth, first=20)
    await again.close()
    truth.note()


async def _work(rows: Rows, truth: Truth, first: int) -> None:
    store, one, two, three = rows.store, first, first + 1, first + 2
    store.on_commit = lambda _events: truth.note()
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


def _journalled(path: Path, truth: Truth) -> None:
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


async def _hub_truth(folder: Path, synchronous: str = "FULL") -> Truth:
    home = folder / "home"
    home.mkdir()
    with recorded(home) as recorder:
        truth = Truth(recorder, home / "hub.sqlite")
        await _live(home / "hub.sqlite", truth, synchronous)
    return truth


def _sidecar_truth(folder: Path) -> Truth:
    home = folder / "home"
    home.mkdir()
    with recorded(home) as recorder:
        truth = Truth(recorder, home / "journal.db")
        _journalled(home / "journal.db", truth)
    return truth


async def test_t22_no_power_cut_leaves_a_hub_without_what_it_acknowledged(tmp_path: Path) -> None:
    """A sample of points, each with nothing, all and a part of what was not synced."""
    truth = await _hub_truth(tmp_path)

    assert truth.wrong(tmp_path, seeds=range(3), images=100) == []


async def test_t22_no_power_cut_leaves_a_sidecar_without_a_report_it_had_written_down(tmp_path: Path) -> None:
    """The same for the journal: reports and boots last, what was in work may be gone, nothing is damaged."""
    truth = _sidecar_truth(tmp_path)

    assert truth.wrong(tmp_path, seeds=range(3), images=60) == []


async def test_t22_the_judge_sees_a_store_that_does_not_sync(tmp_path: Path) -> None:
    """Without a sync a commit, images lack what was acknowledged: the method can tell."""
    truth = await _hub_truth(tmp_path, synchronous="NORMAL")
    wrong = truth.wrong(tmp_path, seeds=range(2), images=40)

    assert wrong
    assert all("the disk holds commit" in text for text in wrong), "lost, but whole"


async def test_t22_a_store_opens_on_every_image_and_goes_on_without_a_gap(tmp_path: Path) -> None:
    """The production code starts on images of all kinds, and what it writes then follows what is there."""
    truth = await _hub_truth(tmp_path)
    for number, cut in enumerate(range(0, len(truth.recorder.steps), 60)):
        image = tmp_path / f"image-{cut}"
        image.mkdir()
        truth.recorder.image(cut, number % 5, image)
        store = SqliteStore(image / "hub.sqlite")
        await store.open()
        rows = Rows(store)
        await store.start(cut)
        await rows.add(new_task(10_000))
        numbers = [event.seq for event in await store.events(0, 10_000)]
        queued = await store.counts()
        await store.close()

        assert numbers == list(range(1, len(numbers) + 1))
        assert sum(queued.values()) == len(content(image / "hub.sqlite")["tasks"])


@pytest.mark.soak
async def test_t22_soak_every_point_and_five_fates_of_what_was_not_synced(tmp_path: Path) -> None:
    """All points of both histories."""
    (tmp_path / "hub").mkdir()
    (tmp_path / "sidecar").mkdir()
    for name, truth in (("hub", await _hub_truth(tmp_path / "hub")), ("sidecar", _sidecar_truth(tmp_path / "sidecar"))):
        points = len(truth.recorder.steps)
        wrong = truth.wrong(tmp_path, seeds=range(5), images=points)
        print(f"T22 {name}: {points + 1} points x 5 images, {len(wrong)} lost or damaged")

        assert wrong == []
