"""Understand how much of the code tests have run, from what tools write or say about it.

Pure. Formats: Cobertura and JaCoCo (XML), LCOV, profiles of Go, JSON of coverage.py and of Istanbul; from output, the
sums of coverage.py, Istanbul, llvm-cov, tarpaulin and ``go test -cover``. The caller is ``sidecar/checks/coverage.py``.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from sidecar.core.diff import Change, matches

TOLERANCE: Final = 0.005
"""Percent that is lost where tools round to two digits."""

SETTINGS: Final = (
    ".coveragerc", ".nycrc", ".nycrc.*", ".c8rc", ".c8rc.*", "tarpaulin.toml", ".tarpaulin.toml", "codecov.yml",
    ".codecov.yml", ".simplecov", ".lcovrc",
)  # fmt: skip
"""What leaves code out of the count."""
_MIXED: Final = (
    "pyproject.toml", "setup.cfg", "tox.ini", "pytest.ini", "package.json", "jest.config.*", "vitest.config.*",
    "Makefile",
)  # fmt: skip
_ABOUT: Final = re.compile(r"coverage|--cov|\bomit\b|exclude_(?:lines|also)|fail_under|\bnyc\b|\bc8\b", re.IGNORECASE)
_LEFT_OUT: Final = re.compile(
    r"pragma:\s*no\s*(?:cover|branch)|(?:istanbul|c8|v8|node:coverage)\s+(?:ignore|disable)|coverage:\s*ignore"
    r"|LCOV_EXCL|GCOVR?_EXCL|cfg\(not\(tarpaulin|coverage\(off\)|ExcludeFromCodeCoverage|jacoco.*Generated|:nocov:"
)


@dataclass(frozen=True, slots=True)
class Coverage:
    """``percent`` of the lines (of statements, where a tool counts those) were run, of ``lines`` if that is told."""

    percent: float
    lines: int | None = None

    def __str__(self) -> str:
        """As people read it."""
        return f"{self.percent:.2f} %" + (f" of {self.lines} lines" if self.lines is not None else "")


def reported(text: str) -> Coverage | None:
    """What a report says, ``None`` if it is none that is understood."""
    return next((found for read in _REPORTS if (found := read(text)) is not None), None)


def said(output: str) -> Coverage | None:
    """What a command says at its end, ``None`` if it says nothing that is understood; the last word counts."""
    found = [(match.start(), float(match[1])) for pattern in _SAID for match in pattern.finditer(output)]
    return Coverage(max(found)[1]) if found else None


def is_lower(now: Coverage, before: Coverage, may_drop: float) -> bool:
    """Whether less is covered than may be."""
    return now.percent + may_drop + TOLERANCE < before.percent


def left_out(changes: Sequence[Change], may_edit: Sequence[str]) -> tuple[str, ...]:
    """Where the work has changed what counts, one reason each."""
    return tuple(reason for change in changes if not matches(change.path, may_edit) for reason in _reasons(change))


def _reasons(change: Change) -> list[str]:
    lines = [*change.removed, *(line for _, line in change.added)]
    if matches(change.path, SETTINGS):
        return [f"{change.path} decides what is counted, and was changed"]
    if matches(change.path, _MIXED) and any(_ABOUT.search(line) for line in lines):
        return [f"{change.path} was changed where it is about coverage"]
    places = [str(number) for number, line in change.added if _LEFT_OUT.search(line)]
    return [f"code is left out of the count at {change.path}:{', '.join(places[:3])}"] if places else []


# --- reports ----------------------------------------------------------------------------------------------------------

_COBERTURA: Final = re.compile(r"<coverage\b([^>]{0,2000})>")
_ATTRIBUTE: Final = re.compile(r'\b([a-z-]{1,30})="([0-9.]{1,20})"')
_JACOCO: Final = re.compile(r'<counter\s+type="LINE"\s+missed="(\d{1,12})"\s+covered="(\d{1,12})"\s*/>')
_GO_BLOCK: Final = re.compile(r"^\S{1,1000}:\d+\.\d+,\d+\.\d+ (\d{1,9}) (\d{1,18})$", re.MULTILINE)
_LCOV: Final = re.compile(r"^(L[FH]):(\d{1,12})\s*$", re.MULTILINE)
_SAID: Final = (
    re.compile(r"^TOTAL\b.{0,200}?(\d{1,3}(?:\.\d{1,10})?)%\s*$", re.MULTILINE),
    re.compile(
        r"^All files\s*\|\s*(?:[\d.]{1,8}\s*\|\s*){2}[\d.]{1,8}\s*\|\s*(\d{1,3}(?:\.\d{1,10})?)\s*\|", re.MULTILINE
    ),
    re.compile(r"^total:\s+\(statements\)\s+(\d{1,3}(?:\.\d{1,10})?)%", re.MULTILINE),
    re.compile(r"^(?:ok\s.{0,500})?coverage: (\d{1,3}(?:\.\d{1,10})?)% of statements", re.MULTILINE),
    re.compile(r"^(\d{1,3}(?:\.\d{1,10})?)% coverage, \d+/\d+ lines covered", re.MULTILINE),
)


def _share(covered: int, lines: int) -> Coverage | None:
    return Coverage(100.0 * covered / lines, lines) if lines > 0 and 0 <= covered <= lines else None


def _cobertura(text: str) -> Coverage | None:
    found = _COBERTURA.search(text)
    if found is None:
        return None
    told = {name: value for name, value in _ATTRIBUTE.findall(found[1]) if value.count(".") <= 1 and value != "."}
    if "lines-valid" in told and "lines-covered" in told:
        return _share(int(float(told["lines-covered"])), int(float(told["lines-valid"])))
    rate = float(told.get("line-rate", "nan"))
    return Coverage(100.0 * rate) if 0 <= rate <= 1 else None


def _jacoco(text: str) -> Coverage | None:
    """The last counter is that of the whole report."""
    found = _JACOCO.findall(text) if "<report" in text else []
    return _share(int(found[-1][1]), int(found[-1][0]) + int(found[-1][1])) if found else None


def _lcov(text: str) -> Coverage | None:
    sums = {"LF": 0, "LH": 0}
    for name, number in _LCOV.findall(text):
        sums[name] += int(number)
    return _share(sums["LH"], sums["LF"])


def _go(text: str) -> Coverage | None:
    if not text.startswith("mode: "):
        return None
    blocks = dict[str, tuple[int, bool]]()
    for found in _GO_BLOCK.finditer(text):  # a block stands there once for each package whose tests could reach it
        place = found[0].partition(" ")[0]
        was_run = int(found[2]) > 0 or blocks.get(place, (0, False))[1]
        blocks[place] = int(found[1]), was_run
    return _share(sum(count for count, was_run in blocks.values() if was_run), sum(n for n, _ in blocks.values()))


def _json(text: str) -> Coverage | None:
    try:
        told = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    coverage_py, istanbul = _at(told, "totals"), _at(told, "total", "lines")
    for counts, covered, lines in ((coverage_py, "covered_lines", "num_statements"), (istanbul, "covered", "total")):
        done, of = _at(counts, covered), _at(counts, lines)
        if type(done) is int and type(of) is int:
            return _share(done, of)
    return None


def _at(value: Any, *names: str) -> Any:  # noqa: ANN401 - any JSON
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


_REPORTS: Final[tuple[Callable[[str], Coverage | None], ...]] = (_go, _json, _cobertura, _jacoco, _lcov)
