import pytest

from protocol.checks import CheckTestPasses
from sidecar.core.diff import Change
from sidecar.core.judging import judge, rewritten, steers, tampering
from sidecar.core.tallies import Tally

CHECK = CheckTestPasses(command="pytest -q")
LENIENT = CheckTestPasses(command="pytest -q", old_failures=True)


def failing(*names: str, passed: int = 3, skipped: int = 0) -> Tally:
    return Tally("pytest", passed, len(names), skipped, frozenset(names))


@pytest.mark.parametrize(
    "check, exit_code, now, before, passed, detail",
    [
        (CHECK, 0, None, None, True, ""),
        (CHECK, 1, None, None, False, ""),
        (
            CHECK,
            0,
            None,
            Tally("pytest", 3),
            False,
            "says nothing about its tests any more; before the work: pytest: 3",
        ),
        (CHECK, 0, Tally("pytest", 3), None, True, "pytest: 3 passed"),
        (CHECK, 0, Tally("pytest", 3), Tally("pytest", 2, 1), True, "pytest: 3 passed"),
        (CHECK, 0, Tally("pytest"), None, False, "no test ran"),
        (CHECK, 0, Tally("pytest", skipped=4), Tally("pytest", 4), False, "no test ran, 4 were skipped"),
        (CHECK, 0, Tally("pytest", 3), Tally("pytest", 3, 1), False, "3 tests ran, 4 before the work"),
        (CHECK, 0, Tally("pytest", 3, skipped=1), Tally("pytest", 3), False, "1 were skipped, 0 before the work"),
        (CHECK, 0, Tally("pytest", 3), Tally("unittest", 9), False, "pytest speaks, before the work it was unittest"),
        (CHECK, 0, Tally("pytest", 3), Tally("unittest"), True, "pytest: 3 passed"),
        (LENIENT, 1, Tally("pytest", 3, 2, 0, frozenset({"a"})), failing("a", passed=4), False, "2 failed"),
        (CHECK, 1, failing("a", "b"), failing("a", passed=4), False, "fails since the work: b; failed before the work"),
        (CHECK, 1, failing("a"), None, False, "pytest: 3 passed, 1 failed"),
        (CHECK, 1, failing("a"), failing("a"), False, "failed before the work, too: a"),
        (LENIENT, 1, failing("a"), failing("a", "b", passed=2), True, "these failed before the work, too: a"),
        (LENIENT, 1, failing("a", "b"), failing("a", passed=4), False, "fails since the work: b"),
        (LENIENT, 1, Tally("pytest", 3, 1), failing("a"), False, "1 failed"),
    ],
)
def test_tests_are_worth_what_they_say_beside_what_they_said(
    check: CheckTestPasses, exit_code: int, now: Tally | None, before: Tally | None, passed: bool, detail: str
) -> None:
    judgement = judge(check, exit_code, now, before)

    assert judgement.passed is passed
    assert detail in judgement.detail


def test_only_a_few_new_failures_are_worth_another_run() -> None:
    assert judge(CHECK, 1, failing("a"), None).may_be_flaky
    assert not judge(CHECK, 1, failing("a"), failing("a")).may_be_flaky
    assert not judge(CHECK, 1, failing(*map(str, range(11))), None).may_be_flaky


@pytest.mark.parametrize(
    "change, reason",
    [
        (Change("tests/test_a.py", is_gone=True, removed=("x",)), "tests/test_a.py was deleted"),
        (Change("tests/test_a.py", ((1, "    assert True"),), ("    assert f() == 2",)), "tests/test_a.py was changed"),
        (Change("test_a.py", ((7, "@pytest.mark.skip"),)), "tests are left out at test_a.py:7"),
        (Change("pkg/a_test.go", ((7, '\tt.Skip("later")'),)), "tests are left out at pkg/a_test.go:7"),
        (Change("new.test.js", ((2, "it.only('one', f)"),), is_new=True), "tests are left out at new.test.js:2"),
        (
            Change("conftest.py", ((1, "collect_ignore = ['a']"),), is_new=True),
            "decides which tests run, and was added",
        ),
        (Change("sub/pytest.ini", ((1, "x"),)), "decides which tests run, and was changed"),
        (Change("pyproject.toml", ((9, 'addopts = "-k good"'),)), "pyproject.toml was changed where it is about tests"),
        (Change("tests/data.bin", is_opaque=True), "tests/data.bin was changed"),
        (Change("tests/new.png", is_new=True, is_opaque=True), None),
        (Change(".gitattributes", ((1, "*.py -diff"),), is_new=True), "decides which tests run, and was added"),
        (Change("check.sh", ((1, "exit 0"),)), None),
        (Change("src/a.py", ((1, "x = 1"),), ("x = 2",)), None),
        (Change("tests/test_new.py", ((1, "def test_x(): assert f()"),), is_new=True), None),
        (Change("tests/test_a.py", ((90, "def test_more(): assert f()"),)), None),
        (Change("pyproject.toml", ((9, '  "httpx",'),)), None),
    ],
)
def test_what_the_work_does_to_its_own_tests_is_told(change: Change, reason: str | None) -> None:
    found = tampering(CHECK, [change])

    assert len(found) == (reason is not None)
    assert reason is None or reason in found[0]


