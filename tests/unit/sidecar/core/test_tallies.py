"""What test runners say is understood: pytest, unittest and node are run for real, the others by what they print."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.tallies import Tally, tally

PYTHON_TESTS = """
import unittest
class T(unittest.TestCase):
    def test_good(self): pass
    def test_bad(self): self.fail("no")
    def test_error(self): raise ValueError
    @unittest.skip("not now")
    def test_skipped(self): pass
    @unittest.expectedFailure
    def test_expected(self): self.fail()
"""
NODE_TESTS = """
const test = require('node:test');
test('good', () => {});
test('bad one', () => { throw new Error('no'); });
test('skipped', { skip: true }, () => {});
"""


def said(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, check=False, cwd=cwd, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@pytest.mark.parametrize("colour", ["yes", "no"])
def test_pytest_is_understood(tmp_path: Path, colour: str) -> None:
    (tmp_path / "test_it.py").write_text(PYTHON_TESTS)
    found = tally(said(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--color={colour}", cwd=tmp_path))

    assert found == Tally("pytest", 2, 2, 1, frozenset({"test_it.py::T::test_bad", "test_it.py::T::test_error"}))


def test_pytest_without_tests_is_a_tally_of_none(tmp_path: Path) -> None:
    assert tally(said(sys.executable, "-m", "pytest", cwd=tmp_path)) == Tally("pytest")


def test_unittest_is_understood(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(PYTHON_TESTS)
    found = tally(said(sys.executable, "-m", "unittest", "-q", cwd=tmp_path))

    assert found is not None
    assert (found.runner, found.passed, found.failed, found.skipped) == ("unittest", 2, 2, 1)
    assert {name.split()[0] for name in found.failing} == {"test_bad", "test_error"}


@pytest.mark.skipif(not shutil.which("node"), reason="there is no node on this machine")
@pytest.mark.parametrize("reporter", ["spec", "tap"])
def test_node_is_understood(tmp_path: Path, reporter: str) -> None:
    (tmp_path / "it.test.js").write_text(NODE_TESTS)
    found = tally(said("node", "--test", f"--test-reporter={reporter}", "it.test.js", cwd=tmp_path))

    assert found is not None
    assert (found.runner, found.passed, found.failed, found.skipped) == ("node", 1, 1, 1)
    assert "bad one" in found.failing


CARGO = """
running 3 tests
test tests::good ... ok
test tests::bad ... FAILED
test tests::later ... ignored

failures:
    tests::bad

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests thing

running 1 test
test src/lib.rs - add (line 3) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.21s
"""
GO_VERBOSE = """=== RUN   TestGood
--- PASS: TestGood (0.00s)
=== RUN   TestBad
    it_test.go:9: no
--- FAIL: TestBad (0.00s)
=== RUN   TestLater
    it_test.go:13: not now
--- SKIP: TestLater (0.00s)
FAIL
FAIL\texample.com/it\t0.002s
FAIL
"""
GO = """--- FAIL: TestBad (0.00s)
    it_test.go:9: no
FAIL
FAIL\texample.com/it\t0.002s
ok  \texample.com/other\t0.004s
?   \texample.com/none\t[no test files]
FAIL
"""
JUNIT = """<?xml version="1.0"?><testsuites><testsuite name="s" tests="3">
<testcase classname="a.B" name="good" time="0"/>
<testcase classname="a.B" name="bad"><failure message="no">trace</failure></testcase>
<testcase classname="a.B" name="later"><skipped/></testcase></testsuite></testsuites>"""
TAP = """TAP version 13
1..4
ok 1 - good
not ok 2 - bad
ok 3 - later # SKIP not now
not ok 4 - some day # TODO
"""


@pytest.mark.parametrize(
    "text, expected",
    [
        (CARGO, Tally("cargo", 2, 1, 1, frozenset({"tests::bad"}))),
        (GO_VERBOSE, Tally("go", 1, 1, 1, frozenset({"TestBad"}))),
        (GO, Tally("go packages", 1, 1, 0, frozenset({"TestBad"}))),
        (JUNIT, Tally("JUnit", 1, 1, 1, frozenset({"a.B.bad"}))),
        (TAP, Tally("TAP", 1, 1, 2, frozenset({"bad"}))),
        ("3 passed in 0.12s\n", Tally("pytest", 3)),
        ("= 1 failed, 2 passed, 1 warning in 61.20s (0:01:01) =\n", Tally("pytest", 2, 1)),
    ],
)
def test_what_other_runners_print_is_understood(text: str, expected: Tally) -> None:
    assert tally(text) == expected


@pytest.mark.parametrize("text", ["", "all tests pass\n", "100 passed\n", "ok", "PASS", "1 passed, honestly"])
def test_a_claim_is_no_tally(text: str) -> None:
    assert tally(text) is None


HOSTILE = {
    "blank lines": "\n" * 1_000_000,
    "signs": "=" * 1_000_000,
    "lines of signs": "=\n" * 500_000,
    "counts": "1 a" * 300_000,
    "suites": "<testsuite " * 90_000,
    "cases": "<testsuite><testcase>" + "<testcase>" * 90_000,
    "attributes": "<testsuite><testcase " + "a" * 1_000_000,
    "unittest": f"Ran 1 test in 1s\n\nOK ({'a' * 1_000_000})",
    "digits": "9" * 1_000_000 + " passed in 1s",
    "node": "# tests 1\n# pass 1\n# fail 0\n" + "not ok 1 - " * 90_000,
    "TAP": "1..1\n" + "ok 1 " * 200_000,
    "go": "ok  \tx\t1s\n" + " " * 1_000_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.timeout(20)
def test_no_text_of_a_megabyte_takes_long_to_read(kind: str) -> None:
    found = tally(HOSTILE[kind])

    assert found is None or found.ran < 1_000_000


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_can_be_read(text: str) -> None:
    found = tally(text)

    assert found is None or found.ran >= 0
