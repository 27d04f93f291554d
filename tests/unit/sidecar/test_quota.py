"""Promises of :mod:`sidecar.quota`: who fills the disk ends, by the right fault, and nobody else."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.errors import WorkFailed
from protocol.model import AttemptId, FailureClass
from sidecar.environment import minimal_env
from sidecar.errors import DiskFull, DiskQuota, failure_of
from sidecar.process import Processes
from sidecar.quota import Quota

MIB = 1 << 20
LIMIT = 4 * MIB


class Disk:
    """A disk with as much room as the test says."""

    def __init__(self, free_bytes: int = 1 << 40, total_bytes: int = 1 << 41) -> None:
        self.free_bytes, self.total_bytes, self.is_gone = free_bytes, total_bytes, False

    def ask(self, _folder: Path) -> tuple[int, int]:
        """Free and total bytes."""
        if self.is_gone:
            raise OSError(5, "Input/output error")
        return self.free_bytes, self.total_bytes


def attempt(number: int) -> AttemptId:
    return AttemptId("box", 1, f"{number:026}", 1)


class House:
    """A quota and attempts below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.disk = folder, Disk()
        self.processes = Processes(base_env=minimal_env(os.environ, home=folder), grace_s=60.0, drain_s=0.2)
        self.quota = Quota(self.processes, folder, LIMIT, self.disk.ask)
        self.works: list[asyncio.Task[None]] = []

    async def begin(self, number: int, command: str = "") -> asyncio.Task[None]:
        """An attempt at work: with a command, until it has said something."""
        here, said = self.folder / str(number), asyncio.Event()
        here.mkdir()

        async def work() -> None:
            async with self.quota.watch(attempt(number), here):
                if not command:
                    said.set()
                    await asyncio.Event().wait()
                await self.processes.run(command, attempt=attempt(number), cwd=here, on_output=lambda *_: said.set())

        self.works.append(asyncio.create_task(work()))
        await said.wait()
        return self.works[-1]

    def write(self, number: int, size: int, name: str = "file") -> None:
        """Files of an attempt."""
        (self.folder / str(number) / name).write_bytes(os.urandom(size))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    async with asyncio.timeout(60):
        yield made
    for number, work in enumerate(made.works, 1):
        work.cancel()
        await asyncio.wait({work})
        await made.processes.end_attempt(attempt(number))


async def ended(work: asyncio.Task[None]) -> WorkFailed:
    with pytest.raises(WorkFailed) as told:
        await work
    return told.value


async def test_work_that_takes_too_much_ends_with_all_it_runs_and_gets_no_time_to_go_on(house: House) -> None:
    greedy = "trap '' TERM; head -c 5000000 /dev/urandom >file; setsid sleep 600 & echo here; while :; do :; done"
    work = await house.begin(1, greedy)
    await house.quota.look()
    error = await ended(work)
    await house.processes.end_attempt(attempt(1))

    assert isinstance(error, DiskQuota)
    assert house.processes.finder(attempt(1))() == []
    assert house.quota.watched == []


async def test_what_work_holds_open_without_a_name_counts(house: House) -> None:
    work = await house.begin(1, "exec 3>file; rm file; head -c 5000000 /dev/urandom >&3; echo here; sleep 600")
    await house.quota.look()

    assert isinstance(await ended(work), DiskQuota)


async def test_others_go_on_and_so_does_who_stays_below(house: House) -> None:
    modest, greedy = await house.begin(1), await house.begin(2)
    house.write(1, LIMIT // 2)
    house.write(2, LIMIT + MIB)
    await house.quota.look()

    assert isinstance(await ended(greedy), DiskQuota)
    assert not modest.done()
    assert [each.attempt for each in house.quota.watched] == [attempt(1)]


async def test_nothing_is_counted_again_soon_as_long_as_the_disk_loses_nothing(house: House) -> None:
    work = await house.begin(1)
    house.write(1, MIB)
    await house.quota.look()
    house.write(1, LIMIT + MIB)
    await house.quota.look()
    assert house.quota.watched[0].bytes == pytest.approx(MIB, rel=0.1)
    house.disk.free_bytes -= LIMIT
    while house.quota.watched:  # it rests for some milliseconds
        await house.quota.look()
        await asyncio.sleep(0)

    assert isinstance(await ended(work), DiskQuota)


async def test_where_the_disk_is_nearly_full_who_has_taken_most_of_it_ends_and_only_that_one(house: House) -> None:
    house.disk.total_bytes = 16 * MIB
    works = [await house.begin(number) for number in (1, 2, 3)]
    for number, size in ((1, MIB // 2), (2, 3 * MIB), (3, 2 * MIB)):
        house.write(number, size)
    await house.quota.look()
    assert not any(work.done() for work in works)
    house.disk.free_bytes = MIB // 2
    for _ in range(3):
        await house.quota.look()
    error = await ended(works[1])

    assert isinstance(error, DiskFull)
    assert "has 0 MiB left" in str(error)
    assert not works[0].done()
    assert not works[2].done()


async def test_a_disk_that_others_have_filled_ends_nobody(house: House) -> None:
    house.disk.total_bytes, house.disk.free_bytes = 64 * MIB, 0
    work = await house.begin(1)
    house.write(1, MIB)
    await house.quota.look()

    assert not work.done()


async def test_a_disk_that_cannot_be_asked_ends_nobody(house: House) -> None:
    work = await house.begin(1)
    house.write(1, LIMIT + MIB)
    house.disk.is_gone = True
    await house.quota.look()
    assert not work.done()
    house.disk.is_gone = False
    await house.quota.look()

    assert isinstance(await ended(work), DiskQuota)


async def test_one_that_cannot_be_counted_hides_nobody_else(house: House) -> None:
    async with house.quota.watch(attempt(9), house.folder / ("x" * 300) / "below"):
        greedy = await house.begin(1)
        house.write(1, LIMIT + MIB)
        await house.quota.look()

        assert isinstance(await ended(greedy), DiskQuota)


async def test_a_cancellation_by_somebody_else_stays_one(house: House) -> None:
    work = await house.begin(1)
    house.write(1, LIMIT + MIB)
    work.cancel()
    await house.quota.look()

    with pytest.raises(asyncio.CancelledError):
        await work


async def test_without_a_watch_nobody_is_watched(tmp_path: Path) -> None:
    quota = Quota()
    async with quota.watch(attempt(1), tmp_path):
        await quota.look()


def test_whose_fault_it_is() -> None:
    assert failure_of(DiskQuota(1 << 30)) is FailureClass.AGENT
    assert failure_of(DiskFull(0, 1 << 30)) is FailureClass.INFRA
    assert str(DiskQuota(1 << 34)) == (
        "its files take too much of the disk: at most 16,384 MiB are allowed for an attempt here; "
        "the owner of the machine can change that (sandbox_disk_mb)"
    )
    assert str(DiskFull(200 << 20, 1 << 34)) == (
        "the disk of this machine has 200 MiB left, and of all attempts here this one has taken most of it: 16,384 MiB"
    )
