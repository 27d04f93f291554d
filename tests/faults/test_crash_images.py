"""Row T22: everything a disk can hold after a power cut, at every point of a history, with torn sectors.

After each commit the whole content of the database is remembered. An image must hold exactly the content of the last
acknowledged commit or of the one under way, never something between: no loss, no half change and no gap, all at once.
"""

from pathlib import Path

import pytest

from hub.store.sqlite import SqliteStore
from tests.support.crash_histories import lived
from tests.support.crash_images import content
from tests.support.stores import Rows, new_task


def test_t22_no_power_cut_leaves_a_hub_without_what_it_acknowledged(tmp_path: Path) -> None:
    """A sample of points, each with nothing, all and a part of what was not synced."""
    truth = lived("hub", tmp_path)

    assert truth.wrong(tmp_path, seeds=range(3), images=100) == []


def test_t22_no_power_cut_leaves_a_sidecar_without_a_report_it_had_written_down(tmp_path: Path) -> None:
    """The same for the journal: reports and boots last, what was in work may be gone, nothing is damaged."""
    truth = lived("sidecar", tmp_path)

    assert truth.wrong(tmp_path, seeds=range(3), images=60) == []


def test_t22_the_judge_sees_a_store_that_does_not_sync(tmp_path: Path) -> None:
    """Without a sync a commit, images lack what was acknowledged: the method can tell."""
    truth = lived("hub", tmp_path, is_lax=True)
    wrong = truth.wrong(tmp_path, seeds=range(2), images=40)

    assert wrong
    assert all("the disk holds commit" in text for text in wrong), "lost, but whole"


async def test_t22_a_store_opens_on_every_image_and_goes_on_without_a_gap(tmp_path: Path) -> None:
    """The production code starts on images of all kinds, and what it writes then follows what is there."""
    truth = lived("hub", tmp_path)
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
def test_t22_soak_every_point_and_five_fates_of_what_was_not_synced(tmp_path: Path) -> None:
    """All points of both histories."""
    for name in ("hub", "sidecar"):
        (tmp_path / name).mkdir()
        truth = lived(name, tmp_path / name)
        points = len(truth.recorder.steps)
        wrong = truth.wrong(tmp_path, seeds=range(5), images=points)
        print(f"T22 {name}: {points + 1} points x 5 images, {len(wrong)} lost or damaged")

        assert wrong == []
