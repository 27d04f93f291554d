"""What a task can be checked for: one struct a type, tagged with ``type``. :mod:`protocol.schema` looks at sizes.

A check is data and is frozen with the spec at submission: the work may read it, and cannot change what the hub keeps.
Who runs it is ``sidecar/checks``.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

GENERATION_2: Final = "checks:2"
"""Capability of a sidecar that knows more than the first four types of checks."""

GENERATION_3: Final = "checks:3"
"""Capability of a sidecar that also knows ``no_secrets``, and what a command may check with although it changed."""

GENERATION_4: Final = "checks:4"
"""Capability of a sidecar that names the checks it has run in every report (:func:`digest_of`)."""


class CheckBase(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="type"):
    """What every check may say about itself."""

    name: str = ""
    timeout_s: float | None = None


class CheckFileExists(CheckBase, frozen=True, kw_only=True, tag="file_exists"):
    """Passes if ``path`` (relative to the workspace) is there after the work."""

    path: str


class CheckFileAbsent(CheckBase, frozen=True, kw_only=True, tag="file_absent"):
    """Passes if nothing is at ``path`` (relative to the workspace) after the work, not even a link."""

    path: str


class CheckFileContains(CheckBase, frozen=True, kw_only=True, tag="file_contains"):
    """Passes if the file at ``path`` holds ``text``, and if a line of it matches ``pattern`` (a regular expression)."""

    path: str
    text: str = ""
    pattern: str = ""


class CheckJsonSchema(CheckBase, frozen=True, kw_only=True, tag="json_schema"):
    """Passes if the file at ``path`` is JSON that fits ``schema`` (JSON Schema 2020-12 unless it names another)."""

    path: str
    schema: dict[str, Any]


class CheckTestPasses(CheckBase, frozen=True, kw_only=True, tag="test_passes"):
    """Passes if the test ``command`` exits 0, and what it says about its tests is no worse than before the work."""

    command: str
    may_edit: tuple[str, ...] = ()
    """Tests and settings of tests that the work is asked to change, as patterns like ``tests/**``."""
    old_failures: bool = False
    """Whether tests may fail that failed before the work, too."""


class CheckGitClean(CheckBase, frozen=True, kw_only=True, tag="git_clean"):
    """Passes if the workspace has no change that is not committed."""


class CheckCommandSucceeds(CheckBase, frozen=True, kw_only=True, tag="command_succeeds"):
    """Passes if ``command`` exits 0, and the work has not changed what it checks with."""

    command: str
    may_edit: tuple[str, ...] = ()
    """Scripts and build files that the command checks with and that the work is asked to change, as patterns."""


class CheckNoPlaceholders(CheckBase, frozen=True, kw_only=True, tag="no_placeholders"):
    """Passes if the work has added no line that puts the work off (TODO, PLACEHOLDER, an empty function)."""

    ignore: tuple[str, ...] = ()
    """Paths that are not looked at, as patterns like ``docs/**``."""


class CheckDiffLimits(CheckBase, frozen=True, kw_only=True, tag="diff_limits"):
    """Passes if the work has changed no more than this; what is left out has no limit."""

    max_files: int | None = None
    max_added: int | None = None
    """Lines that were not there before."""
    max_removed: int | None = None
    """Lines that are no longer there."""


class CheckProtectedPaths(CheckBase, frozen=True, kw_only=True, tag="protected_paths"):
    """Passes if the work has changed nothing at ``paths``, patterns like ``.github/**`` or ``*.lock``."""

    paths: tuple[str, ...]


class CheckNoSecrets(CheckBase, frozen=True, kw_only=True, tag="no_secrets"):
    """Passes if the work has added no line that holds a secret: a token or key of a known shape, a private key."""

    ignore: tuple[str, ...] = ()
    """Paths that are not looked at, as patterns like ``tests/fixtures/**``."""


Check = (
    CheckFileExists
    | CheckFileAbsent
    | CheckFileContains
    | CheckJsonSchema
    | CheckTestPasses
    | CheckGitClean
    | CheckCommandSucceeds
    | CheckNoPlaceholders
    | CheckDiffLimits
    | CheckProtectedPaths
    | CheckNoSecrets
)


def digest_of(checks: Sequence[Check]) -> str:
    """SHA-256 of checks as they are frozen: equal checks in equal order, equal text; empty for none."""
    return hashlib.sha256(msgspec.json.encode(checks, order="sorted")).hexdigest() if checks else ""


def capability_for(checks: Sequence[Check]) -> str:
    """The capability that a sidecar needs to run these checks, empty for those that every sidecar knows."""
    wanted = ""
    for check in checks:
        match check:
            case CheckFileExists() | CheckGitClean() | CheckCommandSucceeds(may_edit=()):
                continue
            case CheckCommandSucceeds() | CheckNoSecrets():
                return GENERATION_3  # who knows these knows all
            case CheckTestPasses(may_edit=(), old_failures=False):
                continue
            case _:
                wanted = GENERATION_2
    return wanted
