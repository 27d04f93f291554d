"""The checks of what files hold, and of what was changed."""

import pytest

from protocol.checks import (
    Check,
    CheckDiffLimits,
    CheckFileAbsent,
    CheckFileContains,
    CheckJsonSchema,
    CheckNoPlaceholders,
    CheckNoSecrets,
    CheckProtectedPaths,
    CheckTestPasses,
)
from protocol.model import Finding
from sidecar.checks import CHECKS
from sidecar.checks.base import kind_of
from sidecar.core.diff import Change
from sidecar.core.tallies import Tally
from tests.support.attempts import Bench


async def check(bench: Bench, wanted: Check) -> Finding:
    return await CHECKS[kind_of(wanted)](wanted, bench.ground())


async def test_nothing_may_be_where_nothing_shall_be_not_even_a_link(bench: Bench) -> None:
    (bench.workspace / "file").touch()
    (bench.workspace / "link").symlink_to("nowhere")

    assert (await check(bench, CheckFileAbsent(path="gone"))).passed
    assert (await check(bench, CheckFileAbsent(path="deep/gone"))).passed
    assert (await check(bench, CheckFileAbsent(path="file"))).detail == "'file' is there, a file"
    assert (await check(bench, CheckFileAbsent(path="link"))).detail == "'link' is there, a link"
    assert not (await check(bench, CheckFileAbsent(path="../x"))).passed
    assert (await check(bench, CheckFileAbsent(path="file/x"))).passed


async def test_what_cannot_be_looked_at_is_not_absent(bench: Bench) -> None:
    (bench.workspace / "folder").mkdir()
    (bench.workspace / "folder" / "file").touch()
    (bench.workspace / "way").symlink_to("folder")
    behind = await check(bench, CheckFileAbsent(path="way/file"))
    too_long = await check(bench, CheckFileAbsent(path="x" * 300))

    assert (behind.passed, too_long.passed) == (False, False)
    assert "'way/file' leads through a link" in behind.detail
    assert "cannot be used: File name too long" in too_long.detail


@pytest.mark.parametrize(
    "text, pattern, detail",
    [
        ("version = 2", "", ""),
        ("", "^version = [0-9]+$", ""),
        ("name", "^version", ""),
        ("2\nname", "", ""),
        ("version = 3", "", "does not hold 'version = 3'"),
        ("", "^name$", "no line of 'a.toml' matches '^name$'"),
        ("", "(", "grep: "),
        ("", "-e x --help", "no line"),
    ],
)
async def test_a_file_holds_a_text_and_a_line_that_matches(bench: Bench, text: str, pattern: str, detail: str) -> None:
    (bench.workspace / "a.toml").write_text("version = 2\nname = 'x'\n")
    found = await check(bench, CheckFileContains(path="a.toml", text=text, pattern=pattern))

    assert found.passed is (not detail)
    assert detail in found.detail


async def test_only_files_of_the_workspace_are_searched(bench: Bench) -> None:
    (bench.workspace / "link").symlink_to("/etc/passwd")
    (bench.workspace / "huge").write_bytes(b"x" * ((8 << 20) + 1))

    linked = await check(bench, CheckFileContains(path="link", text="root"))
    huge = await check(bench, CheckFileContains(path="huge", text="x"))
    assert not linked.passed
    assert "'link' is a link; links are not followed" in linked.detail
    assert not huge.passed
    assert "'huge' holds more than 8 MiB" in huge.detail


SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}, "s": {"pattern": "^(a+)+$"}}}


@pytest.mark.parametrize(
    "content, detail",
    [
        ('{"n": 1}', ""),
        ('{"n": "1"}', 'n: "1" is not of type "integer"'),
        ("{}", 'the document: "n" is a required property'),
        ("{", "'a.json' is no JSON"),
        (f'{{"n": 1, "s": "{"a" * 50}b"}}', "s: "),
    ],
)
async def test_json_fits_its_schema_or_says_where_not(bench: Bench, content: str, detail: str) -> None:
    (bench.workspace / "a.json").write_text(content)
    found = await check(bench, CheckJsonSchema(path="a.json", schema=SCHEMA))

    assert found.passed is (not detail)
    assert detail in found.detail


