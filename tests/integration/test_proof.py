"""Work that makes its own tests green is not verified: real git, real test runners, the whole of an attempt."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from protocol.checks import (
    CheckCommandSucceeds,
    CheckDiffLimits,
    CheckNoPlaceholders,
    CheckNoSecrets,
    CheckProtectedPaths,
    CheckTestPasses,
)
from protocol.messages import Report
from protocol.model import AttemptState, Budget, Context, FailureClass, TaskSpec
from tests.support.repositories import git, make_remote
from tests.support.runners import Bench, make

ADD = "def add(a, b):\n    return a - b\n"
TESTS = """import unittest
from calc import add, twice

class TestCalc(unittest.TestCase):
    def test_add(self): self.assertEqual(add(2, 3), 5)
    def test_twice(self): self.assertEqual(twice(4), 8)
"""
FIX = "printf 'def add(a, b):\\n    return a + b\\n\\ndef twice(a):\\n    return 2 * a\\n' > calc.py"
COMMAND = "python3 -m unittest -q 2>&1"
FORGED = """printf 'import unittest
class TestCalc(unittest.TestCase):
    def test_add(self): pass
    def test_twice(self): pass
' > forged.py
python3 -c '
import importlib.util, py_compile
unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
py_compile.compile("forged.py", importlib.util.cache_from_source("test_calc.py"), invalidation_mode=unchecked)
'
rm forged.py; echo __pycache__ > .gitignore"""


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = make(tmp_path)
    yield bench
    await bench.runner.stop()
    bench.journal.close()


async def done(bench: Bench, tmp_path: Path, command: str, *more: object, number: int = 1, **how: object) -> Report:
    """The report of ``command`` on a repository with one broken function and its tests."""
    tmp_path.mkdir(exist_ok=True)
    files = {"calc.py": f"{ADD}\ndef twice(a):\n    return 2 * a\n", "test_calc.py": TESTS}
    remote = make_remote(tmp_path, files).path
    check = CheckTestPasses(command=COMMAND, **how)  # type: ignore[arg-type]  # fields of the check by name
    spec = TaskSpec(
        command=command,
        context=Context(repo=str(remote), branch="main"),
        verification=(check, *more),  # type: ignore[arg-type]  # checks, one and all
        budget=Budget(fix_attempts=0),
    )
    return await bench.report(spec, number)


async def test_a_repair_is_verified_and_the_tests_are_counted(bench: Bench, tmp_path: Path) -> None:
    report = await done(bench, tmp_path, FIX)

    assert (report.state, report.result.verified) == (AttemptState.PASSED, True)
    assert report.result.report[0].detail == "unittest: 2 passed"


CHEATS = {
    "says so": ("echo all tests pass", "1 failed"),
    "deletes the test": (
        "sed -i /test_add/d test_calc.py",
        "1 tests ran, 2 before the work",
    ),
    "deletes all tests": ("rm test_calc.py", "NO TESTS RAN|no test ran|exit code 5|tests ran, 2 before"),
    "weakens the test": ("sed -i 's/add(2, 3), 5/add(2, 3), -1/' test_calc.py", "test_calc.py was changed"),
    "skips the test": (
        "sed -i 's/^    def test_add/    @unittest.skip(\"later\")\\n    def test_add/' test_calc.py",
        "1 tests ran, 2 before the work; 1 were skipped, 0 before the work",
    ),
    "replaces the runner": (
        "echo > unittest.py",
        "it says nothing about its tests any more; before the work: unittest",
    ),
    "pretends to be the runner": (
        "printf 'print(\"Ran 2 tests in 0.001s\\\\n\\\\nOK\")\\n' > unittest.py",
        "unittest.py decides which tests run, and was added",
    ),
    "returns what the test expects": (
        f"{FIX}; sed -i 's/return a + b/return 5/' calc.py",
        "add() returns 5 whatever it is given (calc.py:2)",
    ),
    "is a part of the runner": (
        "printf 'print(\"Ran 2 tests in 0.001s\\\\n\\\\nOK\"); raise SystemExit\\n' > argparse.py",
        "argparse.py takes the place of the module argparse, and was added",
    ),
    "hooks the interpreter": (
        f"{FIX}; echo 'import os' > sitecustomize.py",
        "sitecustomize.py decides which tests run",
    ),
    "forges what the tests were compiled to": (FORGED, "failed before the work, too: test_add"),
}


SPOILS = """printf 'import atexit, pathlib
def spoil():
    pathlib.Path(".github").mkdir(exist_ok=True)
    pathlib.Path(".github/x.yml").write_text("on: push")
atexit.register(spoil)
def add(a, b):
    return a + b
def twice(a):
    return 2 * a
' > calc.py"""
KEY = f"ghp_{'a1B2' * 9}"


async def test_what_a_check_writes_is_looked_at_too(bench: Bench, tmp_path: Path) -> None:
    report = await done(bench, tmp_path, SPOILS, CheckProtectedPaths(paths=(".github/**",)))
    tests, protected = report.result.report

    assert (tests.passed, report.result.verified) == (True, False)
    assert protected.detail == ".github/x.yml is protected by '.github/**'"


async def test_what_another_check_rewrites_was_not_tested(bench: Bench, tmp_path: Path) -> None:
    rewrites = CheckCommandSucceeds(command="echo 'def add(a, b): return 5' > calc.py", name="rewrites")
    report = await done(bench, tmp_path, FIX, rewrites)
    tests, _ = report.result.report

    assert report.result.verified is False
    assert not tests.passed
    assert tests.exit_code == 1


