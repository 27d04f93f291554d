import subprocess
from pathlib import Path
from typing import get_args

import pytest

from protocol.model import Check, CheckCommandSucceeds, CheckFileExists, CheckGitClean, CheckTestPasses, Finding
from sidecar.checks import CHECKS
from sidecar.checks.base import Ground, kind_of, name_of
from tests.support.attempts import ATTEMPT, Bench


async def check(bench: Bench, wanted: Check, timeout_s: float = 20.0) -> Finding:
    ground = Ground(ATTEMPT, bench.workspace, bench.processes, timeout_s, bench.log)
    return await CHECKS[kind_of(wanted)](wanted, ground)


def git(*arguments: str, cwd: Path) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True)


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


async def test_a_clean_repository_passes_and_every_kind_of_change_fails(bench: Bench) -> None:
    git("init", "-q", cwd=bench.workspace)
    (bench.workspace / "a").write_text("1")
    git("add", ".", cwd=bench.workspace)
    git("commit", "-qm", "first", cwd=bench.workspace)

    assert (await check(bench, CheckGitClean())).passed

    (bench.workspace / "a").write_text("2")
    for number in range(6):
        (bench.workspace / f"new{number}").touch()
    dirty = await check(bench, CheckGitClean())
    assert not dirty.passed
    assert dirty.detail == "not committed: a, new0, new1, new2, new3 and 2 more"


async def test_outside_a_repository_git_clean_fails_and_says_so(bench: Bench) -> None:
    found = await check(bench, CheckGitClean())

    assert not found.passed
    assert "not a git repository" in found.output


async def test_git_starts_nothing_that_the_work_has_planted(bench: Bench) -> None:
    git("init", "-q", cwd=bench.workspace)
    trap = bench.scratch / "trap"
    hook = bench.scratch / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {trap}\n")
    hook.chmod(0o755)
    git("config", "core.fsmonitor", str(hook), cwd=bench.workspace)
    git("config", "core.hooksPath", str(bench.scratch), cwd=bench.workspace)

    await check(bench, CheckGitClean())

    assert not trap.exists()