CHANGES = (
    Change("src/a.py", ((1, "x = 1"), (2, "# TODO: more")), ("x = 0",)),
    Change("docs/b.md", ((1, "TODO"),), is_new=True),
    Change("logo.png", is_opaque=True),
)


@pytest.mark.parametrize(
    "wanted, detail",
    [
        (CheckNoPlaceholders(), "docs/b.md:1: TODO"),
        (CheckNoPlaceholders(ignore=("docs/**",)), "src/a.py:2: TODO"),
        (CheckNoPlaceholders(ignore=("*.py", "*.md")), ""),
        (CheckNoSecrets(), ""),
        (CheckDiffLimits(max_files=3), ""),
        (CheckDiffLimits(max_files=2), "3 files changed, at most 2"),
        (CheckDiffLimits(max_added=2), "3 lines added, at most 2; the lines of logo.png cannot be counted"),
        (CheckDiffLimits(max_removed=0), "1 lines removed, at most 0"),
        (CheckProtectedPaths(paths=(".github/**", "*.lock")), ""),
        (CheckProtectedPaths(paths=("src/",)), "src/a.py is protected by 'src/'"),
    ],
)
async def test_a_change_is_judged(bench: Bench, wanted: Check, detail: str) -> None:
    bench.change = CHANGES
    (bench.workspace / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x01\x02\x03")
    found = await check(bench, wanted)

    assert found.passed is (not detail)
    assert detail in found.detail


async def test_secrets_in_added_lines_are_found_and_told_nobody(bench: Bench) -> None:
    token, key = f"ghp_{'a1B2' * 9}", "-----BEGIN RSA PRIVATE KEY-----"
    bench.change = (Change("a.py", ((1, "x = 1"), (2, f"t = '{token}'"))), Change("k.pem", ((1, key), (2, "MIIE"))))
    found = await check(bench, CheckNoSecrets())
    ignored = await check(bench, CheckNoSecrets(ignore=("*.py", "*.pem")))

    assert (found.passed, ignored.passed) == (False, True)
    assert found.detail == "a.py:2: a secret, or what looks like one; k.pem:1: a secret, or what looks like one"


TOKEN = f"ghp_{'a1B2' * 9}"


@pytest.mark.parametrize(
    "content",
    [
        f"x = '{TOKEN}'\0".encode(),
        f"x = '{TOKEN[:9]}\0{TOKEN[9:]}'".encode(),
        f"x = '{TOKEN}'\n".encode("utf-16"),
        b"#" * (2 << 20) + f"\n{TOKEN}".encode(),
    ],
    ids=["a NUL behind it", "a NUL in it", "UTF-16", "a large file"],
)
async def test_a_secret_in_a_file_that_is_no_text_is_found(bench: Bench, content: bytes) -> None:
    (bench.workspace / "data").write_bytes(content)
    bench.change = (Change("data", is_new=True, is_opaque=True),)

    assert (await check(bench, CheckNoSecrets())).detail == "data: a secret, or what looks like one"
    assert (await check(bench, CheckNoSecrets(ignore=("data",)))).passed


async def test_what_nobody_can_look_into_is_not_free_of_secrets(bench: Bench) -> None:
    (bench.workspace / "own").mkdir()
    with (bench.workspace / "huge").open("wb") as file:
        file.truncate((32 << 20) + 1)
    (bench.workspace / "link").symlink_to("nowhere")
    (bench.workspace / "told").symlink_to(f"https://me:{TOKEN}@example.org")
    bench.change = tuple(Change(path, is_new=True, is_opaque=True) for path in ("own/", "huge", "link", "told", "a\nb"))
    found = await check(bench, CheckNoSecrets())

    assert not found.passed
    assert "'own/' is no regular file: nobody can look into it" in found.detail
    assert "'huge' holds more than 32 MiB: nobody can look into it" in found.detail
    assert "told: a secret" in found.detail
    assert "link:" not in found.detail


async def test_a_secret_in_an_earlier_commit_of_the_work_is_found(bench: Bench) -> None:
    bench.change = (Change("a.py", ((1, "x = 1"),)),)
    bench.commits = (Change("a.py", ((1, f"x = '{TOKEN}'"),)), Change("a.py", ((1, "x = 1"),), (f"x = '{TOKEN}'",)))
    found = await check(bench, CheckNoSecrets())

    assert found.detail.startswith("a.py: a secret, or what looks like one, in a commit of the work")
    assert (await check(bench, CheckNoSecrets(ignore=("*.py",)))).passed


@pytest.mark.parametrize(
    "path, content, detail",
    [
        ("a.py", b"x = 1\n# TODO\n\0", "a.py:2: TODO"),
        ("notes.md", "one\nTODO: zwölf\n".encode("utf-16"), "notes.md:2: TODO"),
        ("a.py", bytes(range(256)), "a.py is no text"),
        ("logo.png", bytes(range(256)) + b"TODO", ""),
        ("a.py", b"x = 1\n\0", ""),
    ],
)
async def test_work_that_is_put_off_is_found_also_in_what_git_takes_for_no_text(
    bench: Bench, path: str, content: bytes, detail: str
) -> None:
    (bench.workspace / path).write_bytes(content)
    bench.change = (Change(path, is_new=True, is_opaque=True),)
    found = await check(bench, CheckNoPlaceholders())

    assert (found.passed, found.detail) == (not detail, detail)


async def test_tests_that_could_not_be_compared_leave_a_doubt(bench: Bench) -> None:
    bench.tally_before = TimeoutError
    found = await check(bench, CheckTestPasses(command="echo '2 passed in 0.1s'"))
    silent = await check(bench, CheckTestPasses(command="true"))
    failed = await check(bench, CheckTestPasses(command="echo '1 failed in 0.1s'; exit 1"))

    assert (found.passed, found.doubtful) == (False, True)
    assert found.detail.startswith("pytest: 2 passed; what it said before the work is not known")
    assert (silent.passed, silent.doubtful) == (False, True)
    assert (failed.passed, failed.doubtful) == (False, False)


def failing_once(bench: Bench) -> str:
    """A test command of which the first run fails."""
    return (
        f"test -e {bench.scratch}/ran && echo '2 passed in 0.1s' && exit 0; touch {bench.scratch}/ran;"
        " echo 'FAILED t.py::now_and_then'; echo '1 failed, 1 passed in 0.1s'; exit 1"
    )


async def test_a_test_that_fails_now_and_then_is_named(bench: Bench) -> None:
    found = await check(bench, CheckTestPasses(command=failing_once(bench)))

    assert found.passed
    assert found.detail == "flaky: t.py::now_and_then failed once and passed when run again"


async def test_fewer_tests_than_before_are_no_pass(bench: Bench) -> None:
    bench.tally_before = Tally("pytest", 3)
    found = await check(bench, CheckTestPasses(command="echo '2 passed in 0.1s'"))

    assert (found.passed, found.exit_code) == (False, 0)
    assert found.detail == "2 tests ran, 3 before the work"


async def test_tests_that_the_work_has_changed_prove_nothing(bench: Bench) -> None:
    bench.change = (Change("tests/test_a.py", removed=("assert f() == 2",)),)
    found = await check(bench, CheckTestPasses(command="echo '2 passed in 0.1s'"))
    allowed = await check(bench, CheckTestPasses(command="echo '2 passed in 0.1s'", may_edit=("tests/**",)))

    assert not found.passed
    assert found.detail == ("the tests pass, but the work has changed what proves it: tests/test_a.py was changed")
    assert allowed.passed
