"""The promise of the risk: what touches something special, is large, or cannot be seen, waits for a person."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.risk import FileChange, judge
from protocol.pulls import MAX_REASONS, RISK_ORDER, PullRules, Risk

RULES = PullRules(protected=("src/auth/", "*.lock.py"))
SMALL = FileChange("src/calc.py", added=3, removed=1)


def test_a_small_change_that_was_verified_is_low() -> None:
    assert judge([SMALL, FileChange("tests/test_calc.py", added=9)], RULES) == (Risk.LOW, ())


@pytest.mark.parametrize(
    "change, risk, reason",
    [
        (FileChange("src/auth/login.py", added=1), Risk.HIGH, "changes protected paths: src/auth/login.py"),
        (FileChange("deep/down/x.lock.py", added=1), Risk.HIGH, "changes protected paths: deep/down/x.lock.py"),
        (FileChange("ok.py", was="src/auth/login.py"), Risk.HIGH, "changes protected paths: src/auth/login.py"),
        (FileChange(".github/workflows/x.yml", added=1), Risk.HIGH, "changes pipelines of the forge"),
        (FileChange(".GitHub/workflows/x.yml", added=1), Risk.HIGH, "changes pipelines of the forge"),
        (FileChange(".forgejo/workflows/x.yml", added=1), Risk.HIGH, "changes pipelines of the forge"),
        (FileChange("sub/Jenkinsfile", added=1), Risk.HIGH, "changes pipelines of the forge"),
        (FileChange("docs/CODEOWNERS", added=1), Risk.HIGH, "changes rules of the repository: docs/CODEOWNERS"),
        (FileChange("a/.gitattributes", added=1), Risk.HIGH, "changes rules of the repository: a/.gitattributes"),
        (FileChange("a/.env.production", added=1), Risk.HIGH, "changes files that hold secrets: a/.env.production"),
        (FileChange("server.PEM", added=1), Risk.HIGH, "changes files that hold secrets: server.PEM"),
        (FileChange("web/package-lock.json", added=1), Risk.MEDIUM, "changes dependencies: web/package-lock.json"),
        (FileChange("requirements/dev.txt", added=1), Risk.MEDIUM, "changes dependencies: requirements/dev.txt"),
        (FileChange("go.sum", added=1), Risk.MEDIUM, "changes dependencies: go.sum"),
        (FileChange("vendor/x/y.go", added=1), Risk.MEDIUM, "changes dependencies: vendor/x/y.go"),
        (FileChange("Makefile", added=1), Risk.MEDIUM, "changes how it is built or run"),
        (FileChange("app/migrations/0004.py", added=1), Risk.MEDIUM, "changes how it is built or run"),
        (FileChange("old.py", removed=10, is_gone=True), Risk.MEDIUM, "removes files: old.py"),
        (FileChange("logo.png", is_opaque=True), Risk.MEDIUM, "changes files that are no text: logo.png"),
    ],
)  # fmt: skip
def test_what_a_change_touches_decides(change: FileChange, risk: Risk, reason: str) -> None:
    found = judge([SMALL, change], RULES)

    assert found.risk is risk
    assert any(each.startswith(reason) for each in found.reasons)


@pytest.mark.parametrize(
    "added, removed, files, risk",
    [
        (400, 0, 1, Risk.LOW),
        (401, 0, 1, Risk.MEDIUM),
        (2_001, 0, 1, Risk.HIGH),
        (1, 0, 20, Risk.LOW),
        (1, 0, 21, Risk.MEDIUM),
        (1, 0, 101, Risk.HIGH),
        (0, 101, 1, Risk.MEDIUM),
        (60, 100, 1, Risk.LOW),
    ],
)
def test_how_much_changes_decides(added: int, removed: int, files: int, risk: Risk) -> None:
    each = [FileChange(f"src/f{number}.py", added=1) for number in range(1, files)]

    assert judge([FileChange("src/f0.py", added=added, removed=removed), *each], RULES).risk is risk


def test_what_nobody_has_seen_or_proven_is_high() -> None:
    assert judge([SMALL], RULES, is_whole=False) == (Risk.HIGH, ("it changes more files than the forge lists",))
    assert judge([SMALL], RULES, verified=None) == (Risk.HIGH, ("no check has looked at it",))
    assert judge([SMALL], RULES, verified=False) == (Risk.HIGH, ("its checks did not pass",))
    assert judge([SMALL], RULES, also="it has moved") == (Risk.HIGH, ("it has moved",))
    assert judge([], RULES) == (Risk.MEDIUM, ("it changes no file",))


@given(
    st.lists(
        st.builds(
            FileChange,
            st.sampled_from(["a.py", "go.mod", ".github/x", "src/auth/x", "b/c/d.txt"]),
            added=st.integers(0, 3_000),
            removed=st.integers(0, 3_000),
            is_gone=st.booleans(),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_more_of_a_change_is_never_less_risky(files: list[FileChange]) -> None:
    whole, part = judge(files, RULES), judge(files[:-1], RULES)

    assert RISK_ORDER[whole.risk] >= (RISK_ORDER[part.risk] if len(files) > 1 and _alone(files) else 0)
    assert len(whole.reasons) <= MAX_REASONS
    assert (whole.risk is Risk.LOW) == (whole.reasons == ())


def _alone(files: list[FileChange]) -> bool:
    """The last file does not balance what the others remove."""
    return files[-1].added == 0


def test_a_reason_names_a_few_files_and_counts_the_others() -> None:
    files = [FileChange(f"src/auth/{number}.py", added=1) for number in range(5)]

    assert judge(files, RULES).reasons == (
        "changes protected paths: src/auth/0.py, src/auth/1.py, src/auth/2.py and 2 more",
    )
