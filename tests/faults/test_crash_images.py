"""Row T22: everything a disk can hold after a power cut, at every point of a history, with torn sectors.

After each commit the whole content of the database is remembered. An image must hold exactly the content of the last
acknowledged commit or of the one under way, never something between: no loss, no half change and no gap, all at once.
Short batches are acknowledged when the redo journal has them, and commit without a sync; an image is looked at when it
has taken over what it lacks, as a hub that starts does.
"""

import re
from pathlib import Path

import pytest

from hub.store.pace import Pace
from hub.store.pages import PAGE_BYTES
from hub.store.redo import LARGEST_BYTES
from hub.store.sqlite import SqliteStore
from tests.support.crash_histories import STORE, RecordedRedo, lived, lived_on
from tests.support.crash_images import content
from tests.support.stores import Rows, new_task


def test_t22_no_power_cut_leaves_a_hub_without_what_it_acknowledged(tmp_path: Path) -> None:
    """A sample of points, each with nothing, all, the latest and a part of what was not synced."""
    truth = lived("hub", tmp_path)

    assert truth.wrong(tmp_path, seeds=range(4), images=100) == []


def test_t22_no_power_cut_leaves_a_sidecar_without_a_report_it_had_written_down(tmp_path: Path) -> None:
    """The same for the journal: reports and boots last, what was in work may be gone, nothing is damaged."""
    truth = lived("sidecar", tmp_path)

    assert truth.wrong(tmp_path, seeds=range(4), images=60) == []


def test_t22_the_judge_sees_a_store_that_does_not_sync(tmp_path: Path) -> None:
    """Without a sync a commit, images lack what was acknowledged: the method can tell."""
    truth = lived("hub", tmp_path, lax=("-wal", "-redo"))
    wrong = truth.wrong(tmp_path, seeds=range(2), images=40)

    assert wrong
    assert all("the disk holds commit" in text for text in wrong), "lost, but whole"


def test_t22_the_judge_sees_a_redo_journal_that_does_not_sync(tmp_path: Path) -> None:
    """What a short batch commits is not synced with the store's log: nothing but the journal keeps it."""
    truth = lived("hub", tmp_path, lax=("-redo",))
    wrong = truth.wrong(tmp_path, seeds=range(1), images=100)
    lost = [
        int(last) - int(held)
        for last, held in re.findall(r"commit (\d+) must last.*holds commit (\d+)", "\n".join(wrong))
    ]

    assert len(lost) == len(wrong), "lost, but whole"
    assert max(lost) > 1, "more than the one that is under way"


def test_t22_the_history_has_short_batches_and_a_journal_that_is_full_again_and_again(tmp_path: Path) -> None:
    """What the other tests look at is there."""
    truth = lived("hub", tmp_path)
    places = [step.offset for step in truth.recorder.steps if step[:2] == ("write", f"{STORE}-redo")]

    assert truth.early > 30
    last = RecordedRedo.size_bytes - LARGEST_BYTES - PAGE_BYTES
    assert len([place for place in places if place >= last]) >= 3
    assert places.count(0) > 4


def test_t22_no_power_cut_while_the_journal_is_taken_over_loses_what_it_holds(tmp_path: Path) -> None:
    """The power goes, a hub takes over what its store lacks and goes on, and the power goes again, at any point."""
    truth = lived("hub", tmp_path)
    synced = [n for n, step in enumerate(truth.recorder.steps, 1) if step[:2] == ("sync", f"{STORE}-redo")]
    for number, cut in enumerate((synced[len(synced) // 2], synced[-1])):
        again = lived_on(truth, cut, tmp_path / str(number))

        assert again.early > 5, "it has gone on"
        assert again.wrong(tmp_path / str(number), seeds=range(4), images=60) == []


async def test_t22_a_store_opens_on_every_image_and_goes_on_without_a_gap(tmp_path: Path) -> None:
    """The production code starts on images of all kinds, and what it writes then follows what is there."""
    truth = lived("hub", tmp_path)
    for number, cut in enumerate(range(0, len(truth.recorder.steps), 60)):
        image = tmp_path / f"image-{cut}"
        image.mkdir()
        truth.recorder.image(cut, number % 6, image)
        store = SqliteStore(image / "hub.sqlite", pace=Pace(60.0))
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
@pytest.mark.timeout(7_200)
def test_t22_soak_every_point_and_six_fates_of_what_was_not_synced(tmp_path: Path) -> None:
    """All points of both histories."""
    for name in ("hub", "sidecar"):
        (tmp_path / name).mkdir()
        truth = lived(name, tmp_path / name)
        points = len(truth.recorder.steps)
        wrong = truth.wrong(tmp_path, seeds=range(6), images=points)
        print(f"T22 {name}: {points + 1} points x 6 images, {len(wrong)} lost or damaged")

        assert wrong == []
