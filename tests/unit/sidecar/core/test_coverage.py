import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.core.coverage import Coverage, is_lower, left_out, reported, said
from sidecar.core.diff import Change

GO = """mode: set
example.org/a/a.go:3.13,5.2 2 1
example.org/a/a.go:7.13,9.2 3 0
example.org/a/a.go:7.13,9.2 3 1
example.org/a/b.go:1.1,2.2 5 0
"""
JACOCO = (
    '<?xml version="1.0"?><report name="x"><package name="a"><counter type="LINE" missed="1" covered="1"/></package>'
    '<counter type="INSTRUCTION" missed="9" covered="1"/><counter type="LINE" missed="3" covered="9"/></report>'
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What coverage.py writes and says of ten statements of which it has run seven."""
    folder = tmp_path_factory.mktemp("measured")
    body = "\n".join(f"    y = {number}" for number in range(3))
    (folder / "a.py").write_text(f"import os\nx = 1\nz = 2\nw = 3\nv = 4\nu = 5\nif x == 2:\n{body}\n")
    written = {}
    for command in (("run", "a.py"), ("xml",), ("json",), ("lcov",), ("report",)):
        ran = subprocess.run(
            [sys.executable, "-m", "coverage", *command], cwd=folder, check=True, capture_output=True, text=True
        )
        written[command[0]] = ran.stdout
    files = {"xml": "coverage.xml", "json": "coverage.json", "lcov": "coverage.lcov"}
    return written | {name: Path(folder, file).read_text() for name, file in files.items()}


@pytest.mark.parametrize("kind", ["xml", "json", "lcov"])
def test_the_reports_of_a_real_tool_are_understood(measured: dict[str, str], kind: str) -> None:
    assert reported(measured[kind]) == Coverage(70.0, 10)


def test_the_words_of_a_real_tool_are_understood(measured: dict[str, str]) -> None:
    assert said(measured["report"]) == Coverage(70.0)


@pytest.mark.parametrize(
    "text, found",
    [
        (GO, Coverage(50.0, 10)),
        (JACOCO, Coverage(75.0, 12)),
        ('{"total": {"lines": {"total": 8, "covered": 6, "pct": 75}}}', Coverage(75.0, 8)),
        ('<coverage line-rate="0.5" branch-rate="1">', Coverage(50.0)),
        ('<coverage line-rate="5">', None),
        ('<coverage lines-valid="0" lines-covered="0">', None),
        ("LF:0\nLH:0\n", None),
        ("LF:1\nLH:2\n", None),
        ('{"totals": {"covered_lines": "7"}}', None),
        ("[" * 100_000, None),
        ("", None),
        ("all is covered", None),
    ],
)
def test_reports_are_understood_or_count_for_nothing(text: str, found: Coverage | None) -> None:
    assert reported(text) == found


@pytest.mark.parametrize(
    "text, percent",
    [
        ("TOTAL      120     12    90%\n\n12 passed in 0.1s\n", 90.0),
        ("All files |   83.3 |    50 |   66.67 |   81.25 |\n", 81.25),
        ("ok  \texample.org/a\t0.1s\tcoverage: 83.2% of statements\n", 83.2),
        ("example.org/a/a.go:3:\tf\t100.0%\ntotal:\t(statements)\t66.7%\n", 66.7),
        ("83.33% coverage, 10/12 lines covered\n", 83.33),
        ("TOTAL 1 0 10%\nTOTAL 1 0 20%\n", 20.0),
        ("the TOTAL is 90%\n", None),
    ],
)
def test_what_commands_say_is_understood_and_the_last_word_counts(text: str, percent: float | None) -> None:
    assert said(text) == (None if percent is None else Coverage(percent))


def test_lower_is_more_than_tools_round_away() -> None:
    assert not is_lower(Coverage(66.666), Coverage(66.67), 0.0)
    assert is_lower(Coverage(66.6), Coverage(66.67), 0.0)
    assert not is_lower(Coverage(66.6), Coverage(67.6), 1.0)


@pytest.mark.parametrize(
    "change, reason",
    [
        (Change("a.py", ((3, "x()  # pragma: no cover"),)), "code is left out of the count at a.py:3"),
        (Change("a.js", ((1, "/* istanbul ignore next */"),)), "code is left out of the count at a.js:1"),
        (Change("a.cpp", ((9, "// LCOV_EXCL_START"),)), "code is left out of the count at a.cpp:9"),
        (Change("sub/.coveragerc", ((1, "x"),)), "sub/.coveragerc decides what is counted, and was changed"),
        (Change("setup.cfg", ((1, "omit = a.py"),)), "setup.cfg was changed where it is about coverage"),
        (Change("setup.cfg", ((1, "version = 2"),)), ""),
        (Change("a.py", ((1, "x = 1"),), ("y()  # pragma: no cover",)), ""),
    ],
)
def test_what_the_work_leaves_out_of_the_count_is_told(change: Change, reason: str) -> None:
    assert left_out([change], ()) == ((reason,) if reason else ())
    assert left_out([change], ("*",)) == ()
