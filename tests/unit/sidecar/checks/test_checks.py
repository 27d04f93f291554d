import asyncio
from dataclasses import replace
from typing import get_args

import pytest

from protocol.checks import Check, CheckCommandSucceeds, CheckFileExists, CheckGitClean, CheckTestPasses
from protocol.model import Finding
from sidecar.checks import CHECKS
from sidecar.checks.base import kind_of, name_of
from sidecar.checks.git import git_clean
from sidecar.errors import GitFailed
from tests.support.attempts import Bench


async def check(bench: Bench, wanted: Check, timeout_s: float = 20.0) -> Finding:
    return await CHECKS[kind_of(wanted)](wanted, bench.ground(timeout_s))


def test_every_check_of_the_contract_can_be_run() -> None:
    assert set(CHECKS) == {str(kind.__struct_config__.tag) for kind in get_args(Check)}


@pytest.mark.parametrize(
    "wanted, name",
    [
        (CheckFileExists(path="a.txt"), "file_exists: a.txt"),
        (CheckTestPasses(command="pytest -q"), "test_passes: pytest -q"),
        (CheckTestPasses(command="x" * 200), f"test_passes: {'x' * 77}..."),
        (CheckGitClean(), "git_clean"),
        (CheckGitClean(name="tidy"), "tidy"),
    ],
)
def test_a_check_without_a_name_gets_a_telling_one(wanted: Check, name: str) -> None:
    assert name_of(wanted) == name


async def test_a_file_that_is_there_passes_and_one_that_is_not_fails(bench: Bench) -> None:
    (bench.workspace / "a.txt").touch()

    assert (await check(bench, CheckFileExists(path="a.txt"))).passed
    missing = await check(bench, CheckFileExists(path="b.txt"))
    assert not missing.passed
    assert missing.detail == "'b.txt' is not there"


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "link"])
async def test_nothing_outside_the_workspace_counts(bench: Bench, path: str) -> None:
    (bench.workspace / "link").symlink_to("/etc/passwd")

    assert not (await check(bench, CheckFileExists(path=path))).passed


async def test_a_command_that_exits_0_passes(bench: Bench) -> None:
    found = await check(bench, CheckCommandSucceeds(command="echo fine"))

    assert found.passed
    assert (found.exit_code, found.output, found.detail) == (0, "fine\n", "")
    assert found.seconds > 0
    assert bench.output == "fine\n"


@pytest.mark.parametrize(
    "command, code, detail",
    [
        ("exit 3", 3, "exit code 3"),
        ("no-such-program-here", 127, "is not installed here, or its name is misspelt"),
        ("/etc/passwd", 126, "may not be executed"),
        ("kill -9 $$", -9, "died of signal 9"),
        ("exit 5 # pytest", 5, "pytest found no tests"),
    ],
)
async def test_a_command_that_fails_says_how(bench: Bench, command: str, code: int, detail: str) -> None:
    found = await check(bench, CheckTestPasses(command=command))

    assert not found.passed
    assert found.exit_code == code
    assert detail in found.detail


async def test_a_command_that_takes_too_long_fails_by_the_shorter_limit(bench: Bench) -> None:
    own = await check(bench, CheckTestPasses(command="sleep 60", timeout_s=0.2))
    shared = await check(bench, CheckTestPasses(command="sleep 60", timeout_s=50), timeout_s=0.3)

    assert (own.passed, own.detail) == (False, "took longer than 0.2 s and was ended")
    assert (shared.passed, shared.detail) == (False, "took longer than 0.3 s and was ended")


async def test_of_long_output_the_end_is_kept(bench: Bench) -> None:
    found = await check(bench, CheckTestPasses(command="seq 1 50000; exit 1"))

    assert found.output.endswith("50000\n")
    assert len(found.output.encode()) <= 8 << 10


async def test_git_clean_passes_if_the_owner_of_the_workspace_sees_no_change(bench: Bench) -> None:
    clean = await check(bench, CheckGitClean())
    bench.changed = ("a", *(f"new{number}" for number in range(6)))
    dirty = await check(bench, CheckGitClean())

    assert (clean.passed, clean.detail) == (True, "")
    assert (dirty.passed, dirty.detail) == (False, "not committed: a, new0, new1, new2, new3 and 2 more")


async def test_git_clean_fails_if_nobody_can_tell(bench: Bench) -> None:
    async def broken() -> tuple[str, ...]:
        raise GitFailed("status", 128, "fatal: index file corrupt")

    async def stuck() -> tuple[str, ...]:
        await asyncio.Event().wait()
        return ()

    for uncommitted, detail in ((broken, "git status: exit code 128"), (stuck, "took longer than 0.1 s and was ended")):
        ground = replace(bench.ground(), uncommitted=uncommitted)
        found = await git_clean(CheckGitClean(timeout_s=0.1), ground)

        assert not found.passed
        assert detail in found.detail