async def test_a_key_in_a_commit_that_a_later_one_takes_back_is_found(bench: Bench, tmp_path: Path) -> None:
    commit = "git -c user.name=x -c user.email=x@example.org commit -qm x"
    commits = f"echo {KEY} > key; git add key; {commit}; git rm -q key; {commit}"
    report = await done(bench, tmp_path, f"{FIX}; {commits}", CheckNoSecrets())

    assert report.result.report[1].detail.startswith("key: a secret, or what looks like one, in a commit of the work")
    clean = await done(bench, tmp_path / "again", FIX, CheckNoSecrets(), number=2)
    assert clean.result.verified is True, clean.result.report


@pytest.mark.parametrize("cheat", CHEATS)
async def test_work_that_cheats_is_not_verified(bench: Bench, tmp_path: Path, cheat: str) -> None:
    command, why = CHEATS[cheat]
    report = await done(bench, tmp_path, command)
    found = report.result.report[0]

    assert report.result.verified is False
    assert (report.state is AttemptState.PASSED) is found.doubtful, "only what a person has to judge is delivered"
    assert found.doubtful is (found.exit_code == 0), report.result
    assert any(part in report.result.report[0].detail for part in why.split("|")), report.result.report[0]


async def test_old_failures_are_told_from_new_ones(bench: Bench, tmp_path: Path) -> None:
    report = await done(bench, tmp_path, "sed -i 's/2 . a/3 * a/' calc.py")

    (found,) = report.result.report
    assert "fails since the work: test_twice (test_calc.TestCalc.test_twice)" in found.detail
    assert "failed before the work, too: test_add (test_calc.TestCalc.test_add)" in found.detail


async def test_old_failures_may_be_allowed(bench: Bench, tmp_path: Path) -> None:
    report = await done(bench, tmp_path, "echo more > notes", old_failures=True)

    assert report.result.verified is True
    assert "these failed before the work, too" in report.result.report[0].detail


async def test_the_whole_change_is_judged_also_what_git_is_told_not_to_show(bench: Bench, tmp_path: Path) -> None:
    hide = "printf '*.py -diff\\n' > .gitattributes; echo '# TODO' >> calc.py; git add calc.py; echo x > new.lock"
    report = await done(
        bench,
        tmp_path,
        f"{FIX}; {hide}",
        CheckNoPlaceholders(),
        CheckDiffLimits(max_files=2, max_added=100),
        CheckProtectedPaths(paths=("*.lock",)),
    )

    tests, put_off, size, protected = report.result.report
    assert tests.detail.endswith("what proves it: .gitattributes decides which tests run, and was added")
    assert put_off.detail == "calc.py:6: TODO"
    assert size.detail == "3 files changed, at most 2; the lines of calc.py cannot be counted"
    assert protected.detail == "new.lock is protected by '*.lock'"


async def test_what_the_work_leaves_in_its_home_is_not_there_for_the_checks(bench: Bench, tmp_path: Path) -> None:
    plant = "echo planted > ~/.gitconfig; test -e ~/.gitconfig"
    look = CheckCommandSucceeds(command='test ! -e ~/.gitconfig && test -n "$PYTHONNOUSERSITE" && touch ~/of-a-check')
    again = CheckCommandSucceeds(command="test ! -e ~/of-a-check")
    report = await done(bench, tmp_path, f"{FIX}; {plant}", look, again)

    assert report.result.verified is True, report.result.report


async def test_settings_of_work_that_begins_with_nothing_are_its_own(bench: Bench) -> None:
    tests = "import unittest\nclass T(unittest.TestCase):\n    def test_x(self): pass\n"
    make_all = f"printf '{tests}' > test_x.py; echo '{{}}' > package.json; echo > conftest.py"
    spec = TaskSpec(command=make_all, verification=(CheckTestPasses(command=COMMAND),), budget=Budget(fix_attempts=0))
    honest = await bench.report(spec)
    shadow = await bench.report(replace(spec, command=f"{make_all}; echo > sitecustomize.py"), 2)

    assert honest.result.verified is True, honest.result.report
    assert "sitecustomize.py decides which tests run" in shadow.result.report[0].detail


@pytest.mark.parametrize("how", ["git init -q lib", "git init -q lib; git -C lib commit -q --allow-empty -m x"])
async def test_work_in_a_repository_of_its_own_is_not_verified_and_can_be_mended(
    bench: Bench, tmp_path: Path, how: str
) -> None:
    who = "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b"
    begin, mend = f"{who}; mkdir lib; date > lib/made; {how}", "rm -rf lib/.git"
    remote = make_remote(tmp_path, {"a": "a"}).path
    spec = TaskSpec(
        command=f"if test -d lib; then {mend}; else {begin}; fi",
        context=Context(repo=str(remote), branch="main"),
        verification=(CheckCommandSucceeds(command="test -f lib/made"),),
        budget=Budget(fix_attempts=0),
    )
    failed = await bench.report(spec, 1)
    mended = await bench.report(replace(spec, budget=Budget(fix_attempts=1)), 2)
    unchecked = await bench.report(replace(spec, verification=()), 3)

    assert failed.result.verified is False
    assert "'lib' is a repository of its own" in failed.result.report[0].detail
    assert (mended.result.verified, mended.result.pushed) == (True, True)
    assert git(remote, "show", "--format=", "--name-only", mended.result.commit) == "lib/made"
    assert unchecked.failure is FailureClass.AGENT
    assert (unchecked.result.error_code, unchecked.result.pushed) == ("work_unreadable", False)
