"""Judge a test command by more than its exit code: did tests run, as many as before the work, and the same ones?

Pure. A command that exits 0 because a test was deleted, skipped or never collected proves nothing, so what it says is
compared with what the same command said at the commit that the work began from, and the tests that the work itself has
changed are named. Facts about how agents make tests pass: decision 0016.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.checks import CheckTestPasses
from sidecar.core.diff import Change, matches
from sidecar.core.shadows import GLOBS, shadowed
from sidecar.core.tallies import Tally

_SHOWN: Final = 5
FEW: Final = 10
"""Failing tests up to which a run is repeated: more than that is no test that fails now and then."""

TESTS: Final = (
    "test_*.py", "*_test.py", "tests.py", "**/tests/**", "**/test/**", "**/__tests__/**", "*_test.go",
    "*.test.js", "*.test.ts", "*.test.jsx", "*.test.tsx", "*.test.mjs", "*.spec.js", "*.spec.ts", "*_spec.rb",
    "*Test.java", "*Tests.cs",
)  # fmt: skip
"""Where tests are, in the languages whose runners are understood."""

SETTINGS: Final = (
    "conftest.py", "pytest.ini", ".pytest.ini", "tox.ini",
    ".gitattributes", "jest.config.*", "vitest.config.*", "karma.conf.*", ".mocharc.*", "nextest.toml",
)  # fmt: skip
"""What can make a runner leave tests out; every project may have its own."""

SHADOWS: Final = (
    "sitecustomize.py", "usercustomize.py", "*.pth", "pytest.py", "_pytest/**", "pluggy.py", "unittest.py",
    "unittest/**", "**/node_modules/.bin/*",
)  # fmt: skip
"""What takes the place of the runner, or gets in before it: no honest work needs that."""

_MIXED: Final = ("pyproject.toml", "setup.cfg", "package.json", "Cargo.toml", "Makefile", "justfile")
_FOREIGN: Final = frozenset({"node_modules", "site-packages"})
"""Folders of installed packages, which hold settings of their own."""
_ALWAYS: Final = frozenset({"sitecustomize.py", "usercustomize.py"})
_BY_NAME: Final = tuple(
    pattern if "/" in pattern else f"**/{pattern}"
    for pattern in (*SETTINGS, *SHADOWS, *_MIXED)
    if pattern != "*.pth"  # counts only among installed packages; elsewhere it is the name of weights of models
)
STEERING: Final = (*_BY_NAME, *GLOBS)
"""Files that count even where git ignores them, as patterns of git; :func:`steers` has the last word."""
_ABOUT_TESTS: Final = re.compile(
    r"pytest|testpaths|addopts|python_(?:files|classes|functions)|deselect|norecursedirs|unittest|jest|vitest|mocha"
    r"|\btests?\b",
    re.IGNORECASE,
)
_SKIPS: Final = re.compile(
    r"\bpytest\.(?:mark\.)?(?:skip|skipif|xfail|importorskip)\b|\bunittest\.(?:skip\w*|expectedFailure)\b"
    r"|\bself\.skipTest\(|\bcollect_ignore|\bt\.Skip(?:f|Now)?\(|#\[ignore|\b(?:it|test|describe)\.(?:skip|only|todo)\b|\bx(?:it|describe)\("
    r"|@(?:Disabled|Ignore)\b"
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """``passed``, and why, for people and for the next iteration; ``may_be_flaky``: worth another run.

    ``doubtful``: the command says that all is well, and only what the work has changed of its proof speaks against it.
    """

    passed: bool
    detail: str = ""
    may_be_flaky: bool = False
    doubtful: bool = False


def judge(check: CheckTestPasses, exit_code: int | None, now: Tally | None, before: Tally | None) -> Judgement:
    """What a finished run of a test command is worth.

    Args:
        check: says what is allowed.
        exit_code: of the command; ``None`` if it was ended.
        now: what it said about its tests, ``None`` if that was not understood.
        before: the same at the commit that the work began from; ``None`` if that is not known.
    """
    if now is None:
        silent = exit_code == 0 and before is not None and before.ran > 0
        detail = f"it says nothing about its tests any more; before the work: {before}" if silent else ""
        return Judgement(exit_code == 0 and not silent, detail, doubtful=silent)
    if now.ran == 0 and exit_code == 0:
        skipped = f", {now.skipped} were skipped" if now.skipped else ""
        had_some = before is not None and before.ran > 0
        return Judgement(passed=False, detail=f"no test ran{skipped}", doubtful=had_some)
    if before is not None and (fewer := _fewer(now, before)):
        return Judgement(passed=False, detail=fewer, doubtful=exit_code == 0)
    if exit_code == 0:
        return Judgement(passed=True, detail=str(now))
    old = before.failing if before is not None else frozenset()
    new = now.failing - old
    is_old = bool(old) and not new and len(now.failing) >= now.failed > 0
    if is_old and check.old_failures:
        return Judgement(passed=True, detail=f"{now}; these failed before the work, too: {_some(now.failing)}")
    detail = str(now)
    detail += f"; fails since the work: {_some(new)}" if new and before is not None else ""
    detail += f"; failed before the work, too: {_some(now.failing & old)}" if now.failing & old else ""
    return Judgement(passed=False, detail=detail, may_be_flaky=0 < len(new) <= FEW)


def uncompared(judgement: Judgement) -> Judgement:
    """The same of a run that passed while the one before the work had not ended when its time was up."""
    why = "what it said before the work is not known: it had not ended there when its time was up"
    detail = f"{judgement.detail}; {why}" if judgement.detail else why
    return Judgement(passed=False, detail=detail, doubtful=True)


def _fewer(now: Tally, before: Tally) -> str:
    """How these are other or fewer tests than before the work, empty if they are not."""
    if before.runner != now.runner:
        return f"{now.runner} speaks, before the work it was {before.runner}" if before.ran else ""
    said = []
    if now.ran < before.ran:
        said.append(f"{now.ran} tests ran, {before.ran} before the work")
    if now.skipped > before.skipped:
        said.append(f"{now.skipped} were skipped, {before.skipped} before the work")
    return "; ".join(said)


def steers(path: str, *, is_link: bool) -> bool:
    """Whether a file that git ignores may decide what tests do.

    Installed packages bring settings that decide nothing here; there only what every interpreter reads counts, and a
    program of ``node_modules/.bin`` that is no link to a package.
    """
    folders = set(path.split("/")[:-1])
    if path.endswith("/"):
        return True
    if not folders & _FOREIGN:
        return bool(matches(path, _BY_NAME) or shadowed(path))
    return path.rpartition("/")[2] in _ALWAYS or ("/.bin/" in f"/{path}" and not is_link)


def tampering(check: CheckTestPasses, changes: Sequence[Change], *, has_base: bool = True) -> tuple[str, ...]:
    """What the work has changed of the tests that are to prove it, one reason each, without what ``may_edit`` allows.

    New test files, and lines added to old ones, are what good work does: they count only where they skip something.
    Work that begins with nothing (not ``has_base``) makes its own settings, too.
    """
    judged = (change for change in changes if not matches(change.path, check.may_edit))
    return tuple(reason for change in judged for reason in _reasons(change, check.command, has_base=has_base))


def _reasons(change: Change, command: str, *, has_base: bool) -> Iterator[str]:
    path = change.path
    name = path.rpartition("/")[2]
    if reason := _in_the_way(change, command, has_base=has_base):
        yield reason
    elif not has_base and (name in _MIXED or matches(path, SETTINGS)):
        return
    elif matches(path, SETTINGS):
        yield f"{path} decides which tests run, and was {_verb(change)}"
    elif name in _MIXED:
        lines = [*change.removed, *(line for _, line in change.added)]
        if any(_ABOUT_TESTS.search(line) for line in lines):
            yield f"{path} was {_verb(change)} where it is about tests"
    elif not change.is_new and path in {word.removeprefix("./") for word in command.split()}:
        yield f"{path} is what the command runs, and was {_verb(change)}"
    elif matches(path, TESTS):
        if change.is_gone or change.removed or (change.is_opaque and not change.is_new):
            yield f"{path} was {_verb(change)}"
        skips = [f"{path}:{number}" for number, line in change.added if _SKIPS.search(line)]
        if skips:
            yield f"tests are left out at {_some(skips)}"


def _in_the_way(change: Change, command: str, *, has_base: bool) -> str:
    """How a change gets in before the runner, empty if it does not."""
    if matches(change.path, SHADOWS):
        return f"{change.path} decides which tests run, and was {_verb(change)}"
    module = shadowed(change.path, command, only_runners=not has_base) if change.is_new else ""
    return f"{change.path} takes the place of the module {module}, and was added" if module else ""


_CHECKING: Final = re.compile(
    r"(?:^|[._-])(?:checks?|tests?|verify|verification|validate|lint|ci|spec)(?:[._-]|$)", re.IGNORECASE
)
_BUILDERS: Final = {
    "make": ("Makefile", "makefile", "GNUmakefile"),
    "just": ("justfile", "Justfile"),
    **dict.fromkeys(("npm", "yarn", "pnpm", "bun"), ("package.json",)),
}


def relied_on(command: str) -> frozenset[str]:
    """Paths of what a command checks with, as far as its words tell: scripts that are named for it, and build files."""
    words = [word.strip("'\"").removeprefix("./") for word in command.split()]
    named = {word for word in words if _CHECKING.search(word.rpartition("/")[2])}
    builds = {name for word in words if named for name in _BUILDERS.get(word, ())}
    return frozenset(named | builds)


def rewritten(command: str, changes: Sequence[Change], may_edit: Sequence[str]) -> tuple[str, ...]:
    """What the work has changed of what a command checks with, one reason each; what it has made itself is its own."""
    used = relied_on(command)
    return tuple(
        f"{change.path} is what the command checks with, and was {_verb(change)}"
        for change in changes
        if change.path in used and not change.is_new and not matches(change.path, may_edit)
    )


def _verb(change: Change) -> str:
    return "deleted" if change.is_gone else "added" if change.is_new else "changed"


def _some(names: Sequence[str] | frozenset[str]) -> str:
    """The first names, and how many more there are."""
    listed = sorted(names) if isinstance(names, frozenset) else list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return f"{', '.join(listed[:_SHOWN])}{more}"
