"""What the programs of an attempt may use at most: whoever takes more is ended, told why, and harms nobody."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from protocol.model import AttemptId
from sidecar.cgroups import OURS, ROOT, groups_of
from sidecar.core.cause import cause
from sidecar.environment import minimal_env
from sidecar.errors import DiskQuota
from sidecar.footprint import taken
from sidecar.process import Processes, ProcessOutcome
from sidecar.quota import Quota, Watched
from sidecar.sandbox.cell import Cell, Level, Sandbox
from sidecar.sandbox.groups import Groups
from sidecar.sandbox.policy import Limits, Place, Rules
from tests.support.escapers import TRICKS, escaper, survivors
from tests.support.levels import LEVELS, need

ATTEMPT = AttemptId("box", 1, "01jd0000000000000000000000", 1)
MIB = 1 << 20
LIMITS = Limits(memory_bytes=96 * MIB, processes=40, file_bytes=8 * MIB, open_files=64)
PYTHON = os.path.realpath(sys.executable)
EATER = "held = []\nwhile True: held.append(b'x' * (4 << 20))"
TOGETHER = f"import os, time\n[os.fork() for _ in range(3)]\nheld = b'x' * ({LIMITS.memory_bytes} // 5)\ntime.sleep(2)"
BOMB = "import os, time\nwhile True:\n    if os.fork() == 0: time.sleep(600)"
GENERATIONS = "import os\nfor _ in range(3): os.fork()\nwhile True:\n    if os.fork(): os._exit(0)\n    os.setsid()"


@pytest.fixture(params=LEVELS)
async def cell(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cell]:
    need(request.param)
    processes = Processes(base_env=minimal_env(os.environ, home=tmp_path), drain_s=0.2, grace_s=0.5)
    sandbox = Sandbox(processes, tmp_path, Rules(limits=LIMITS))
    assert await sandbox.find(request.param) is request.param, sandbox.why
    place = Place(tmp_path / "work", tmp_path / "scratch")
    place.workspace.mkdir()
    try:
        yield sandbox.cell(ATTEMPT, place)
    finally:
        await processes.end_attempt(ATTEMPT)
        await sandbox.close(ATTEMPT)
    assert not [
        left for group in groups_of(OURS, ROOT).values() for left in group.glob(f"agentcom-{os.getpid()}-[0-9]*")
    ]


async def ran(cell: Cell, program: str, timeout_s: float = 60.0) -> ProcessOutcome:
    return await cell.run([PYTHON, "-c", program], timeout_s=timeout_s)


def code(outcome: ProcessOutcome) -> str:
    known = cause(outcome.exit_code, outcome.output, oom_kills=outcome.oom_kills, refused_forks=outcome.refused_forks)
    return known[0] if known else f"exit code {outcome.exit_code}"


@pytest.mark.parametrize("level", LEVELS)
async def test_when_the_end_of_work_is_told_nothing_of_it_is_left_whatever_it_does(
    tmp_path: Path, level: Level
) -> None:
    need(level)
    program = escaper(tmp_path)
    processes = Processes(base_env=minimal_env(os.environ, home=tmp_path), drain_s=0.2, grace_s=0.5)
    sandbox = Sandbox(processes, tmp_path / "state", Rules(read=(tmp_path,)))
    assert await sandbox.find(level) is level, sandbox.why
    if level is Level.LANDLOCK and not sandbox.has_groups:
        pytest.skip("not tested here: nobody may make control groups, and no test becomes a subreaper")
    attempts = {trick: AttemptId("box", 1, f"{number:026}", 1) for number, trick in enumerate(TRICKS)}
    runs = {}
    for trick, attempt in attempts.items():
        place = Place(tmp_path / "state" / f"{trick}-work", tmp_path / "state" / trick)
        place.workspace.mkdir(parents=True)
        cell, timeout_s = sandbox.cell(attempt, place), 2.0 if trick in TRICKS[::2] else None
        runs[trick] = asyncio.create_task(cell.run([str(program), trick, "120"], timeout_s=timeout_s))
    for trick in set(TRICKS) - {"scrubbed", "untagged"}:  # these call themselves otherwise soon
        while not (runs[trick].done() or await asyncio.to_thread(survivors, program, trick)):  # noqa: ASYNC110 - not ours
            await asyncio.sleep(0.01)
    for trick in TRICKS[1::2]:
        runs[trick].cancel()
    await asyncio.wait(runs.values())
    for attempt in attempts.values():
        await processes.end_attempt(attempt)
        await sandbox.close(attempt)

    assert survivors(program) == []
    assert all(runs[trick].cancelled() for trick in TRICKS[1::2])


@pytest.mark.parametrize("level", LEVELS)
async def test_what_fills_the_disk_is_ended_while_it_still_does(tmp_path: Path, level: Level) -> None:
    need(level)
    processes = Processes(base_env=minimal_env(os.environ, home=tmp_path), drain_s=0.2, grace_s=60.0)
    sandbox, quota = Sandbox(processes, tmp_path, Rules()), Quota(processes, tmp_path, 8 * MIB)
    assert await sandbox.find(level) is level, sandbox.why
    place = Place(tmp_path / "work", tmp_path / "scratch")
    place.workspace.mkdir()
    cell, is_over = sandbox.cell(ATTEMPT, place), asyncio.Event()
    running = asyncio.create_task(_within(quota.watch(ATTEMPT, place.workspace, place.scratch), cell, is_over.set))
    await asyncio.wait_for(is_over.wait(), 60)
    await quota.look()
    with pytest.raises(DiskQuota):
        await asyncio.wait_for(running, 60)
    await cell.clear()
    left = [taken([place.workspace, place.scratch], 1 << 40) for _ in range(2)]

    assert left[0] == left[1] > 8 * MIB
    assert (await cell.run("echo well")).output == "well\n"
    await cell.clear()


async def _within(watched: Watched, cell: Cell, on_output: Callable[[], None]) -> None:
    """More than it may, in its workspace and its /tmp, and then on and on, deaf to all wishes."""
    fill = "head -c 6000000 /dev/urandom"
    async with watched:
        command = f"{fill} >a; {fill} >$TMPDIR/b; trap '' TERM; echo here; while :; do echo x >>c; sleep 0.01; done"
        await cell.run(command, on_output=lambda *_: on_output())


async def test_what_eats_all_memory_is_ended_and_the_next_command_runs(cell: Cell) -> None:
    assert code(await ran(cell, EATER)) == "out_of_memory"
    assert (await cell.run("echo well")).output == "well\n"


async def test_many_that_eat_some_memory_each_are_counted_together(cell: Cell, tmp_path: Path) -> None:
    if not Groups(LIMITS).find():
        assert cell.level is not Level.NONE  # this machine limits each program by itself: there is nothing together
        return
    outcome = await ran(cell, TOGETHER)

    assert outcome.oom_kills > 0, outcome
    assert not list(tmp_path.glob("core*"))


async def test_what_forks_for_ever_is_refused_and_ended(cell: Cell) -> None:
    is_limited = Groups(LIMITS).find() or (cell.level is Level.BUBBLEWRAP and os.getuid() != 0)
    assert is_limited or os.getuid() != 0, "root can always make groups, or is in a container that has its own limit"
    if is_limited:
        assert code(await ran(cell, BOMB)) == "too_many_processes"
        assert (await cell.run("echo well")).output == "well\n"


async def test_what_forks_and_exits_for_ever_ends_with_its_time(cell: Cell) -> None:
    outcome = await ran(cell, GENERATIONS, timeout_s=1.0)
    after = await asyncio.wait_for(cell.run("echo well"), 30)

    assert outcome.timed_out or outcome.exit_code == 0
    assert after.output == "well\n"


async def test_an_attempt_gets_no_more_of_the_processors_than_it_may(tmp_path: Path) -> None:
    """Work of 0.3 s of processor time, at 0.2 processors, takes a second and a half on any machine, however quick."""
    need(Level.BUBBLEWRAP)
    processes = Processes(base_env=minimal_env(os.environ, home=tmp_path), drain_s=0.2, grace_s=0.5)
    sandbox = Sandbox(processes, tmp_path, Rules(limits=Limits(cpus=0.2)))
    await sandbox.find("bubblewrap")
    if not sandbox.has_groups:
        pytest.skip("not tested here: nobody may make control groups")
    place = Place(tmp_path / "work", tmp_path / "scratch")
    place.workspace.mkdir()
    busy = "import os, time\nchild = os.fork()\nwhile time.process_time() < 0.15: pass\nif child: os.wait()"
    outcome = await ran(sandbox.cell(ATTEMPT, place), busy)
    await processes.end_attempt(ATTEMPT)
    await sandbox.close(ATTEMPT)

    assert outcome.exit_code == 0, outcome.output
    assert outcome.seconds > 1.0


async def test_a_file_has_a_longest_length_and_a_process_a_number_of_files(cell: Cell) -> None:
    long = await cell.run("head -c 9000000 /dev/zero > long; stat -c %s long")
    many = await ran(cell, "held = [open('/dev/null') for _ in range(70)]")

    assert int(long.output.splitlines()[-1]) == LIMITS.file_bytes
    assert "Too many open files" in many.output
