"""The promise: what work has said at last is on disk a moment later, bounded, until there is a result."""

import asyncio
from pathlib import Path

from protocol.model import AttemptId
from sidecar.tails import Tails

ATTEMPT = AttemptId("a", 1, "t", 2)


def sizes(folder: Path) -> list[int]:
    return [file.stat().st_size for file in folder.iterdir()]


async def test_what_was_said_is_left_for_the_next_start(tmp_path: Path) -> None:
    tail = Tails(tmp_path).begin(ATTEMPT)
    tail.add("one ")
    tail.write()
    tail.add("tw\ud800o\n")  # a lone surrogate is no text, and no reason to fail
    tail.write()

    assert Tails(tmp_path).left(ATTEMPT) == "one tw?o\n"
    assert Tails(tmp_path).left(AttemptId("a", 1, "t", 3)) == ""
    assert Tails(tmp_path).begin(ATTEMPT) is not tail
    assert Tails(tmp_path).left(ATTEMPT) == ""


async def test_it_is_written_by_itself_soon(tmp_path: Path) -> None:
    tails = Tails(tmp_path)
    tail = tails.begin(ATTEMPT)
    tail.add("soon\n")
    async with asyncio.timeout(20):
        while tails.left(ATTEMPT) != "soon\n":  # noqa: ASYNC110 - what is on disk cannot be awaited
            await asyncio.sleep(0.01)
    tail.close()

    assert sizes(tmp_path) == []


async def test_a_flood_leaves_its_end_and_stays_small(tmp_path: Path) -> None:
    tails = Tails(tmp_path, limit_bytes=100)
    tail = tails.begin(ATTEMPT)
    for number in range(1_000):
        tail.add(f"{number:04}\n")
        if number % 7 == 0:
            tail.write()
        assert sum(sizes(tmp_path)) <= 200
    tail.write()

    assert tails.left(ATTEMPT) == "".join(f"{number:04}\n" for number in range(980, 1_000))


async def test_a_disk_that_takes_nothing_does_not_stop_the_work(tmp_path: Path) -> None:
    tails = Tails(tmp_path / "tails")
    tail = tails.begin(ATTEMPT)
    (tmp_path / "tails").rmdir()
    tail.add("lost")
    tail.write()
    tail.close()

    assert tails.left(ATTEMPT) == ""


async def test_what_an_earlier_start_left_is_cleared(tmp_path: Path) -> None:
    tail = Tails(tmp_path).begin(ATTEMPT)
    tail.add("x")
    tail.write()
    Tails(tmp_path).clear()

    assert sizes(tmp_path) == []
