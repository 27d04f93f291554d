"""What a task can be checked for: one struct a type, tagged with ``type``. :mod:`protocol.schema` looks at sizes.

A check is data and is frozen with the spec at submission: the work may read it, and cannot change what the hub keeps.
Who runs it is ``sidecar/checks``.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from protocol.bounds import Few, Free, Measure, Text, Whole, Word

GENERATION_2: Final = "checks:2"
"""Capability of a sidecar that knows more than the first four types of checks."""

GENERATION_3: Final = "checks:3"
"""Capability of a sidecar that also knows ``no_secrets``, and what a command may check with although it changed."""

GENERATION_4: Final = "checks:4"
"""Capability of a sidecar that knows all of these types, and names in every report the checks that it has run
(:func:`digest_of`)."""

OPENS_PORTS: Final = "checks:http"
"""Capability of a sidecar whose sandbox lets a program be a server to itself: ``http_ok`` needs that."""

PLUGIN: Final = "checks:plugin:"
"""Capability of a sidecar that has a plug-in, with its name behind it."""

JUDGE: Final = "checks:judge"
"""Capability of a sidecar that can ask a model what it thinks of work."""


class CheckBase(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="type"):
    """What every check may say about itself."""

    name: Word = ""
    timeout_s: Measure | None = None


class CheckFileExists(CheckBase, frozen=True, kw_only=True, tag="file_exists"):
    """Passes if ``path`` (relative to the workspace) is there after the work."""

    path: Word


class CheckFileAbsent(CheckBase, frozen=True, kw_only=True, tag="file_absent"):
    """Passes if nothing is at ``path`` (relative to the workspace) after the work, not even a link."""

    path: Word


class CheckFileContains(CheckBase, frozen=True, kw_only=True, tag="file_contains"):
    """Passes if the file at ``path`` holds ``text``, and if a line of it matches ``pattern`` (a regular expression)."""

    path: Word
    text: Text = ""
    pattern: Text = ""


class CheckJsonSchema(CheckBase, frozen=True, kw_only=True, tag="json_schema"):
    """Passes if the file at ``path`` is JSON that fits ``schema`` (JSON Schema 2020-12 unless it names another)."""

    path: Word
    schema: Free


class CheckTestPasses(CheckBase, frozen=True, kw_only=True, tag="test_passes"):
    """Passes if the test ``command`` exits 0, and what it says about its tests is no worse than before the work."""

    command: Text
    may_edit: Few[Word] = ()
    """Tests and settings of tests that the work is asked to change, as patterns like ``tests/**``."""
    old_failures: bool = False
    """Whether tests may fail that failed before the work, too."""


class CheckGitClean(CheckBase, frozen=True, kw_only=True, tag="git_clean"):
    """Passes if the workspace has no change that is not committed."""


class CheckCommandSucceeds(CheckBase, frozen=True, kw_only=True, tag="command_succeeds"):
    """Passes if ``command`` exits 0, and the work has not changed what it checks with."""

    command: Text
    may_edit: Few[Word] = ()
    """Scripts and build files that the command checks with and that the work is asked to change, as patterns."""


class CheckNoPlaceholders(CheckBase, frozen=True, kw_only=True, tag="no_placeholders"):
    """Passes if the work has added no line that puts the work off (TODO, PLACEHOLDER, an empty function)."""

    ignore: Few[Word] = ()
    """Paths that are not looked at, as patterns like ``docs/**``."""


class CheckDiffLimits(CheckBase, frozen=True, kw_only=True, tag="diff_limits"):
    """Passes if the work has changed no more than this; what is left out has no limit."""

    max_files: Whole | None = None
    max_added: Whole | None = None
    """Lines that were not there before."""
    max_removed: Whole | None = None
    """Lines that are no longer there."""


class CheckProtectedPaths(CheckBase, frozen=True, kw_only=True, tag="protected_paths"):
    """Passes if the work has changed nothing at ``paths``, patterns like ``.github/**`` or ``*.lock``."""

    paths: Few[Word]


class CheckNoSecrets(CheckBase, frozen=True, kw_only=True, tag="no_secrets"):
    """Passes if the work has added no line that holds a secret: a token or key of a known shape, a private key."""

    ignore: Few[Word] = ()
    """Paths that are not looked at, as patterns like ``tests/fixtures/**``."""


class CheckHttpOk(CheckBase, frozen=True, kw_only=True, tag="http_ok"):
    """Passes if the server that ``command`` starts answers a GET of ``url`` in time, where nobody else reaches it."""

    command: Text
    url: Word
    """``http://`` with this machine: ``localhost``, ``127.0.0.1`` or ``[::1]``."""
    status: Whole = 200
    text: Text = ""
    """What has to be in the answer."""


class CheckCoverageNotLower(CheckBase, frozen=True, kw_only=True, tag="coverage_not_lower"):
    """Passes if ``command`` exits 0 and its tests run no smaller part of the code than they did before the work."""

    command: Text
    report: Word = ""
    """File that the command writes (relative to the workspace); without one, what it says counts."""
    may_drop: Measure = 0.0
    """Percent by which it may be lower."""
    may_edit: Few[Word] = ()
    """Files where the work may change what is counted, as patterns like ``src/generated/**``."""


class CheckPlugin(CheckBase, frozen=True, kw_only=True, tag="plugin"):
    """Passes if a program says so that the owner of the sidecar's host has given this name."""

    plugin: Word
    settings: Free = {}
    """What the program is told besides the change, as it likes."""


class CheckJudge(CheckBase, frozen=True, kw_only=True, tag="judge"):
    """Passes if another model than the one that did the work says so; asked only when all other checks have passed."""

    question: Text


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
    | CheckHttpOk
    | CheckCoverageNotLower
    | CheckPlugin
    | CheckJudge
)


def digest_of(checks: Sequence[Check]) -> str:
    """SHA-256 of checks as they are frozen: equal checks in equal order, equal text; empty for none."""
    if not checks:
        return ""
    import hashlib  # loads a library of the system, which a command that starts does without

    return hashlib.sha256(msgspec.json.encode(checks, order="sorted")).hexdigest()


def mechanical(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Those that ask no model."""
    return tuple(check for check in checks if not isinstance(check, CheckJudge))


def capabilities_for(checks: Sequence[Check]) -> tuple[str, ...]:
    """The capabilities that a sidecar needs to run these checks, none for those that every sidecar knows."""
    generation, more = "", set[str]()
    for check in checks:
        match check:
            case CheckHttpOk():
                more.add(OPENS_PORTS)
            case CheckPlugin():
                more.add(PLUGIN + check.plugin)
            case CheckJudge():
                more.add(JUDGE)
            case _:
                pass
        generation = max(generation, _generation(check))  # who knows a later one knows all before
    return (*([generation] if generation else ()), *sorted(more))


def _generation(check: Check) -> str:
    match check:
        case CheckFileExists() | CheckGitClean() | CheckCommandSucceeds(may_edit=()):
            return ""
        case CheckTestPasses(may_edit=(), old_failures=False):
            return ""
        case CheckHttpOk() | CheckCoverageNotLower() | CheckPlugin() | CheckJudge():
            return GENERATION_4
        case CheckCommandSucceeds() | CheckNoSecrets():
            return GENERATION_3
        case _:
            return GENERATION_2
