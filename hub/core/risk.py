"""How risky a change looks, by what it touches: a tier, and the reasons for it.

Pure. It looks at names and numbers, never at what the change does: that is for checks and for people. What it cannot
see counts as risky. The list of files comes from the forge, which has the commits; the caller is
``hub/services/pulls.py``.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from protocol.patterns import matches
from protocol.pulls import MAX_REASONS, RISK_ORDER, PullRules, Risk

MANY_TIMES: Final = 5
"""So many times the size that a project calls large is high risk by itself."""
_SHOWN: Final = 3
"""Paths that a reason names."""

PIPELINES: Final = (
    ".github/",
    ".forgejo/",
    ".gitea/",
    ".circleci/",
    ".buildkite/",
    ".woodpecker/",
    ".gitlab-ci.yml",
    ".travis.yml",
    ".drone.yml",
    ".woodpecker.yml",
    "appveyor.yml",
    "azure-pipelines.yml",
    "bitbucket-pipelines.yml",
    "Jenkinsfile",
)
"""They run with the rights of the forge."""
CONTROLS: Final = ("CODEOWNERS", ".gitattributes", ".gitmodules", ".mailmap", ".pre-commit-config.yaml", ".husky/")
"""They decide who may do what, and what git does."""
SECRETS: Final = (
    ".env",
    ".env.*",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "id_rsa",
    "id_ed25519",
    ".netrc",
    ".npmrc",
    ".pypirc",
)
DEPENDENCIES: Final = (
    "package.json",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "bun.lock*",
    "requirements*.txt",
    "requirements/",
    "constraints*.txt",
    "pyproject.toml",
    "setup.py",
    "setup.cfg",
    "Pipfile",
    "Pipfile.lock",
    "poetry.lock",
    "uv.lock",
    "go.mod",
    "go.sum",
    "Cargo.toml",
    "Cargo.lock",
    "Gemfile",
    "Gemfile.lock",
    "*.gemspec",
    "composer.json",
    "composer.lock",
    "pom.xml",
    "build.gradle",
    "build.gradle.kts",
    "gradle.lockfile",
    "*.csproj",
    "packages.lock.json",
    "mix.exs",
    "mix.lock",
    "flake.lock",
    "vendor/",
    "node_modules/",
)
"""They bring other people's code."""
BUILDS: Final = (
    "Dockerfile*",
    "Containerfile*",
    "docker-compose*.y*ml",
    "compose*.y*ml",
    "Makefile",
    "CMakeLists.txt",
    "build.rs",
    "*.tf",
    "*.service",
    "**/migrations/**",
)
"""They decide how it is built and run, and what becomes of stored data."""


class FileChange(NamedTuple):
    """What became of a file: ``was`` is its path before, if it was renamed; lines that came and went."""

    path: str
    was: str = ""
    added: int = 0
    removed: int = 0
    is_gone: bool = False
    is_opaque: bool = False
    """It has changed, and no line of it: it is no text."""


class Judgement(NamedTuple):
    """The tier, and why, the gravest reason first; no reason: it is small and touches nothing special."""

    risk: Risk
    reasons: tuple[str, ...]


def judge(
    files: Sequence[FileChange],
    rules: PullRules,
    *,
    is_whole: bool = True,
    verified: bool | None = True,
    also: str = "",
) -> Judgement:
    """How risky a change looks.

    Args:
        files: what it does to each file.
        rules: of its project.
        is_whole: ``files`` are all of them.
        verified: what checks have said about it; ``None``: there were none.
        also: something else that is wrong with it, in a few words.
    """
    found = [*_proof(verified, also, is_whole=is_whole), *_paths(files, rules), *_size(files, rules)]
    found.sort(key=lambda each: -RISK_ORDER[each[0]])  # stable: in the order in which they were looked for
    risk = found[0][0] if found else Risk.LOW
    return Judgement(risk, tuple(reason for _, reason in found[:MAX_REASONS]))


_Found = Iterator[tuple[Risk, str]]


def _proof(verified: bool | None, also: str, *, is_whole: bool) -> _Found:  # noqa: FBT001 - the field of a result
    if verified is None:
        yield Risk.HIGH, "no check has looked at it"
    elif not verified:
        yield Risk.HIGH, "its checks did not pass"
    if also:
        yield Risk.HIGH, also
    if not is_whole:
        yield Risk.HIGH, "it changes more files than the forge lists"


def _paths(files: Sequence[FileChange], rules: PullRules) -> _Found:
    kinds = (
        (Risk.HIGH, "protected paths", rules.protected),
        (Risk.HIGH, "pipelines of the forge", PIPELINES),
        (Risk.HIGH, "rules of the repository", CONTROLS),
        (Risk.HIGH, "files that hold secrets", SECRETS),
        (Risk.MEDIUM, "dependencies", DEPENDENCIES),
        (Risk.MEDIUM, "how it is built or run", BUILDS),
    )
    touched = list(dict.fromkeys(path for file in files for path in (file.path, file.was) if path))
    for risk, what, patterns in kinds:
        # Whether letters are large says nothing: some disks and some tools do not look at it.
        lowered = [pattern.lower() for pattern in patterns]
        if names := [path for path in touched if matches(path.lower(), lowered)]:
            yield risk, f"changes {what}: {_named(names)}"
    if opaque := [file.path for file in files if file.is_opaque and not file.is_gone]:
        yield Risk.MEDIUM, f"changes files that are no text: {_named(opaque)}"
    if gone := [file.path for file in files if file.is_gone]:
        yield Risk.MEDIUM, f"removes files: {_named(gone)}"


def _size(files: Sequence[FileChange], rules: PullRules) -> _Found:
    added, removed = sum(file.added for file in files), sum(file.removed for file in files)
    lines = added + removed
    for count, most, unit in ((lines, rules.most_lines, "lines"), (len(files), rules.most_files, "files")):
        if count > most * MANY_TIMES:
            yield Risk.HIGH, f"changes {count:,} {unit}, far more than {most:,}"
        elif count > most:
            yield Risk.MEDIUM, f"changes {count:,} {unit}, more than {most:,}"
    if removed > max(added, rules.most_lines // 4):
        yield Risk.MEDIUM, f"removes {removed:,} lines and adds {added:,}"
    if not files:
        yield Risk.MEDIUM, "it changes no file"


def _named(paths: Iterable[str]) -> str:
    names = list(paths)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(name[:100] for name in names[:_SHOWN]) + more
