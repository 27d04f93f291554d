"""Understand what test runners say: how many tests ran, failed and were skipped, and which failed.

Pure, from the text alone; the words are those of the runners' own summaries (pytest, unittest, go test, cargo test,
node's test runner and TAP, JUnit's XML). Text that is none of these is no tally, never one of zero tests. The caller is
``sidecar/core/judging.py``.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Tally:
    """What one run of a test command did. ``failing`` names those that failed, as far as the runner does."""

    runner: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failing: frozenset[str] = frozenset()

    @property
    def ran(self) -> int:
        """Tests that came to a verdict."""
        return self.passed + self.failed

    def __str__(self) -> str:
        said = [f"{self.passed} passed"]
        said += [f"{self.failed} failed"] if self.failed else []
        said += [f"{self.skipped} skipped"] if self.skipped else []
        return f"{self.runner}: {', '.join(said)}"


def tally(text: str) -> Tally | None:
    """What ``text`` (all that the command said) tells of its tests; ``None`` if no known runner speaks in it."""
    plain = _COLOUR.sub("", text).replace("\r\n", "\n")
    for read in _READERS:
        found = read(plain)
        if found is not None:
            return found
    return None


# --- pytest -----------------------------------------------------------------------------------------------------------

_PYTEST: Final = re.compile(r"^=*[ ]?((?:\d{1,9} [a-z]+(?:, )?)+|no tests ran) in [\d.]{1,12}s.*$", re.MULTILINE)
_PYTEST_FAILING: Final = re.compile(r"^(?:FAILED|ERROR) ([^\n]{1,2000}?)(?: - [^\n]*)?$", re.MULTILINE)
_COUNT: Final = re.compile(r"(\d{1,9}) ([a-z]+)")


def _pytest(text: str) -> Tally | None:
    runs = [found[1] for found in _PYTEST.finditer(text)]
    if not runs:
        return None
    counts: dict[str, int] = {}
    for run in runs:
        for number, word in _COUNT.findall(run):
            counts[word] = counts.get(word, 0) + int(number)
    # A test that fails as expected has run; one that is left out (deselected) has not, and is not skipped either.
    return Tally(
        "pytest",
        passed=counts.get("passed", 0) + counts.get("xfailed", 0),
        failed=sum(counts.get(word, 0) for word in ("failed", "error", "errors", "xpassed")),
        skipped=counts.get("skipped", 0),
        failing=frozenset(_PYTEST_FAILING.findall(text)),
    )


# --- unittest ---------------------------------------------------------------------------------------------------------

_UNITTEST: Final = re.compile(
    r"^Ran (\d{1,9}) tests? in [\d.]+s\n\n(OK|FAILED|NO TESTS RAN)(?: \(([^\n]{0,500})\))?$", re.MULTILINE
)
_UNITTEST_FAILING: Final = re.compile(r"^(?:FAIL|ERROR): (\S+ \([^)\n]+\))", re.MULTILINE)
_NAMED: Final = re.compile(r"\b([a-z][a-z ]{0,30})=(\d{1,9})")


def _unittest(text: str) -> Tally | None:
    runs = list(_UNITTEST.finditer(text))
    if not runs:
        return None
    passed = failed = skipped = 0
    for run in runs:
        named = {word.strip(): int(number) for word, number in _NAMED.findall(run[3] or "")}
        bad = named.get("failures", 0) + named.get("errors", 0) + named.get("unexpected successes", 0)
        failed += bad
        skipped += named.get("skipped", 0)
        passed += max(0, int(run[1]) - bad - named.get("skipped", 0))
    return Tally("unittest", passed, failed, skipped, frozenset(_UNITTEST_FAILING.findall(text)))


# --- go ---------------------------------------------------------------------------------------------------------------

_GO: Final = re.compile(r"^[ \t]{0,200}--- (PASS|FAIL|SKIP): (\S+) \([\d.]+s\)$", re.MULTILINE)
_GO_PACKAGE: Final = re.compile(r"^(ok|FAIL|\?)\s+(\S+)\s+(?:[\d.]+s|\(cached\)|\[.*\])", re.MULTILINE)


def _go(text: str) -> Tally | None:
    """Single tests with ``-v``; without, go names packages, and those that fail."""
    tests, packages = _GO.findall(text), _GO_PACKAGE.findall(text)
    if not packages:
        return None
    failing = {name for verdict, name in tests if verdict == "FAIL"}
    if any(verdict == "PASS" for verdict, _ in tests):
        passed = sum(verdict == "PASS" for verdict, _ in tests)
        return Tally("go", passed, len(failing), sum(verdict == "SKIP" for verdict, _ in tests), frozenset(failing))
    bad = {name for verdict, name in packages if verdict == "FAIL"}
    return Tally("go packages", sum(v == "ok" for v, _ in packages), len(bad), 0, frozenset(failing or bad))


# --- cargo ------------------------------------------------------------------------------------------------------------

_CARGO: Final = re.compile(r"^test result: \w+\. (\d{1,9}) passed; (\d{1,9}) failed; (\d{1,9}) ignored;", re.MULTILINE)
_CARGO_FAILING: Final = re.compile(r"^test (\S+) \.\.\. FAILED$", re.MULTILINE)


def _cargo(text: str) -> Tally | None:
    runs = [[int(number) for number in found] for found in _CARGO.findall(text)]
    if not runs:
        return None
    passed, failed, ignored = (sum(column) for column in zip(*runs, strict=True))
    return Tally("cargo", passed, failed, ignored, frozenset(_CARGO_FAILING.findall(text)))


# --- node, TAP --------------------------------------------------------------------------------------------------------

_NODE: Final = re.compile(r"^(?:#|\u2139) (tests|pass|fail|cancelled|skipped|todo) (\d{1,9})$", re.MULTILINE)
_NODE_FAILING: Final = re.compile(
    r"^[ \t]{0,200}(?:not ok \d+ - (.*?)(?: # .*)?|\u2716 (.*?) \([\d.]+m?s\))$", re.MULTILINE
)
_TAP: Final = re.compile(r"^(not )?ok \d+(?: - )?(.*)$", re.MULTILINE)
_TAP_PLAN: Final = re.compile(r"^1\.\.\d+", re.MULTILINE)


def _node(text: str) -> Tally | None:
    counts = {word: int(number) for word, number in _NODE.findall(text)}
    if not {"tests", "pass", "fail"} <= counts.keys():
        return None
    failing = {(a or b).strip() for a, b in _NODE_FAILING.findall(text)}
    failed = counts["fail"] + counts.get("cancelled", 0)
    return Tally("node", counts["pass"], failed, counts.get("skipped", 0) + counts.get("todo", 0), frozenset(failing))


def _tap(text: str) -> Tally | None:
    if not _TAP_PLAN.search(text):
        return None
    passed = skipped = 0
    failing: list[str] = []
    for bad, about in _TAP.findall(text):
        name, _, directive = about.partition(" # ")
        if directive.lower().startswith(("skip", "todo")):
            skipped += 1
        elif bad:
            failing.append(name.strip())
        else:
            passed += 1
    if not (passed or skipped or failing):
        return None  # a line like 1..5 is not TAP's alone
    return Tally("TAP", passed, len(failing), skipped, frozenset(failing))


# --- JUnit ------------------------------------------------------------------------------------------------------------

_ATTRIBUTE: Final = re.compile(r'\b([\w.-]{1,40})="([^"]{0,2000})"')
_HEAD_CHARS: Final = 4_000
"""Of a test case, where its name is looked for."""


def _junit(text: str) -> Tally | None:
    """By hand and not by a parser of XML: the text is the work's, and an entity in it may not grow in here."""
    if "<testsuite" not in text:
        return None
    passed = skipped = 0
    failing: list[str] = []
    for case in text.split("<testcase")[1:]:
        head, closed, rest = case.partition(">")
        inside = "" if head.endswith("/") or not closed else rest.partition("</testcase>")[0]
        named = dict(_ATTRIBUTE.findall(head[:_HEAD_CHARS]))
        if "<failure" in inside or "<error" in inside:
            failing.append(f"{named.get('classname', '')}.{named.get('name', '')}".strip("."))
        elif "<skipped" in inside:
            skipped += 1
        else:
            passed += 1
    return Tally("JUnit", passed, len(failing), skipped, frozenset(failing))


_READERS: Final[Iterable[Callable[[str], Tally | None]]] = (_pytest, _unittest, _cargo, _node, _go, _junit, _tap)