def test_what_a_runner_measures_or_leaves_out_is_no_place_it_imports_from() -> None:
    changes = [Change("shop/profile.py", is_new=True), Change("slow/email.py", is_new=True)]
    for words in ("--cov=shop --ignore=slow -q", "--cov shop -k slow", "-m 'slow' --cov=shop", '--ignore "slow" --cov'):
        assert tampering(CheckTestPasses(command=f"pytest {words}"), changes) == ()
    assert len(tampering(CheckTestPasses(command="pytest --cov=shop shop --cov slow"), changes)) == 1
    assert len(tampering(CheckTestPasses(command="cd shop && pytest -q --cov --rootdir=slow"), changes)) == 2


@pytest.mark.parametrize(
    "path, module",
    [
        ("pytest/__main__.py", "pytest"),
        ("pytest/__init__.py", "pytest"),
        ("pluggy/__init__.py", "pluggy"),
        ("iniconfig.py", "iniconfig"),
        ("argparse.py", "argparse"),
        ("logging/__init__.py", "logging"),
        ("_json.cpython-311-x86_64-linux-gnu.so", "_json"),
        ("tests/argparse.py", "argparse"),
        ("src/typing.pyc", "typing"),
        ("deep/tests/random.py", "random"),
        ("calc/types.py", ""),
        ("calc.py", ""),
        ("test/__init__.py", ""),
        ("coverage/lcov.info", ""),
        ("logging/readme.md", ""),
    ],
)
def test_a_new_file_may_not_take_the_place_of_what_the_runner_imports(path: str, module: str) -> None:
    check = CheckTestPasses(command="python -m pytest -q ./deep/tests/test_x.py::test_y")
    found = tampering(check, [Change(path, is_new=True)])

    assert found == ((f"{path} takes the place of the module {module}, and was added",) if module else ())
    assert tampering(check, [Change(path)]) == (), "what was there before the work is the project's own"
    is_runner = module in {"pytest", "pluggy", "iniconfig"}
    assert len(tampering(check, [Change(path, is_new=True)], has_base=False)) == is_runner


def test_a_program_that_the_command_names_is_part_of_the_test_unless_the_work_has_made_it() -> None:
    check = CheckTestPasses(command="sh check.sh")
    edited = Change("check.sh", ((1, "exit 0"),), ("exit 1",))

    more = Change("check.sh", ((1, "exit 0"),))

    assert tampering(check, [edited]) == ("check.sh is what the command runs, and was changed",)
    assert tampering(CheckTestPasses(command="./check.sh -q"), [more]) == tampering(check, [edited])
    assert tampering(check, [Change("check.sh", ((1, "exit 0"),), is_new=True)]) == ()


def test_what_may_be_edited_is_left_out() -> None:
    check = CheckTestPasses(command="pytest", may_edit=("tests/unit/**",))
    changes = [Change("tests/unit/test_a.py", removed=("x",)), Change("tests/e2e/test_b.py", removed=("x",))]

    assert tampering(check, changes) == ("tests/e2e/test_b.py was changed",)


@pytest.mark.parametrize(
    "path, is_link, counts",
    [
        ("conftest.py", False, True),
        ("build/pytest.ini", False, True),
        (".venv/lib/python3/site-packages/_pytest/a.py", False, False),
        (".venv/lib/python3/site-packages/usercustomize.py", False, True),
        ("node_modules/jest/package.json", False, False),
        ("node_modules/.bin/jest", True, False),
        ("node_modules/.bin/jest", False, True),
        ("unittest/", False, True),
        ("argparse.py", False, True),
        ("pluggy/__init__.py", False, True),
        ("settings.py", False, False),
        ("tests/helper.py", False, False),
    ],
)
def test_ignored_files_steer_tests_unless_they_come_with_packages(path: str, is_link: bool, counts: bool) -> None:
    assert steers(path, is_link=is_link) is counts


def test_only_work_with_a_base_has_settings_that_are_not_its_own() -> None:
    first = [Change("conftest.py", is_new=True), Change("package.json", ((1, '"test": "jest"'),), is_new=True)]

    assert len(tampering(CheckTestPasses(command="pytest"), first)) == 2
    assert tampering(CheckTestPasses(command="pytest"), first, has_base=False) == ()


@pytest.mark.parametrize(
    "command, path, counts",
    [
        ("sh check.sh", "check.sh", True),
        ("bash ./scripts/run-tests.sh -x", "scripts/run-tests.sh", True),
        ("make check", "Makefile", True),
        ("npm run lint", "package.json", True),
        ("make all", "Makefile", False),
        ("python3 main.py", "main.py", False),
        ("sh check.sh", "other.sh", False),
    ],
)
def test_a_command_may_not_check_with_what_the_work_has_rewritten(command: str, path: str, counts: bool) -> None:
    changed = [Change(path, ((1, "exit 0"),))]

    assert bool(rewritten(command, changed, ())) is counts
    assert rewritten(command, changed, ("*",)) == ()
    assert rewritten(command, [Change(path, is_new=True)], ()) == ()


def test_only_what_the_work_changed_of_its_proof_is_a_doubt() -> None:
    before, fewer = Tally("pytest", 3), Tally("pytest", 2)

    assert judge(CHECK, 0, fewer, before).doubtful
    assert judge(CHECK, 0, None, before).doubtful
    assert not judge(CHECK, 1, fewer, before).doubtful
    assert judge(CHECK, 0, Tally("pytest"), before).doubtful
    assert not judge(CHECK, 0, Tally("pytest"), None).doubtful
    assert not judge(CHECK, 0, before, before).doubtful
